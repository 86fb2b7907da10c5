"""A training set on the devices: the same examples in the same order, and the same numbers, as from host batches."""

import jax
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.training import components, resident
from practicum.training.parallel import Parallel
from tests.test_mistakes import assert_one_line
from tests.tiny import get_config, tiny_config
from tests.tiny_text import text_config, write_corpus

RANDOM = ('augment.shift=0.2', 'augment.invert=0.5', 'model.dropout=0.5')


def rows_of(batch, training) -> dict[str, np.ndarray]:
    """A batch on the devices, on the host."""
    return training.parallel.fetch_rows(batch)


@pytest.mark.parametrize('devices, mode', [(1, 'pmap'), (8, 'pmap'), (1, 'jit'), (4, 'jit')])
@pytest.mark.parametrize('sampling', ['uniform', 'balanced'])
def test_batches_are_those_of_the_host_in_the_same_order(devices, mode, sampling):
    overrides = (f'parallel.devices={devices}', f'parallel.mode={mode}', f'data.sampling={sampling}')
    host = components.build_training(tiny_config(*overrides))
    device = components.build_training(tiny_config(*overrides, 'data.on_device=True'))
    assert device.batches.examples == host.batches.examples
    last = host.batches.examples // 16  # runs on into the second epoch
    for step in (0, 1, last):
        wanted, sent = host.batches(step), device.batches(step)
        assert set(sent) == {'row'} and sent['row'].dtype == np.int32 and sent['row'].shape == (16,)
        found = device.feed(sent)
        assert all(isinstance(values, jax.Array) for values in found.values())
        assert jax.tree.map(np.shape, found) == jax.tree.map(np.shape, host.feed(wanted))
        found = rows_of(found, device)
        assert found.keys() == wanted.keys()
        for name in wanted:
            np.testing.assert_array_equal(found[name], wanted[name])
            assert found[name].dtype == wanted[name].dtype


@pytest.mark.parametrize('mode', ['pmap', 'jit'])
def test_losses_are_the_same_to_the_bit_on_one_device(mode):
    losses = {}
    for on_device in (False, True):
        training = components.build_training(tiny_config(
            *RANDOM, 'parallel.devices=1', f'parallel.mode={mode}', f'data.on_device={on_device}'))
        state = training.place(training.initial_state())
        losses[on_device] = []
        for step in range(6):
            state, metrics = training.train_step(state, training.feed(training.batches(step)))
            losses[on_device].append(np.asarray(training.parallel.fetch(metrics)))
    np.testing.assert_array_equal(losses[True], losses[False])
    assert len(np.unique(losses[True], axis=0)) == 6


def test_a_run_with_its_data_on_the_devices_resumes_and_says_so(call_launch, tmp_path):
    """And one that goes on with batches of the host ends in the same metrics."""
    args = ('--config', str(get_config.__code__.co_filename), '--config.data.on_device=True')
    for name, steps in (('whole', (12,)), ('parts', (5, 12))):
        for number, total in enumerate(steps):
            more = ('--config.data.on_device=False',) if number else ()
            result = call_launch(*args, *more, '--workdir', tmp_path / name, f'--config.total={total} steps')
            assert result.code == 0, result.err
            assert ('is on every device' in result.out) != bool(more)
    whole, parts = ((tmp_path / name / 'metrics.jsonl').read_text().splitlines()[-1] for name in ('whole', 'parts'))
    assert [part for part in whole.split(', ') if 'test/' in part] == [
        part for part in parts.split(', ') if 'test/' in part] != []


class Device:
    """A device of little memory."""
    platform = 'gpu'

    def memory_stats(self):
        """As a GPU of jax has it."""
        return {'bytes_limit': 2 ** 20, 'bytes_in_use': 2 ** 20 - 1000}


def test_a_set_that_does_not_fit_is_one_line():
    config = tiny_config()
    parallel, training = Parallel(config.parallel), components.build_training(config)
    parallel.local = [Device()]
    with pytest.raises(UserError, match=r'config\.data\.on_device: the training set is .* GiB, a device has .* False'):
        resident.Resident(parallel, training.source)


@pytest.mark.parametrize('override', ['data.memory_limit_mb=0', 'cached_features.endpoint=dense1'])
def test_what_is_not_in_memory_is_one_line(override, call_launch, tmp_path):
    result = call_launch('--config', get_config.__code__.co_filename, '--workdir', tmp_path / 'run',
                         '--config.data.on_device=True', f'--config.{override}')
    assert_one_line(result, 'config.data.on_device', 'False')
    assert not (tmp_path / 'run').exists()


def test_texts_are_refused(tmp_path):
    config = text_config(write_corpus(tmp_path), 'data.on_device=True')
    with pytest.raises(UserError, match=r'config\.data\.on_device: .* False'):
        components.build_training(config)
