"""Texts as streams: which token stands where, that none is lost or counted twice, and what is wrong with files."""

import gzip

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.common.vocabulary import END, PAD, UNKNOWN, Vocabulary
from practicum.input_pipeline import sources, text_source
from practicum.input_pipeline.batches import eval_batches, train_batches
from practicum.input_pipeline.text_source import StreamBatches, StreamEvalBatches, TokenStream
from practicum.training.defaults import base


def numbered(total: int, num_steps: int, streams: int = 1) -> TokenStream:
    """A text in which the token at place i is i + 10: `total` tokens to predict, after the one that they follow."""
    return TokenStream(np.arange(10, 11 + total, dtype=np.int32), num_steps, streams, {})


# Training


TEXTS = [(60, 4, 3), (61, 4, 3), (37, 5, 7), (12, 1, 4), (12, 3, 4), (100, 7, 1)]  # tokens, num_steps, batch_size


@pytest.mark.parametrize('total, num_steps, batch_size', TEXTS)
def test_every_row_goes_on_where_it_stopped(total, num_steps, batch_size):
    batches = StreamBatches(numbered(total, num_steps), batch_size)
    length = total // batch_size
    windows = length // num_steps
    before = {}
    assert batches.examples == windows * batch_size
    for step in range(2 * windows + 1):
        batch = batches(step)
        assert batch['tokens'].shape == batch['targets'].shape == (batch_size, num_steps)
        assert batch['tokens'].dtype == batch['targets'].dtype == np.int32 and batch['begin'].dtype == np.float32
        place = np.arange(batch_size)[:, None] * length + (step % windows) * num_steps + np.arange(num_steps)
        np.testing.assert_array_equal(batch['tokens'], 10 + place)
        np.testing.assert_array_equal(batch['targets'], 10 + place + 1)
        np.testing.assert_array_equal(batch['begin'], np.full(batch_size, step % windows == 0))
        if step % windows:
            np.testing.assert_array_equal(batch['tokens'][:, 0], before['targets'][:, -1])
        before = batch


def test_an_epoch_by_hand():
    """Eleven tokens to predict in two streams of five, in windows of two: the last of each stream is left out."""
    batches = StreamBatches(numbered(11, 2), 2)
    assert batches.examples == 4
    assert [batches(step)['tokens'].tolist() for step in range(3)] == [
        [[10, 11], [15, 16]], [[12, 13], [17, 18]], [[10, 11], [15, 16]]]
    assert [batches(step)['begin'].tolist() for step in range(3)] == [[1, 1], [0, 0], [1, 1]]


@pytest.mark.parametrize('processes', [2, 4])
def test_the_rows_of_all_processes_are_the_global_batch(processes):
    source = numbered(100, 3)
    whole = StreamBatches(source, 8)
    rows = 8 // processes
    parts = [StreamBatches(source, 8, slice(i * rows, (i + 1) * rows)) for i in range(processes)]
    assert {part.examples for part in parts} == {whole.examples}
    for step in (0, 3, 4, 9):
        for name, values in whole(step).items():
            np.testing.assert_array_equal(np.concatenate([part(step)[name] for part in parts]), values)


def test_batches_are_a_function_of_the_step_alone():
    late = StreamBatches(numbered(97, 4), 3)(10**9 + 1)
    walked = StreamBatches(numbered(97, 4), 3)
    for step in (5, 2, 0, 10**9 + 1):
        found = walked(step)
    for name in late:
        np.testing.assert_array_equal(found[name], late[name])


def test_a_training_text_shorter_than_its_streams():
    StreamBatches(numbered(12, 3), 4)
    with pytest.raises(UserError) as caught:
        StreamBatches(numbered(11, 3), 4)
    assert str(caught.value) == (
        'the training text has 11 tokens, too few for a window of 3 in each of 4 streams: '
        'lower config.text.num_steps or config.batch_size')


# Evaluation


def scored(batches) -> list[int]:
    """Returns the targets that are scored, in the order in which they come, after checks of every row."""
    found, before = [], {}
    for number in range(len(batches)):
        batch = batches(number)
        assert np.all(batch['begin'] == (number == 0))
        valid = batch['targets'] != PAD
        np.testing.assert_array_equal(valid, batch['tokens'] != PAD)
        np.testing.assert_array_equal(batch['tokens'][valid] + 1, batch['targets'][valid])
        np.testing.assert_array_equal(valid[:, :-1] >= valid[:, 1:], True)  # padding is at the end
        assert not valid[batch['mask'] == 0].any()  # rows that are no stream have nothing
        found += batch['targets'][valid].tolist()
        if number:
            going_on = valid[:, 0]
            np.testing.assert_array_equal(batch['tokens'][going_on, 0], before['targets'][going_on, -1])
        before = batch
    return found


def test_every_token_of_an_evaluation_text_is_a_target_once():
    generator = np.random.default_rng(0)
    for _ in range(300):
        total, num_steps = generator.integers(1, 60), generator.integers(1, 9)
        streams = generator.integers(1, min(total, 12) + 1)
        batch_size = streams + generator.integers(0, 9)
        batches = StreamEvalBatches(numbered(total, num_steps, streams), batch_size)
        assert sorted(scored(batches)) == list(range(11, 11 + total)), (total, num_steps, streams, batch_size)
        assert sum(batches(0)['mask']) <= streams
        # Nothing is read for nothing: the last batch has something.
        assert np.any(batches(len(batches) - 1)['targets'])


def test_an_evaluation_by_hand():
    """Seven tokens in two streams of four and three, two steps at a time, in a batch of three."""
    batches = StreamEvalBatches(numbered(7, 3, 2), 3)
    first, second = batches(0), batches(1)
    assert len(batches) == 2
    assert first['tokens'].tolist() == [[10, 11, 12], [14, 15, 16], [0, 0, 0]]
    assert first['targets'].tolist() == [[11, 12, 13], [15, 16, 17], [0, 0, 0]]
    assert second['targets'].tolist() == [[14, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert first['mask'].tolist() == second['mask'].tolist() == [1, 1, 0]


def test_padding_of_the_batch_changes_no_row():
    source = numbered(29, 4, 3)
    wanted = StreamEvalBatches(source, 3)
    for batch_size in (4, 8):
        found = StreamEvalBatches(source, batch_size)
        assert len(found) == len(wanted)
        for number in range(len(wanted)):
            for name, values in wanted(number).items():
                np.testing.assert_array_equal(found(number)[name][:3], values)


def test_the_rows_of_all_processes_are_the_global_evaluation_batch():
    source = numbered(41, 4, 5)
    whole = StreamEvalBatches(source, 8)
    parts = [StreamEvalBatches(source, 8, slice(i, i + 2)) for i in range(0, 8, 2)]
    for number in range(len(whole)):
        for name, values in whole(number).items():
            np.testing.assert_array_equal(np.concatenate([part(number)[name] for part in parts]), values)


@pytest.mark.parametrize('total', [1, 3, 4, 5, 8])
def test_read_as_one_stream(total):
    source = numbered(total, 4)
    assert len(source) == -(-total // 4)
    everything = source.read(np.arange(len(source)))
    targets = everything['targets'].reshape(-1)
    assert targets[targets != PAD].tolist() == list(range(11, 11 + total))
    assert everything['begin'].tolist() == [1, *[0] * (len(source) - 1)]
    last = source.read(np.array([len(source) - 1]))
    np.testing.assert_array_equal(last['tokens'][0], everything['tokens'][-1])
    assert source.describe(np.array([0, 2])) == [{'token': 0}, {'token': 8}]


def test_texts_get_their_own_batches():
    assert isinstance(train_batches(numbered(20, 2), 2, 0), StreamBatches)
    assert isinstance(eval_batches(numbered(20, 2), 2), StreamEvalBatches)


# Files


def open_text(path, split='train', vocabulary=None, **text):
    config = base()
    config.data.update(source='text', name=str(path))
    config.text.update({'tokens': 'whitespace', 'num_steps': 2, **text})
    return sources.open_split(config.data, config.image, split, text=config.text, vocabulary=vocabulary)


def words(source) -> str:
    """The text after the first <end>, a line for every <end>."""
    assert source.tokens[0] == END and source.tokens.dtype == np.int32
    return Vocabulary.from_meta(source.info.vocabulary).decode_lines(source.tokens[1:].tolist())


LINES = 'a b c\nd e\n\n  \nf g h i\n'


def write(file, text=LINES):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(gzip.compress(text.encode()) if file.suffix == '.gz' else text.encode())


@pytest.mark.parametrize('file', ['corpus/train.txt', 'corpus/train.txt.gz', 'corpus.train.txt', 'corpus.train.txt.gz',
                                  'corpus'])
def test_where_texts_are_found(tmp_path, file):
    write(tmp_path / file)
    assert words(open_text(tmp_path / 'corpus')) == 'a b c\nd e\nf g h i\n'


@pytest.mark.parametrize('file', ['book.txt', 'book.txt.gz'])
def test_a_single_file_in_parts_of_lines(tmp_path, file):
    write(tmp_path / file, ''.join(f'line {i}\n' for i in range(10)))
    train = open_text(tmp_path / file, 'train[:80%]')
    assert words(train) == ''.join(f'line {i}\n' for i in range(8))
    vocabulary = Vocabulary.from_meta(train.info.vocabulary)
    test = open_text(tmp_path / file, 'train[80%:]', vocabulary=vocabulary)
    assert words(test) == 'line <unk>\nline <unk>\n'  # read in the words of the training part
    assert test.info.vocabulary == train.info.vocabulary
    assert test.info.stream != train.info.stream


def test_splits_are_files(tmp_path):
    write(tmp_path / 'corpus.train.txt')
    write(tmp_path / 'corpus.valid.txt', 'b a z\n')
    train = open_text(tmp_path / 'corpus')
    found = open_text(tmp_path / 'corpus', 'valid', Vocabulary.from_meta(train.info.vocabulary))
    assert words(found) == 'b a <unk>\n' and list(found.tokens).count(UNKNOWN) == 1


def test_a_folder_that_is_the_current_one(tmp_path, monkeypatch):
    write(tmp_path / 'train.txt')
    monkeypatch.chdir(tmp_path)
    assert words(open_text('.')) == 'a b c\nd e\nf g h i\n'
    with pytest.raises(UserError, match='valid.txt'):
        open_text('.', 'valid')


def test_lines_without_words_are_no_lines_but_characters_keep_blank_ones(tmp_path):
    write(tmp_path / 'x', 'ab c\n\n...\nde\n')
    assert words(open_text(tmp_path / 'x')) == 'ab c\n...\nde\n'
    assert words(open_text(tmp_path / 'x', tokens='words')) == 'ab c\nde\n'
    assert words(open_text(tmp_path / 'x', tokens='characters')) == 'ab c\n\n...\nde\n'


def test_every_line_ends_with_end_whatever_ends_it_in_the_file(tmp_path):
    wanted = 'ab\ncd\n'
    for text in ('ab\ncd', 'ab\ncd\n', 'ab\r\ncd\r\n', '\ufeffab\ncd\n'):  # the last with a byte order mark
        write(tmp_path / 'x', text)
        assert words(open_text(tmp_path / 'x', tokens='characters')) == wanted
    write(tmp_path / 'x', 'a\x0cb\u2028c\x85d\n')  # those are characters
    assert words(open_text(tmp_path / 'x', tokens='characters')) == 'a\x0cb\u2028c\x85d\n'


def test_texts_of_tensorflow_datasets_are_lines_too(monkeypatch):
    """Such as tiny_shakespeare, which is one text of many lines."""
    monkeypatch.setitem(text_source.READERS, 'tfds_text', lambda data, split: ['a b\nc\n', 'd', f'{split} e\n\n'])
    config = base()
    config.data.source = 'tfds_text'
    config.text.update(num_steps=2, tokens='whitespace')
    source = sources.open_split(config.data, config.image, 'valid', text=config.text)
    assert words(source) == 'a b\nc\nd\nvalid e\n'


def test_the_words_of_a_text_that_says_pad_are_all_targets(tmp_path):
    write(tmp_path / 'x', 'a <pad> b\n')
    assert PAD not in open_text(tmp_path / 'x').tokens


def test_streams_are_never_more_than_tokens(tmp_path):
    write(tmp_path / 'x', 'a b\n')
    assert open_text(tmp_path / 'x', streams=20).streams == 3
    assert open_text(tmp_path / 'x', streams=2).streams == 2


# Mistakes


def mistake(*args, **fields) -> str:
    with pytest.raises(UserError) as caught:
        open_text(*args, **fields)
    assert '\n' not in str(caught.value)
    return str(caught.value)


def test_what_is_not_utf8_is_named_by_line_and_byte(tmp_path):
    (tmp_path / 'x').write_bytes('Zürich\nBöhm '.encode() + 'Bär'.encode('latin1'))
    for part in ('x', 'line 2', '0xe4', 'at 15', 'UTF-8', 'iconv'):
        assert part in mistake(tmp_path / 'x')
    (tmp_path / 'x.gz').write_bytes(gzip.compress(b'a\nb\n\xff'))
    assert 'line 3' in mistake(tmp_path / 'x.gz')


@pytest.mark.parametrize('damage', [
    lambda data: data[:-9], lambda data: b'no' + data, lambda data: data[:20] + b'\xff' * 8 + data[28:],
    lambda data: b'\x1f\x8b'], ids=['cut', 'not gzip', 'overwritten', 'two bytes'])
def test_a_damaged_gz_is_one_line(tmp_path, damage):
    file = tmp_path / 'corpus.train.txt.gz'
    file.write_bytes(damage(gzip.compress(''.join(f'{i * i} squared\n' for i in range(200)).encode())))
    assert str(file) in mistake(tmp_path / 'corpus')


@pytest.mark.parametrize('text', ['', '\n\n  \n'])
def test_an_empty_text(tmp_path, text):
    write(tmp_path / 'corpus.train.txt', text)
    assert "the text of 'train' is empty" in mistake(tmp_path / 'corpus')


def test_names_and_splits_that_are_not_there(tmp_path):
    assert 'config.data.name is empty' in mistake('')
    found = mistake(tmp_path / 'corpus')
    assert f"{tmp_path / 'corpus' / 'train'}.txt" in found and f"{tmp_path / 'corpus'}.train.txt" in found
    write(tmp_path / 'corpus.train.txt')
    assert 'corpus.valid.txt' in mistake(tmp_path / 'corpus', 'valid')
    write(tmp_path / 'book.txt')
    assert "take parts of that instead of 'test'" in mistake(tmp_path / 'book.txt', 'test')
    (tmp_path / 'folder').mkdir()
    assert 'config.data.name' in mistake(tmp_path / 'folder')


def test_fields_that_do_not_fit(tmp_path):
    write(tmp_path / 'x')
    vocabulary = Vocabulary.from_meta(open_text(tmp_path / 'x').info.vocabulary)
    assert "config.text.tokens = 'letters'" in mistake(tmp_path / 'x', tokens='letters')
    assert 'config.text.num_steps = 0' in mistake(tmp_path / 'x', num_steps=0)
    assert 'config.text.streams = 0' in mistake(tmp_path / 'x', streams=0)
    short = open_text(tmp_path / 'x', 'train[:1]', vocabulary=vocabulary, num_steps=5)
    assert len(short) == 1 and np.count_nonzero(short.read(np.zeros(1, int))['targets']) == len(short.tokens) - 1
    assert "split 'train[9:]' is empty" in mistake(tmp_path / 'x', 'train[9:]')
    assert "did you mean text" in mistake_of_source(tmp_path / 'x', source='txt')
    for field, value in (('sampling', 'balanced'), ('merge_classes', (('a', ('.*',)),)), ('folds', 2)):
        assert f'config.data.{field}: a text is one stream' in mistake_of_source(tmp_path / 'x', **{field: value})


def mistake_of_source(path, **fields) -> str:
    config = base()
    config.data.update({'source': 'text', 'name': str(path)} | fields)
    with pytest.raises(UserError) as caught:
        sources.open_split(config.data, config.image, 'train', text=config.text)
    return str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    write(tmp_path / 'x')

    def refuse(self):
        raise PermissionError(13, 'Permission denied', str(self))
    monkeypatch.setattr('pathlib.Path.read_bytes', refuse)
    assert 'Permission denied' in mistake(tmp_path / 'x')
