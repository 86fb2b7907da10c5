"""Captions as token ids: what is kept of each, how they are padded, and what the checkpoint is told."""

import logging

import numpy as np
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.common.vocabulary import END, PAD, START, UNKNOWN, Vocabulary
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.captions import tokenize
from practicum.input_pipeline.source import IndexedSource, Source
from practicum.training.defaults import base

TEXTS = [['A dog runs.', 'The dog!'], ['...', 'A cat and a dog run', 'cat'], ['dog']]
# dog 4, a 3, cat 2, then by spelling: and, run, runs, the
DOG, A, CAT, AND, RUN, RUNS, THE = range(4, 11)
IMAGES = np.arange(3 * 2 * 2 * 1, dtype=np.uint8).reshape(3, 2, 2, 1)


class Streaming(Source):
    """Images that are not in memory."""
    info = DatasetInfo(other={'name': 'streaming'})

    def __init__(self, texts=TEXTS):
        self.texts = texts

    def __len__(self):
        return len(self.texts)

    def read(self, indices, uniforms=None):
        return {'image': IMAGES[indices] + np.uint8(0 if uniforms is None else 100)}

    def describe(self, indices):
        return [{'file': f'{i}.png', 'captions': self.texts[i]} for i in indices]


def in_memory(texts=TEXTS) -> ArraySource:
    facts = [{'captions': captions} for captions in texts]
    return ArraySource({'image': IMAGES[:len(texts)]}, DatasetInfo(other={'name': 'arrays'}), facts)


def tokenized(texts=TEXTS, vocabulary=None, **text):
    config = base().text
    config.update(text)
    return tokenize(in_memory(texts), config, vocabulary)


def captions(source) -> list:
    return source.read(np.arange(len(source)))['captions'].tolist()


def test_ids_and_padding_by_hand():
    source = tokenized()
    assert Vocabulary.from_meta(source.info.vocabulary).entries[4:] == (
        'dog', 'a', 'cat', 'and', 'run', 'runs', 'the')
    absent = [PAD] * 8
    assert captions(source) == [
        [[START, A, DOG, RUNS, END, 0, 0, 0], [START, THE, DOG, END, 0, 0, 0, 0], absent],
        # '...' has no words: it is no caption
        [[START, A, CAT, AND, A, DOG, RUN, END], [START, CAT, END, 0, 0, 0, 0, 0], absent],
        [[START, DOG, END, 0, 0, 0, 0, 0], absent, absent]]
    batch = source.read(np.array([2, 0]))
    assert batch['captions'].dtype == np.int32
    np.testing.assert_array_equal(batch['image'], IMAGES[[2, 0]])
    assert source.describe(np.array([1]))[0]['captions'] == TEXTS[1]  # the texts stay as they were


def test_a_caption_that_is_cut_has_no_end(caplog):
    with caplog.at_level(logging.INFO):
        source = tokenized(max_length=3)
    assert captions(source)[0][0] == [START, A, DOG, RUNS, END]  # three words are not cut
    assert captions(source)[1][0] == [START, A, CAT, AND, A][:4] + [PAD]
    assert '1 of 6 captions are longer than config.text.max_length = 3' in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        tokenized()
    assert 'longer' not in caplog.text


def test_max_length_above_the_longest_makes_no_room():
    assert np.shape(captions(tokenized(max_length=6))) == np.shape(captions(tokenized(max_length=60))) == (3, 3, 8)
    assert np.shape(captions(tokenized(max_length=5))) == (3, 3, 7)


def test_rare_words_are_unknown():
    source = tokenized(min_count=2)
    assert captions(source)[0][:2] == [[START, A, DOG, UNKNOWN, END, 0, 0, 0], [START, UNKNOWN, DOG, END, 0, 0, 0, 0]]


def test_numbers_for_the_checkpoint():
    info = tokenized().info
    assert info.other['name'] == 'arrays' and info.caption_length == 6
    assert info.tokens_per_example == pytest.approx((4 + 3 + 7 + 2 + 2) / 3)  # words and ends, not starts


def test_a_given_vocabulary_is_used_as_it_is():
    ours = Vocabulary.from_meta(tokenized().info.vocabulary)
    source = tokenized([['the zebra runs'], ['dog']], ours)
    assert captions(source) == [[[START, THE, UNKNOWN, RUNS, END]], [[START, DOG, END, PAD, PAD]]]
    assert source.info.vocabulary == ours.to_meta()


def test_a_streaming_source_is_wrapped():
    source = tokenize(Streaming(), base().text, None)
    assert isinstance(source, IndexedSource) and len(source) == 3
    assert captions(source) == captions(tokenized())
    assert source.info == tokenized().info.replace(other={'name': 'streaming'})
    assert source.describe(np.array([2])) == [{'file': '2.png', 'captions': ['dog']}]
    assert not source.needs_rng
    np.testing.assert_array_equal(source.read(np.array([1]), np.zeros((1, 4)))['image'], IMAGES[[1]] + 100)
    cropping = Streaming()
    cropping.needs_rng = True
    assert tokenize(cropping, base().text, None).needs_rng


def test_evaluation_images_without_any_word_are_a_mistake():
    ours = Vocabulary.from_meta(tokenized().info.vocabulary)
    with pytest.raises(UserError, match='have no captions'):
        tokenized([['...'], ['!']], ours)


@pytest.mark.parametrize('texts, text, message', [
    (TEXTS, {'max_length': 0}, 'config.text.max_length = 0'),
    (TEXTS, {'tokens': 'word'}, "config.text.tokens = 'word'"),
    (TEXTS, {'min_count': 9}, 'config.text.min_count'),
    ([['...'], ['!']], {}, 'no token'), ([[], []], {}, 'no token')])
def test_mistakes_are_one_line(texts, text, message):
    with pytest.raises(UserError) as caught:
        tokenized(texts, **text)
    assert message in str(caught.value) and '\n' not in str(caught.value)
