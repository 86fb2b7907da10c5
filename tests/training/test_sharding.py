"""States in shards: which arrays are divided, how much a device keeps, and that checkpoints do not depend on it."""

import json

import jax
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.training import checkpoints, components
from practicum.training.loop import train
from practicum.training.sharding import Sharding
from practicum.training.step import TrainState
from tests.tiny import tiny_config

FSDP = ('parallel.mode=jit', 'parallel.sharding=fsdp', 'parallel.min_shard_mb=0')
PATH = 'opt_state/0/mu/conv1/kernel'


def dimension(shape, *overrides, path=PATH, devices=4):
    config = tiny_config('parallel.mode=jit', *overrides).parallel
    return Sharding(config, devices).dimension(path, np.zeros(shape, np.float32))


# Which dimension


@pytest.mark.parametrize('shape, wanted', [
    ((3, 3, 64, 128), 3), ((3, 3, 128, 64), 2), ((3, 8, 6), 1), ((64, 64), 0), ((7, 5), None),
    ((), None), ((2,), None)])
def test_the_largest_dimension_that_can_be_shared_is_divided(shape, wanted):
    assert dimension(shape, 'parallel.sharding=fsdp', 'parallel.min_shard_mb=0') == wanted


def test_small_arrays_stay_whole():
    assert dimension((512, 512), 'parallel.sharding=fsdp', 'parallel.min_shard_mb=1') == 0  # exactly 1 MB
    assert dimension((512, 511), 'parallel.sharding=fsdp', 'parallel.min_shard_mb=1') is None


@pytest.mark.parametrize('path', ['conv1/kernel', 'opt_state/0/mu/conv1/kernel', 'ema/params/conv1/kernel'])
def test_the_first_rule_that_matches_a_parameter_decides_for_all_that_is_kept_for_it(path):
    rules = "parallel.sharding_rules=(('conv1/.*', 1), ('.*', 'fsdp'))"
    assert dimension((8, 4), rules, 'parallel.min_shard_mb=0', path=path) == 1
    assert dimension((8, 4), rules, 'parallel.min_shard_mb=0', path=path.replace('conv1', 'xconv1')) == 0
    assert dimension((8, 4), "parallel.sharding_rules=(('.*kernel', 'replicated'),)", 'parallel.sharding=fsdp',
                     'parallel.min_shard_mb=0', path=path) is None


@pytest.mark.parametrize('overrides, message', [
    (('parallel.sharding=fdsp',), "config.parallel.sharding = 'fdsp'; .*fsdp"),
    (("parallel.sharding_rules=('.*', 'fsdp')",), 'is no rule'),
    (("parallel.sharding_rules=(('(', 'fsdp'),)",), 'not a regular expression'),
    (("parallel.sharding_rules=(('.*', 'shard'),)",), "'shard'"),
    (("parallel.sharding_rules=(('dense1/kernl', 'fsdp'),)",), 'matches nothing'),
    (("parallel.sharding_rules=(('dense1/kernel', 7),)",), 'dimension 7'),
    (("parallel.sharding_rules=(('dense1/kernel', -1),)",), '-1 for'),
    (("parallel.sharding_rules=(('dense1/.*', 1),)",), 'has no dimension 1'),
    (('parallel.min_shard_mb=-1',), 'at least 0'),
    (('profile.start_step=12', 'profile.steps=2'), 'no such step, the training has 12'),
    (('parallel.mode=pmap', 'parallel.sharding=fsdp'), "need config.parallel.mode = 'jit'"),
    (('parallel.batch_norm=device',), "needs config.parallel.mode = 'pmap'"),
    (('parallel.batch_norm=local',), "'global' and 'device'"),
])
def test_mistakes_are_named(overrides, message):
    with pytest.raises(UserError, match=message):
        training = components.build_training(tiny_config('parallel.mode=jit', *overrides))
        training.place(training.initial_state())


# What a device keeps


@pytest.mark.parametrize('count', [2, 4, 8])
def test_a_device_keeps_its_share_of_the_state(count):
    """Parameters, both moments of adam and the averages: the share and, whole, what cannot be divided."""
    training = components.build_training(tiny_config(
        *FSDP, f'parallel.devices={count}', 'optimizer.name=adam', 'ema_decay=0.9', 'model.hidden=(64,32)'))
    state = training.place(training.initial_state())
    for step in range(2):  # and it stays so
        kept, whole, undivided = 0, 0, 0
        for leaf in jax.tree.leaves(state):
            whole += leaf.nbytes
            kept += leaf.addressable_shards[0].data.nbytes
            undivided += leaf.nbytes if not any(size % count == 0 for size in leaf.shape if size) else 0
        assert undivided < 0.02 * whole
        assert kept <= 1.1 / count * whole + undivided
        state, _ = training.train_step(state, training.parallel.shard(training.batches(step)))


def test_the_state_comes_back_from_shards_as_it_went_there():
    training = components.build_training(tiny_config(*FSDP, 'parallel.devices=8', 'ema_decay=0.9'))
    state = training.initial_state()
    jax.tree.map(np.testing.assert_array_equal, training.fetch(training.place(state)), jax.device_get(state))
    assert jax.tree.structure(TrainState.places()).num_leaves == 8


@pytest.mark.parametrize('mb, line', [
    (0, 'a device keeps 0.0 MB of the 0.0 MB'), (1, 'divides no parameter over 4 devices')])
def test_a_sharding_without_effect_says_so(tmp_path, caplog, mb, line):
    config = tiny_config(*FSDP, f'parallel.min_shard_mb={mb}', 'parallel.devices=4', 'total=1 steps')
    with caplog.at_level('INFO'):
        assert train(config, tmp_path) == 0
    assert line in caplog.text and ('divides no parameter' in caplog.text) == bool(mb)


# Checkpoints


def test_a_run_goes_on_with_another_number_of_devices_and_in_another_mode(tmp_path):
    """4 devices in shards, 2 in shards, 1 as pmap has it: the losses of a run on one device throughout."""
    common = ('optimizer.name=sgd', 'ema_decay=0.9', 'log_every=4 steps')
    legs = [('total=4 steps', 'parallel.devices=4', *FSDP), ('total=8 steps', 'parallel.devices=2', *FSDP),
            ('total=12 steps', 'parallel.devices=1')]
    for leg in legs:
        assert train(tiny_config(*common, *leg), tmp_path / 'moved') == 0
        whole = checkpoints.read(tmp_path / 'moved', 'last').arrays
        assert whole['params/dense1/kernel'].shape == (64, 16)
    assert train(tiny_config(*common, 'parallel.devices=1'), tmp_path / 'still') == 0
    losses = {name: {(row['step'], key): row[key] for row in map(json.loads, (tmp_path / name / 'metrics.jsonl').open())
                     for key in ('validation/loss', 'test/loss', 'train/loss') if key in row}
              for name in ('moved', 'still')}
    assert len(losses['still']) == 7  # 3 evaluations and a final one, 3 windows
    assert {place: losses['moved'][place] for place in losses['still']} == pytest.approx(losses['still'], rel=1e-6)
