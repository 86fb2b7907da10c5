"""Batches are pure functions of seed and step: every example once per epoch, whatever the batch size and the hosts."""

import threading
import time

import numpy as np
import pytest

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import batches as batches_module
from practicum.input_pipeline import sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.batches import EvalBatches, TrainBatches, stream
from practicum.input_pipeline.source import Source
from tests.tiny import tiny_config


def make_source(total):
    """Examples that know their own index."""
    return ArraySource({'index': np.arange(total), 'twice': 2 * np.arange(total)}, DatasetInfo())


class SlowSource(Source):
    """Reads from several threads, and late, like a disk."""

    def __init__(self, total, delay=0.0):
        self._source, self._delay, self.threads = make_source(total), delay, set()
        self.info = DatasetInfo()

    def __len__(self):
        return len(self._source)

    def read(self, indices, uniforms=None):
        self.threads.add(threading.current_thread().name)
        time.sleep(self._delay * (1 + indices[0] % 3))
        return self._source.read(indices)


@pytest.mark.parametrize('total', [1, 2, 10, 17])
@pytest.mark.parametrize('batch_size', [1, 3, 8, 10, 16, 17, 50])
def test_each_epoch_shows_each_example_exactly_once(batch_size, total):
    """Also where batches run on across the end of an epoch, and where one batch holds several epochs."""
    batches = TrainBatches(make_source(total), batch_size, seed=0)
    epochs = 6
    shown = np.concatenate([batches.indices(step) for step in range(-(-epochs * total // batch_size))])
    assert all(len(batches.indices(step)) == batch_size for step in range(3))
    for epoch in range(epochs):
        assert sorted(shown[epoch * total:(epoch + 1) * total]) == list(range(total))


def test_epochs_and_seeds_have_orders_of_their_own():
    def order(seed, epoch):
        return tuple(TrainBatches(make_source(100), 100, seed).indices(epoch))
    orders = {order(seed, epoch) for seed in range(5) for epoch in range(5)}
    assert len(orders) == 25 and tuple(range(100)) not in orders


def test_a_batch_depends_on_seed_and_step_alone():
    """Not on what was read before: a resumed run sees what an unbroken one would have seen."""
    walked = TrainBatches(make_source(50), 8, seed=3)
    in_order = [walked.indices(step).copy() for step in range(40)]
    for step in (39, 0, 17, 17, 5):
        np.testing.assert_array_equal(TrainBatches(make_source(50), 8, seed=3).indices(step), in_order[step])
        np.testing.assert_array_equal(walked.indices(step), in_order[step])
    assert not np.array_equal(TrainBatches(make_source(50), 8, seed=4).indices(0), in_order[0])


def test_the_order_is_the_same_in_every_release():
    """If this fails, resuming an old run no longer goes on with the same batches."""
    assert TrainBatches(make_source(10), 12, seed=0).indices(0).tolist() == [0, 7, 8, 6, 9, 5, 1, 3, 2, 4, 9, 4]


def test_a_step_far_out_replays_no_epoch_before_it(monkeypatch):
    permuted = []
    real = TrainBatches._permute
    monkeypatch.setattr(TrainBatches, '_permute', lambda self, epoch: permuted.append(epoch) or real(self, epoch))
    assert len(TrainBatches(make_source(1000), 64, seed=0).indices(10**9)) == 64
    assert permuted == [64 * 10**9 // 1000]


@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_the_rows_of_the_hosts_make_up_the_global_batch(hosts):
    whole = TrainBatches(make_source(37), 8, seed=1)
    share = 8 // hosts
    parts = [TrainBatches(make_source(37), 8, seed=1, rows=slice(i * share, (i + 1) * share)) for i in range(hosts)]
    for step in range(12):
        together = [part(step) for part in parts]
        for name in ('index', 'twice'):
            np.testing.assert_array_equal(np.concatenate([batch[name] for batch in together]), whole(step)[name])


def test_a_batch_may_be_changed_without_harm_to_the_data():
    source = make_source(10)
    batches = TrainBatches(source, 10, seed=0)
    before = batches(0)['index'].copy()
    batches(0)['index'][:] = -1
    np.testing.assert_array_equal(batches(0)['index'], before)


class Drawing(Source):
    """A source that returns the numbers it is given."""
    needs_rng = True

    def __len__(self):
        return 23

    def read(self, indices, uniforms=None):
        return {'index': indices, 'uniforms': uniforms}


@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_random_numbers_belong_to_the_rows_of_the_global_batch(hosts):
    share = 8 // hosts
    whole = [TrainBatches(Drawing(), 8, seed=1)(step)['uniforms'] for step in range(5)]
    parts = [TrainBatches(Drawing(), 8, seed=1, rows=slice(i * share, (i + 1) * share)) for i in range(hosts)]
    together = [np.concatenate([part(step)['uniforms'] for part in parts]) for step in range(5)]
    np.testing.assert_array_equal(together, whole)
    assert len(np.unique(whole)) == 5 * 8 * 4 and np.min(whole) >= 0 and np.max(whole) < 1
    assert not np.isin(TrainBatches(Drawing(), 8, seed=2)(0)['uniforms'], whole).any()


def test_evaluation_leaves_nothing_to_chance():
    assert EvalBatches(Drawing(), 8)(0)['uniforms'] is None


def test_random_numbers_stay_what_they_are():
    """A resumed run would otherwise see other images than the one that was interrupted."""
    np.testing.assert_allclose(TrainBatches(Drawing(), 2, seed=0).uniforms(3), [
        [0.048691, 0.573004, 0.943306, 0.415253], [0.035261, 0.12768, 0.246442, 0.691185]], atol=1e-6)


# --- balanced classes ---

def unbalanced(counts=(90, 9, 1)) -> ArraySource:
    labels = np.repeat(np.arange(len(counts)), counts).astype(np.int32)
    return ArraySource({'label': labels, 'index': np.arange(len(labels))}, DatasetInfo(class_names=tuple('abc')))


def test_balanced_sampling_shows_each_class_equally_often():
    batches = TrainBatches(unbalanced(), 30, seed=0, sampling='balanced')
    shown = np.concatenate([batches(step)['label'] for step in range(200)])
    assert np.abs(np.bincount(shown) / len(shown) - 1 / 3).max() < 0.02  # three standard deviations
    assert len({int(i) for step in range(200) for i in batches(step)['index']}) == 100, 'every example is met'
    assert batches.examples == 100, 'an epoch is as long as it was'
    # A function of seed and step alone, whatever was read before, on any number of hosts.
    again = TrainBatches(unbalanced(), 30, seed=0, sampling='balanced')
    np.testing.assert_array_equal(again.indices(123), batches.indices(123))
    halves = [TrainBatches(unbalanced(), 30, 0, slice(15 * h, 15 * h + 15), 'balanced')(7)['index'] for h in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(halves), batches(7)['index'])
    assert (TrainBatches(unbalanced(), 30, 1, sampling='balanced').indices(0) != batches.indices(0)).any()


def test_balanced_sampling_needs_classes():
    with pytest.raises(UserError, match="config.data.sampling = 'balanced': these examples have no label each"):
        TrainBatches(make_source(10), 4, seed=0, sampling='balanced')


def test_streams_are_balanced_too():
    config = tiny_config()
    config.data.sampling, config.data.memory_limit_mb = 'balanced', 0
    source = sources.open_split(config.data, config.image, 'train[:30%]', training=True)
    assert not isinstance(source, ArraySource)
    np.testing.assert_array_equal(source.labels, source.read(np.arange(len(source)))['label'])
    config.data.sampling = 'balance'
    with pytest.raises(UserError, match='did you mean balanced'):
        sources.open_split(config.data, config.image, 'train')


# --- evaluation ---

@pytest.mark.parametrize('total', [1, 7, 8, 9, 23])
@pytest.mark.parametrize('batch_size', [1, 4, 8, 30])
@pytest.mark.parametrize('hosts', [1, 2, 4])
def test_evaluation_covers_each_example_once_on_any_number_of_hosts(hosts, batch_size, total):
    """Padded to one size and masked; every host has the same number of batches, or the others would wait for ever."""
    batch_size = -(-batch_size // hosts) * hosts
    share = batch_size // hosts
    parts = [EvalBatches(make_source(total), batch_size, slice(i * share, (i + 1) * share)) for i in range(hosts)]
    assert {len(part) for part in parts} == {-(-total // batch_size)}
    shown = []
    for number in range(len(parts[0])):
        for part in parts:
            batch = part(number)
            assert batch['mask'].dtype == np.float32 and {len(values) for values in batch.values()} == {share}
            shown += list(batch['index'][batch['mask'] == 1])
            assert set(batch['mask']) <= {0.0, 1.0}
    assert shown == list(range(total))  # in order, too


# --- streaming ---

@pytest.mark.parametrize('workers', [0, 1, 3])
def test_streaming_keeps_the_order_and_every_number(workers):
    source = SlowSource(40, delay=0.001)
    make = TrainBatches(source, 4, seed=0)
    expected = [TrainBatches(make_source(40), 4, seed=0)(step)['index'] for step in range(5, 25)]
    found = [batch['index'] for batch in stream(make, range(5, 25), source=source, workers=workers)]
    np.testing.assert_array_equal(found, expected)
    assert all(name.startswith('read') for name in source.threads)


def test_streaming_reads_ahead_but_not_without_bound():
    source, asked = SlowSource(1000), []

    def make(number):
        asked.append(number)
        return number
    numbers = stream(make, range(1000), source=source, workers=2)
    assert next(numbers) == 0
    time.sleep(0.05)
    assert 1 < len(asked) <= 6
    numbers.close()
    assert len(asked) <= 6


@pytest.mark.parametrize('kind', [lambda source: TrainBatches(source, 50, seed=2),
                                  lambda source: EvalBatches(source, 50)])
def test_a_batch_is_read_by_several_threads_together(kind):
    source = SlowSource(120, delay=0.002)
    whole = [kind(make_source(120))(number) for number in range(3)]
    found = list(stream(kind(source), range(3), source=source, workers=4))
    for a, b in zip(whole, found, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])
    assert len(source.threads) > 1
    assert [len(part()['index']) for part in kind(source).parts(0, 4)] == [12, 13, 12, 13]


def test_few_batches_are_in_flight_however_many_cores_there_are():
    source, read = SlowSource(100_000), []

    class Counted(TrainBatches):
        def parts(self, number, count):
            read.append(number)
            return super().parts(number, count)
    batches = stream(Counted(source, 1024, seed=0), range(90), source=source, workers=64)
    next(batches)
    batches.close()
    assert len(read) <= 5


@pytest.mark.parametrize('limit, most', [(10**9, 5), (3.5, 4), (1.5, 2), (0, 2)])
def test_large_batches_in_flight_are_bounded_by_their_bytes(limit, most, monkeypatch):
    """Counted in batches: so many are being read or wait when the next one is asked for."""
    source, read = SlowSource(100_000), []
    batch = 2 * 8 * 1024  # 'index' and 'twice'
    monkeypatch.setattr(batches_module, '_AHEAD_BYTES', int(limit * batch))

    class Counted(TrainBatches):
        def parts(self, number, count):
            read.append(number)
            return super().parts(number, count)
    stream_ = stream(Counted(source, 1024, seed=0), range(90), source=source, workers=2)
    ahead = [len(read) - taken for taken, _ in enumerate(stream_)]
    assert len(read) == 90 and max(ahead) == most and ahead[0] == 2, 'of the first nobody knows the size'


def test_an_error_while_reading_reaches_the_reader():
    def make(number):
        if number == 3:
            raise ValueError('broken file')
        return number
    numbers = stream(make, range(10), source=SlowSource(10), workers=2)
    assert [next(numbers) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match='broken file'):
        next(numbers)


@pytest.mark.parametrize('split, invert', [('train', False), ('train[10%:50%]', False), ('validation', True)])
def test_memory_and_streaming_give_identical_batches(split, invert):
    """data.memory_limit_mb is about speed alone."""
    config = tiny_config()
    in_memory = sources.open_split(config.data, config.image, split, invert=invert)
    config.data.memory_limit_mb = 0
    streaming = sources.open_split(config.data, config.image, split, invert=invert)
    assert isinstance(in_memory, ArraySource) and not isinstance(streaming, ArraySource)
    assert len(in_memory) == len(streaming) and in_memory.info == streaming.info
    for kind in (lambda source: TrainBatches(source, 16, seed=2), lambda source: EvalBatches(source, 100)):
        numbers = range(2)
        for a, b in zip(stream(kind(in_memory), numbers, source=in_memory),
                        stream(kind(streaming), numbers, source=streaming, workers=2), strict=True):
            assert a.keys() == b.keys()
            for name in a:
                assert a[name].dtype == b[name].dtype
                np.testing.assert_array_equal(a[name], b[name])


def test_a_part_reads_its_own_examples():
    source = SlowSource(20)
    part = source.select(np.arange(5, 9))
    assert len(part) == 4
    np.testing.assert_array_equal(part.read(np.array([0, 3]))['index'], [5, 8])
