"""Captioning: words count alike, texts are generated within bounds, and scored against what was written."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.common.vocabulary import END, PAD, SPECIAL, START, UNKNOWN, Vocabulary
from practicum.tasks.captioning import Captioning
from practicum.tasks.captioning_examples import f1
from practicum.tasks.text.bleu import bleu
from practicum.tasks.text.cider import cider_d
from practicum.tasks.text.rouge import rouge_l
from practicum.training.evaluation import merge

WORDS = ('a', 'dog', 'runs', 'sits')
A, DOG, RUNS, SITS = range(4, 8)
SIZE = len(SPECIAL) + len(WORDS)
META = {'vocabulary': Vocabulary('words', (*SPECIAL, *WORDS)).to_meta(), 'caption_length': 3,
        'tokens_per_example': 5.5}
# Two captions of an image, one of the next, none of the third.
CAPTIONS = np.array([[[START, A, DOG, RUNS, END], [START, DOG, END, PAD, PAD]],
                     [[START, A, UNKNOWN, END, PAD], [PAD] * 5],
                     [[PAD] * 5, [PAD] * 5]], np.int32)
TOKENS = (6, 3, 0)


def captioning(meta: dict | None = None, **config) -> Captioning:
    return Captioning(config, DatasetInfo.from_json(META | (meta or {})))


@pytest.fixture(scope='module')
def logits() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(3, 2, 4, SIZE)).astype(np.float32)


def by_hand(logits: np.ndarray) -> list[float]:
    """The cross-entropy of each example in nats, token by token in float64."""
    sums = [0.0] * len(CAPTIONS)
    for i, k, t in np.ndindex(CAPTIONS.shape[0], CAPTIONS.shape[1], CAPTIONS.shape[2] - 1):
        target, row = CAPTIONS[i, k, t + 1], logits[i, k, t].astype(float)
        if target != PAD:
            sums[i] -= math.log(math.exp(row[target]) / np.exp(row).sum())
    return sums


# --- the loss ---

def test_every_token_counts_alike(logits):
    scores = captioning().score(logits, {'captions': CAPTIONS})
    np.testing.assert_allclose(scores['nll'], by_hand(logits), rtol=1e-5)
    assert scores['tokens'].tolist() == list(TOKENS)
    np.testing.assert_allclose(scores['loss'], np.divide(by_hand(logits), META['tokens_per_example']), rtol=1e-5)
    alike = captioning().score({'logits': logits, 'generated': None}, {'captions': CAPTIONS})
    assert jax.tree.all(jax.tree.map(np.array_equal, scores, alike))


def test_gradients_of_tokens_do_not_depend_on_the_length_of_their_caption(logits):
    """With equal logits a target pulls as strongly in a caption of one word as in one of three; padding does not."""
    task = captioning()
    gradient = jax.grad(lambda logits: task.score(logits, {'captions': CAPTIONS})['loss'].sum())(np.zeros_like(logits))
    pulls = np.abs(gradient).sum(axis=-1)
    scored = CAPTIONS[..., 1:] != PAD
    assert pulls[scored] == pytest.approx(pulls[0, 0, 0]) and pulls[0, 0, 0] > 0
    assert not pulls[~scored].any()


def test_metrics_are_per_token_whatever_the_batches(logits):
    """Examples one by one, with a masked one that must not count: nats per token of all, and their exponential."""
    task, total = captioning(), None
    for i in (0, 1, 2, 0):
        scores = task.score(logits[i:i + 1], {'captions': CAPTIONS[i:i + 1]})
        mask = jnp.full(1, float(total is None or i > 0))
        metrics = task.eval_metrics.single_from_model_output(mask=mask, **scores)
        total = merge(total, jax.tree.map(np.asarray, metrics))
    found, expected = total.compute(), sum(by_hand(logits)) / sum(TOKENS)
    assert found['loss'] == pytest.approx(expected, rel=1e-5)
    assert found['perplexity'] == pytest.approx(math.exp(expected), rel=1e-5)
    leaves = jax.tree.leaves(jax.eval_shape(task.train_metrics.empty))
    assert all(leaf.shape == () for leaf in leaves)  # as training/window.py needs them
    assert math.isnan(task.eval_metrics.empty().compute()['perplexity'])


def test_logits_of_another_shape():
    with pytest.raises(UserError, match=r'config.task.name: captioning takes logits .* 8\], this model gives \[3, 8\]'):
        captioning().score(np.zeros((3, SIZE)), {'captions': CAPTIONS})


# --- what the task asks of others ---

def test_inputs_and_facts():
    batch = {'image': np.zeros((3, 2, 2, 1)), 'captions': CAPTIONS, 'other': 0}
    assert captioning().inputs(batch) == (batch['image'], batch['captions'])
    assert captioning().model_fields() == {'vocabulary_size': SIZE}
    assert captioning().primary_metric == 'bleu4' and captioning(kind='tags').primary_metric == 'f1'


@pytest.mark.parametrize('config, message', (
    ({'beam_size': 0}, 'config.task.beam_size = 0: it must be a whole number of at least 1'),
    ({'beam_size': 2.5}, 'config.task.beam_size = 2.5: it must be a whole number of at least 1'),
    ({'length_penalty': -0.1}, 'config.task.length_penalty = -0.1: it must be at least 0'),
    ({'length_penalty': math.nan}, 'config.task.length_penalty = nan: it must be at least 0'),
    ({'max_length': 0}, 'config.task.max_length = 0: it must be a whole number of at least 1'),
    ({'kind': 'tag'}, "config.task.kind = 'tag'; did you mean tags?"),
))
def test_mistakes(config, message):
    with pytest.raises(UserError) as error:
        captioning(**config)
    assert message in str(error.value)


@pytest.mark.parametrize('meta', ({'class_names': ['cat', 'dog']}, {'vocabulary': META['vocabulary']}))
def test_data_without_captions(meta):
    with pytest.raises(UserError, match='captioning needs captions, the data set has none'):
        Captioning({}, DatasetInfo.from_json(meta))


# --- generating ---

class Writer:
    """A model whose next token depends on the last one and on the image: variables['tables'] [images, V, V]."""

    def apply(self, variables, *inputs, method, **how):
        return getattr(self, method)(variables, *inputs, **how)

    def start(self, variables, images, *, begin=None):
        assert begin == ('features' if images.ndim == 2 else None)
        return {'seen': images.reshape(len(images), -1)[:, 0].astype(jnp.int32), 'carry': {}}

    def step(self, variables, state, tokens):
        return state, variables['tables'][state['seen'], tokens]


def tables(*probabilities: dict) -> dict:
    """Variables from one dict per image, token -> {next token: probability}; what is not given is 1e-9."""
    tables = np.full((len(probabilities), SIZE, SIZE), 1e-9)
    for table, given in zip(tables, probabilities):
        for token, following in given.items():
            for other, probability in following.items():
                table[token, other] = probability
    return {'tables': jnp.log(tables).astype(jnp.float32)}


# Greedy search takes 'a', after which nothing is likely; the likeliest text is 'dog', 0.4 * 0.95.
GARDEN_PATH = {START: {A: 0.6, DOG: 0.4}, A: {RUNS: 0.4, SITS: 0.3, END: 0.3}, RUNS: {END: 1.0}, SITS: {END: 1.0},
               DOG: {END: 0.95, A: 0.05}}
IMAGES = np.array([0, 1], np.uint8).reshape(2, 1, 1, 1)


def write(task: Captioning, variables, batch) -> list[str]:
    """Captions as `predict` gives them."""
    how = {} if 'image' in batch else {'begin': 'features'}
    found = jax.jit(lambda variables, batch: task.generate(Writer(), variables, batch, **how))(variables, batch)
    assert found['generated'].shape == (2, task.max_length) and found['generated'].dtype == jnp.int32
    rows = np.asarray(found['generated'])
    return [task.predict({'generated': row}, None, {}, 5).row['caption'] for row in rows]


def test_each_image_gets_its_text_from_pixels_and_from_features():
    variables = tables({START: {A: 1.0}, A: {DOG: 1.0}, DOG: {END: 1.0}}, {START: {DOG: 1.0}, DOG: {SITS: 1.0},
                                                                          SITS: {END: 1.0}})
    assert write(captioning(beam_size=1), variables, {'image': IMAGES}) == ['a dog', 'dog sits']
    features = IMAGES[::-1].reshape(2, 1).astype(np.float32)
    assert write(captioning(), variables, {'features': features}) == ['dog sits', 'a dog']


def test_a_beam_finds_what_greedy_search_misses():
    variables = tables(GARDEN_PATH, GARDEN_PATH)
    assert write(captioning(beam_size=1), variables, {'image': IMAGES}) == ['a runs'] * 2
    assert write(captioning(beam_size=2, length_penalty=0.0), variables, {'image': IMAGES}) == ['dog'] * 2


def test_the_length_penalty_makes_texts_longer():
    """ln 0.38 / (7/6)^p against ln 0.24 / (8/6)^p: the longer text wins from p = 2.9 on."""
    variables = tables(GARDEN_PATH, GARDEN_PATH)
    for penalty, text in ((2.0, 'dog'), (4.0, 'a runs')):
        task = captioning(beam_size=4, length_penalty=penalty)
        assert write(task, variables, {'image': IMAGES}) == [text] * 2


def test_special_tokens_are_never_written_and_texts_end():
    """The likeliest tokens are <unk>, <start> and <pad>; then 'a', for ever."""
    endless = {token: {UNKNOWN: 0.3, START: 0.3, PAD: 0.2, A: 0.2} for token in range(SIZE)}
    for beam_size, length in ((1, 4), (3, 1)):
        task = captioning(beam_size=beam_size, max_length=length)
        assert write(task, tables(endless, endless), {'image': IMAGES}) == [' '.join(['a'] * length)] * 2
    assert captioning().max_length == META['caption_length']


def test_the_longest_text_ends_like_any_other():
    """'a runs' has 0.5 and 'a sits' 0.45; with their ends, for which two words must leave room, 0.25 and 0.45."""
    table = {START: {A: 1.0}, A: {RUNS: 0.5, SITS: 0.45}, RUNS: {END: 0.5, DOG: 0.5}, SITS: {END: 1.0}}
    task = captioning(beam_size=3, max_length=2, length_penalty=0.0)
    assert write(task, tables(table, table), {'image': IMAGES}) == ['a sits'] * 2


def test_a_caption_as_a_row_and_as_a_line():
    assert captioning().flatten({'caption': 'a dog'}) == {'caption': 'a dog'}
    assert captioning().describe({'caption': 'a dog'}) == 'a dog'


# --- cases ---

def measured(task: Captioning, caption: str, references: list[str], **facts) -> dict:
    generated = np.array([*task.vocabulary.encode(caption), END, PAD, PAD][:6], np.int32)
    output = jax.tree.map(np.asarray, task.per_example.outputs({'logits': jnp.zeros(1), 'generated': generated}))
    return task.per_example.measure(output, {}, {'captions': references, **facts})


def test_a_case():
    case = measured(captioning(), 'a dog runs', ['A dog sits.', 'The zebra runs!'])
    assert case['caption'] == 'a dog runs' and case['captions'] == ['A dog sits.', 'The zebra runs!']
    assert case['exact'] is False and case['f1'] == pytest.approx(2 / 3)
    assert case['rouge_l'] == rouge_l([['a', 'dog', 'runs']], [[['a', 'dog', 'sits'], ['the', 'zebra', 'runs']]])[0]
    assert 'true' not in case
    assert measured(captioning(), 'a dog runs', ['A dog sits.', 'A dog -- runs!'])['exact'] is True
    json.dumps(case)


def test_an_empty_caption():
    case = measured(captioning(), '', ['A dog.'])
    assert (case['caption'], case['exact'], case['f1'], case['rouge_l']) == ('', False, 0, 0)


def test_unknown_words_of_references_stay_wrong():
    """With <unk> for both, 'cat' would be as good as the 'zebra' that the vocabulary does not have either."""
    task = captioning()
    assert measured(task, 'a dog', ['a zebra'])['f1'] == pytest.approx(1 / 2)
    summary = task.per_example.summarize([measured(task, 'a dog', ['a zebra'])])
    assert summary['bleu1'] == pytest.approx(1 / 2)


def test_summaries_are_of_the_corpus():
    task = captioning()
    texts = [('a dog runs', ['A dog runs.', 'A dog sits.']), ('a dog', ['a zebra runs and runs']), ('', ['dog'])]
    summary = task.per_example.summarize([measured(task, *text) for text in texts])
    candidates = [text.split() for text, _ in texts]
    references = [[reference.lower().strip('.').split() for reference in group] for _, group in texts]
    assert tuple(summary) == task.per_example.metrics
    assert [summary[f'bleu{n}'] for n in (1, 2, 3, 4)] == list(bleu(candidates, references))
    assert summary['rouge_l'] == rouge_l(candidates, references)[0]
    assert summary['cider'] == cider_d(candidates, references)[0]
    assert summary['exact'] == pytest.approx(1 / 3) and summary['f1'] == pytest.approx((1 + 2 / 6 + 0) / 3)
    assert all(isinstance(value, float) for value in summary.values())


def test_the_worst_captions_are_those_least_like_the_given_ones():
    task = captioning()
    texts = ('a dog runs', 'a dog sits', 'sits')
    order = sorted(texts, key=lambda text: task.per_example.severity(measured(task, text, ['a dog runs'])))
    assert tuple(order) == texts


SCENE = {'shapes': [{'shape': 'circle', 'colour': 'red', 'size': 'small', 'row': 0, 'column': 0, 'motion': None}]}


def test_captions_of_scenes_are_checked():
    """A true caption is a better one than a false one, however alike this is to its reference."""
    words = ('there', 'is', 'a', 'red', 'blue', 'circle')
    task = captioning({'vocabulary': Vocabulary('words', (*SPECIAL, *words)).to_meta(), 'grammar': 'shape_scenes'})
    assert task.per_example.metrics[-1] == 'true'
    right = measured(task, 'a red circle', ['in the top left corner there is a red circle'], scene=SCENE)
    wrong = measured(task, 'there is a blue circle', ['there is a red circle'], scene=SCENE)
    assert right['true'] is True and wrong['true'] is False and right['rouge_l'] < wrong['rouge_l']
    assert task.per_example.severity(wrong) > task.per_example.severity(right)
    assert task.per_example.summarize([right, wrong])['true'] == pytest.approx(1 / 2)
    json.dumps(wrong)


def test_tags_have_no_order():
    task = captioning({'grammar': 'shape_scenes'}, kind='tags')
    case = measured(task, 'runs dog a', ['a dog runs'])
    assert case == {'caption': 'runs dog a', 'captions': ['a dog runs'], 'exact': True, 'f1': 1.0}
    half = measured(task, 'dog sits', ['a dog'])
    assert half['f1'] == pytest.approx(1 / 2) and task.per_example.severity(half) > task.per_example.severity(case)
    assert task.per_example.summarize([case, half]) == {'exact': pytest.approx(0.5), 'f1': pytest.approx(0.75)}
    assert task.per_example.metrics == ('exact', 'f1')


@pytest.mark.parametrize('words, others, expected', (
    ('a b', 'a b', 1.0), ('a a b', 'b a', 1.0), ('a b c d', 'a', 0.4), ('a', 'b', 0.0), ('', 'a', 0.0), ('', '', 1.0)))
def test_f1(words, others, expected):
    assert f1(words.split(), others.split()) == pytest.approx(expected)


# --- images ---

def kept(shape: tuple, caption: str, references=('a $dog$ runs_through',), **scores) -> dict:
    image = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    return {'example': {'image': image}, 'scores': {'caption': caption, 'captions': list(references), **scores}}


@pytest.mark.parametrize('shape', ((12, 16, 3), (12, 16, 1), (7, 12, 16, 3), (1, 12, 16, 1)))
def test_images(shape):
    """Text is shown as it is, wrapped; bad captions in red; of a video three frames side by side."""
    cases = [kept(shape, 'a dog ' * 30, rouge_l=0.5, f1=0.1), kept(shape, '', rouge_l=0.1, f1=0.9),
             kept(shape, 'a circle', rouge_l=0.1, true=True), kept(shape, 'a cross', rouge_l=0.9, true=False),
             kept(shape, 'dog sits', f1=0.4)]
    figures = captioning().figures({}, cases, first=cases * 3)
    assert set(figures) == {'worst_captions', 'captions'} and len(figures['captions'].axes) == 12
    axes = figures['worst_captions'].axes
    assert [panel.title.get_color() for panel in axes] == ['black', 'firebrick', 'black', 'firebrick', 'firebrick']
    assert '\n' in axes[0].get_title() and axes[1].get_title() == '(no word)'
    assert axes[0].get_xlabel() == 'a $dog$ runs_through'
    width = axes[0].images[0].get_array().shape[1]
    assert width == 16 if len(shape) == 3 or shape[0] == 1 else width > 3 * 16


def test_images_can_be_drawn(tmp_path):
    from practicum.training.results import write_image
    figure = captioning().figures({}, [kept((12, 16, 3), 'a $dog runs', rouge_l=0.5)])['worst_captions']
    assert write_image(tmp_path / 'captions.png', figure).ndim == 3


def test_no_images_of_nothing():
    assert captioning().figures({}) == {} and captioning().tables({}) == {}
