"""The grammar's sentences: one derivation each, and an entropy that is exact."""

import math
import random
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.input_pipeline import prepared_data, tfds_source
from practicum.input_pipeline.datasets import grammar_sentences
from practicum.training.defaults import base


def derivations(rules, words) -> tuple[int, float]:
    """How many derivations a sentence has, and their total probability: the inside algorithm on rules of any length.

    Symbols are filled in from short spans to long ones; the grammar has no empty rules, and its unary ones no cycle.
    """
    n = len(words)

    def inside(symbol, i, j) -> tuple[int, float]:
        if symbol not in rules:
            return (1, 1.0) if j == i + 1 and words[i] == symbol else (0, 0.0)
        if (symbol, i, j) not in known:
            count, total = 0, 0.0
            for probability, result in rules[symbol]:
                found = sequence(result, i, j)
                count, total = count + found[0], total + probability * found[1]
            known[symbol, i, j] = count, total
        return known[symbol, i, j]

    def sequence(symbols, i, j) -> tuple[int, float]:
        if len(symbols) == 1:
            return inside(symbols[0], i, j)
        count, total = 0, 0.0
        for cut in range(i + 1, j - len(symbols) + 2):
            first = inside(symbols[0], i, cut)
            if first[0]:
                rest = sequence(symbols[1:], cut, j)
                count, total = count + first[0] * rest[0], total + first[1] * rest[1]
        return count, total

    known = {}
    return inside(grammar_sentences.START, 0, n)


TINY = {'sentence': ((0.5, ('a',)), (0.25, ('b', 'tail')), (0.25, ('c',))), 'tail': ((0.5, ('d',)), (0.5, ('e', 'f')))}
LOOP = {'sentence': ((0.75, ('word',)), (0.25, ('word', 'sentence'))), 'word': ((0.5, ('x',)), (0.5, ('y',)))}


def test_entropy_by_hand():
    """Sentences a, c, b d, b e f of 1/2, 1/4, 1/8, 1/8: 1.75 bits and 0.75 + 2/8 + 3/8 words."""
    entropy, length = grammar_sentences.entropy_and_length(TINY)
    assert entropy == pytest.approx(1.75 * math.log(2)) and length == pytest.approx(1.375)


def test_entropy_of_endless_recursion():
    """Geometric length of mean 4/3; each word one bit, each end or continuation the entropy of 1/4."""
    entropy, length = grammar_sentences.entropy_and_length(LOOP)
    stop = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert length == pytest.approx(4 / 3) and entropy == pytest.approx(4 / 3 * (1 + stop) * math.log(2))


def test_the_rules_are_distributions():
    rules = grammar_sentences.grammar()
    for symbol, alternatives in rules.items():
        assert sum(probability for probability, _ in alternatives) == pytest.approx(1), symbol
        assert len({result for _, result in alternatives}) == len(alternatives), symbol
    reachable, open_symbols = set(), [grammar_sentences.START]
    while open_symbols:
        symbol = open_symbols.pop()
        if symbol in rules and symbol not in reachable:
            reachable.add(symbol)
            open_symbols += [part for _, result in rules[symbol] for part in result]
    assert reachable == set(rules)
    words = {part for alternatives in rules.values() for _, result in alternatives for part in result} - set(rules)
    assert len(words) == 123 and all(word.isalpha() and word.islower() for word in words)


def test_every_sentence_has_one_derivation_of_its_probability():
    rules = grammar_sentences.grammar()
    drawn = grammar_sentences.sentences('test')
    longest = sorted(drawn, key=lambda pair: -len(pair[0]))[:15]
    for words, log_probability in drawn[:150] + longest:
        count, probability = derivations(rules, words)
        assert count == 1, ' '.join(words)
        assert math.log(probability) == pytest.approx(log_probability)


@pytest.mark.parametrize('sentence, possible', [
    ('the dog that the cats see runs', True), ('the dog that the cats see run', False),
    ('the dogs near the cat run', True), ('the dogs near the cat runs', False),
    ('yesterday the dog saw a cat', True), ('yesterday the dog sees a cat', False),
    ('a dogs run', False), ('the cat that chases the birds is old', True),
    ('the cat that chased the birds is old', False),
])
def test_agreement(sentence, possible):
    assert derivations(grammar_sentences.grammar(), sentence.split())[0] == possible


def test_samples_have_the_entropy_and_the_length():
    drawn = grammar_sentences.sentences('train')
    entropy, length = grammar_sentences.entropy_and_length(grammar_sentences.grammar())
    costs, lengths = np.array([-cost for _, cost in drawn]), np.array([len(words) for words, _ in drawn])
    assert len(drawn) == 20_000
    for values, mean in ((costs, entropy), (lengths, length)):
        assert abs(values.mean() - mean) < 4 * values.std() / math.sqrt(len(values))


def test_frequencies_are_the_probabilities_of_the_rules():
    generator = random.Random(0)
    counts = Counter(' '.join(grammar_sentences.sample(TINY, generator)[0]) for _ in range(8000))
    assert {text: round(count / 1000) for text, count in counts.items()} == {'a': 4, 'c': 2, 'b d': 1, 'b e f': 1}


def test_the_bigrams_of_the_corpus_cost_more_than_the_grammar():
    """No model of the training sentences is better on the test sentences than the grammar, this one by far."""
    follows = defaultdict(Counter)
    for words, _ in grammar_sentences.sentences('train'):
        for one, other in zip(['<start>', *words], [*words, '<end>']):
            follows[one][other] += 1
    cost = tokens = 0
    for words, _ in grammar_sentences.sentences('test'):
        for one, other in zip(['<start>', *words], [*words, '<end>']):
            cost -= math.log((follows[one][other] + 0.1) / (follows[one].total() + 12.4))
            tokens += 1
    assert cost / tokens > grammar_sentences._nats_per_token('test') + 0.1


# --- as a data set ---

@pytest.fixture(scope='module')
def prepared(tmp_path_factory):
    config = base().data
    config.update(source='tfds', name='grammar_sentences', data_dir=str(tmp_path_factory.mktemp('tfds')))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(grammar_sentences, 'SENTENCES', {'train': 50, 'validation': 20, 'test': 20})
        grammar_sentences.sentences.cache_clear()
        prepared_data.prepare(Path(config.data_dir), 'grammar_sentences', download=False)
    grammar_sentences.sentences.cache_clear()
    return config


def test_texts_are_read_and_remembered(prepared, tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path))
    expected = [' '.join(words) for words, _ in grammar_sentences.sentences('validation')[:20]]
    texts = tfds_source.read_texts(prepared, 'validation')
    assert sorted(texts) == sorted(expected) and all(isinstance(text, str) for text in texts)
    (file,) = (tmp_path / 'texts').iterdir()
    file.write_text('[["from the cache"]]')
    assert tfds_source.read_texts(prepared, 'validation') == ['from the cache']
    with pytest.raises(UserError, match="grammar_sentences has no split 'tset'; did you mean test?"):
        tfds_source.read_texts(prepared, 'tset')


def test_the_entropy_is_in_the_metadata(prepared):
    metadata = tfds_source.read_metadata(prepared)
    entropy, length = grammar_sentences.entropy_and_length(grammar_sentences.grammar())
    assert metadata['grammar_entropy_nats_per_token'] == entropy / (length + 1) == pytest.approx(2.4067, abs=1e-4)
    drawn = grammar_sentences.sentences('test')[:20]
    assert metadata['grammar_nats_per_token']['test'] == pytest.approx(
        -sum(cost for _, cost in drawn) / sum(len(words) + 1 for words, _ in drawn))
