"""BLEU, ROUGE-L and CIDEr-D against numbers of the reference implementations, and against themselves if installed."""

import math
import random

import numpy as np
import pytest

from practicum.tasks.text.bleu import bleu
from practicum.tasks.text.cider import cider_d
from practicum.tasks.text.rouge import longest_common_subsequence, rouge_l

# Several lengths and numbers of references, a repeated word, an empty text, one of one word, one that is its reference.
CORPUS = (
    ('a dog runs through the grass',
     ('a brown dog is running through the tall grass', 'the dog runs across a field', 'a dog runs through grass')),
    ('two men are sitting on a bench in the park',
     ('two men sit on a bench', 'a couple of men are sitting on a park bench')),
    ('a little girl in a pink dress climbs the stairs to her wooden playhouse near the old tree',
     ('a girl going into a wooden building', 'a little girl climbing the stairs to her playhouse',
      'a child in a pink dress is climbing up a set of stairs')),
    ('the the the cat', ('the cat is on the mat', 'there is a cat on the mat')),
    ('', ('a man surfs a wave', 'a surfer on a wave')),
    ('snow', ('a man in the snow',)),
    ('a black dog and a white dog play', ('a black dog and a white dog play',)),
)
# Of CORPUS: sacrebleu 2.6.0, BLEU(tokenize='none', force=True, smooth_method='none', max_ngram_order=n) / 100;
# pycocoevalcap 1.2, Rouge().compute_score and Cider().compute_score.
BLEU = (0.7303396858048817, 0.6384637897187403, 0.5533403896383732, 0.4683207418344156)
ROUGE_L = (0.9242424242424241, 0.7187745483110761, 0.6304909560723514, 0.3860759493670886, 0.0, 0.2975609756097561, 1.0)
CIDER_D = (3.2248801988508213, 3.4859398798512453, 0.8775063580547727, 1.4462855606930165, 0.0, 1.4478602006726113,
           10.0)


def split(corpus):
    """(candidates, references) as lists of words."""
    return ([text.split() for text, _ in corpus],
            [[reference.split() for reference in references] for _, references in corpus])


def draw_corpus(seed: int):
    """Random words; half of the texts are changed references, so that long n-grams agree."""
    generator = random.Random(seed)
    words = [f'w{number}' for number in range(generator.choice((2, 6, 30)))]

    def draw(least):
        return [generator.choice(words) for _ in range(generator.randint(least, 12))]

    references = [[draw(1) for _ in range(generator.randint(1, 5))] for _ in range(generator.randint(2, 12))]
    candidates = [generator.choice(group)[generator.randint(0, 2):] if generator.random() < 0.5 else draw(0)
                  for group in references]
    return candidates, references


def test_scores_are_those_of_the_reference_implementations():
    candidates, references = split(CORPUS)
    np.testing.assert_allclose(bleu(candidates, references), BLEU, rtol=1e-12)
    for score, theirs in ((rouge_l, ROUGE_L), (cider_d, CIDER_D)):
        mean, each = score(candidates, references)
        np.testing.assert_allclose(each, theirs, rtol=1e-12)
        assert mean == pytest.approx(np.mean(theirs), rel=1e-12)


def test_bleu_is_that_of_sacrebleu():
    metrics = pytest.importorskip('sacrebleu.metrics', reason='needs tests/requirements.txt')
    scorers = [metrics.BLEU(tokenize='none', force=True, smooth_method='none', max_ngram_order=n) for n in (1, 2, 3, 4)]
    for seed in range(50):
        candidates, references = draw_corpus(seed)
        columns = [[' '.join(group[number]) if number < len(group) else None for group in references]
                   for number in range(max(map(len, references)))]
        texts = [' '.join(words) for words in candidates]
        theirs = [scorer.corpus_score(texts, columns).score / 100 for scorer in scorers]
        np.testing.assert_allclose(bleu(candidates, references), theirs, rtol=0, atol=1e-12, err_msg=f'seed {seed}')


def test_rouge_l_and_cider_d_are_those_of_coco_caption():
    rouge = pytest.importorskip('pycocoevalcap.rouge.rouge', reason='needs tests/requirements.txt')
    cider = pytest.importorskip('pycocoevalcap.cider.cider', reason='needs tests/requirements.txt')
    for seed in range(50):
        candidates, references = draw_corpus(seed)
        given = {number: [' '.join(words) for words in group] for number, group in enumerate(references)}
        found = {number: [' '.join(words)] for number, words in enumerate(candidates)}
        for score, scorer in ((rouge_l, rouge.Rouge()), (cider_d, cider.Cider())):
            mean, each = scorer.compute_score(given, found)
            ours = score(candidates, references)
            np.testing.assert_allclose(ours[1], each, rtol=0, atol=1e-12, err_msg=f'seed {seed}')
            assert ours[0] == pytest.approx(mean, abs=1e-12)


def test_bleu_clips_repeated_words():
    """Papineni et al. 2002, section 2.1.1, example 2: of seven words 'the' two are right."""
    found = bleu(['the the the the the the the'.split()],
                 [['the cat is on the mat'.split(), 'there is a cat on the mat'.split()]])
    assert found[0] == pytest.approx(2 / 7) and found[1:] == (0, 0, 0)


def test_bleu_takes_the_shorter_of_two_references_as_close_and_punishes_brevity():
    """Three words: of references of two and of four words that of two counts, of four and seven that of four."""
    assert bleu(['a b c'.split()], [['a b c d'.split(), 'x y'.split()]])[0] == 1
    found = bleu(['a b c'.split()], [['a b c d e f g'.split(), 'a b c x'.split()]])
    assert found[0] == pytest.approx(math.exp(1 - 4 / 3))


def test_bleu_does_not_reward_length():
    assert bleu(['a b c d e f'.split()], [['a b c'.split()]])[0] == pytest.approx(1 / 2)


def test_bleu_is_of_the_corpus_not_the_mean_of_texts():
    """One text right and one wrong, of one and of three words: a quarter of the words is right."""
    assert bleu([['a'], ['x', 'y', 'z']], [[['a']], [['b', 'c', 'd']]])[0] == pytest.approx(1 / 4)


@pytest.mark.parametrize('score', (lambda *texts: bleu(*texts)[0], lambda *texts: rouge_l(*texts)[0],
                                   lambda *texts: cider_d(*texts)[0]))
def test_edges(score):
    """Nothing scores nothing; the order of references and of examples changes nothing; every text needs references."""
    assert score([], []) == 0
    assert score([[], []], [[['a']], [['b', 'c']]]) == 0
    candidates, references = split(CORPUS)
    backwards = score(candidates[::-1], [group[::-1] for group in references[::-1]])
    assert backwards == pytest.approx(score(candidates, references))
    with pytest.raises(ValueError):
        score([['a'], ['b']], [[['a']]])
    with pytest.raises(ValueError):
        score([['a']], [[]])


def test_equal_texts_score_the_most():
    texts = [reference.split() for _, references in CORPUS for reference in references]
    same = [[text] for text in texts]
    assert bleu(texts, same) == pytest.approx((1, 1, 1, 1))
    assert rouge_l(texts, same)[1] == pytest.approx(1)
    scores = cider_d(texts, same)[1]
    assert scores[[len(text) >= 4 for text in texts]] == pytest.approx(10)
    assert cider_d(texts[:1], same[:1])[0] == 0  # alone it is like all others


@pytest.mark.parametrize('first, second, length', (
    ('', 'a b', 0), ('a b c', 'a b c', 3), ('a b c d', 'b d', 2), ('c b a', 'a b c', 1), ('a x b y c', 'a b z c', 3)))
def test_longest_common_subsequence(first, second, length):
    assert longest_common_subsequence(first.split(), second.split()) == length
    assert longest_common_subsequence(second.split(), first.split()) == length
