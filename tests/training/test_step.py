"""One step of training in numbers that can be checked by hand."""

import json
import math
import re

import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.training import components
from practicum.training import config as config_lib
from practicum.training.checkpoints import Checkpoints
from practicum.training.loop import train

# experiments/line starts at m = -1, b = 5 and sees (1, 3) and (2, 5): errors e = m x + b - y = (1, -2), so
#   loss = mean(e^2) = 2.5,  d loss / dm = 2 mean(e x) = -3,  d loss / db = 2 mean(e) = -1.
X, Y = np.array([1.0, 2.0]), np.array([3.0, 5.0])


def loss(m: float, b: float) -> float:
    return float(np.mean((m * X + b - Y) ** 2))


@pytest.fixture(params=[(mode, devices) for mode in ('pmap', 'jit') for devices in (1, 2)], ids=str)
def first_step(request):
    """Returns the state after one step of experiments/line, on one device or with a point on each, and its metrics."""
    mode, devices = request.param
    config = config_lib.load('line', [f'parallel.mode={mode}', f'parallel.devices={devices}'])
    training = components.build_training(config)
    parallel = training.parallel
    state = training.place(training.initial_state())
    assert (float(state.params['m']), float(state.params['b'])) == (-1.0, 5.0)
    state, metrics = training.train_step(state, parallel.shard(training.batches(0)))
    return state, training.layout.unpack(parallel.fetch(metrics))


def test_golden_step(first_step):
    """If this fails, a step of every experiment means something else than it did."""
    state, metrics = first_step
    assert metrics['task'].compute()['loss'] == pytest.approx(2.5, rel=1e-6)
    assert float(metrics['gradient_norm']) == pytest.approx(math.hypot(-3, -1), rel=1e-6)
    assert float(state.params['m']) == pytest.approx(-0.7, rel=1e-6)  # -1 - 0.1 * -3
    assert float(state.params['b']) == pytest.approx(5.1, rel=1e-6)  # 5 - 0.1 * -1
    assert int(state.step) == 1


def test_gradient_is_that_of_finite_differences(first_step):
    state, _ = first_step
    h = 1e-4
    by_differences = ((loss(-1 + h, 5) - loss(-1 - h, 5)) / (2 * h), (loss(-1, 5 + h) - loss(-1, 5 - h)) / (2 * h))
    by_step = ((-1 - float(state.params['m'])) / 0.1, (5 - float(state.params['b'])) / 0.1)
    assert by_differences == pytest.approx((-3, -1), abs=1e-6)
    assert by_step == pytest.approx(by_differences, abs=1e-5)


@pytest.mark.parametrize('log_every', ['', '1 steps', '5 steps'])
def test_a_loss_that_is_not_finite_stops_at_the_last_good_checkpoint(log_every, tmp_path):
    """The error names the step; what was saved before is whole, and the run goes on from there with mended settings."""
    overrides = ['parallel.devices=1', 'total=20 steps', 'checkpoint.every=4 steps', 'tensorboard=False',
                 f'log_every={log_every}']
    # From its sixth step on the learning rate is absurd: the seventh leaps to 1e28, the eighth overflows.
    broken = [*overrides, 'schedule.name=piecewise', "schedule.boundaries=('6 steps',)", 'schedule.factors=(1e30,)']
    with pytest.raises(UserError) as failure:
        train(config_lib.load('line', broken), tmp_path)
    message = str(failure.value)
    assert 'of step 8 is not finite' in message and 'step 4 in' in message and str(tmp_path) in message
    assert '\n' not in message
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps() == [4]
        saved = checkpoints.restore('last')
    assert all(np.isfinite(value).all() for value in saved.arrays.values())
    assert not (tmp_path / 'result.json').exists()

    assert train(config_lib.load('line', overrides), tmp_path) == 0
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps()[-1] == 20


def test_a_run_that_logs_evaluates_and_saves_only_at_its_end(tmp_path):
    config = config_lib.load('line', ['parallel.devices=1', 'log_every=', 'total=3 steps', 'tensorboard=False'])
    assert train(config, tmp_path) == 0
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps() == [3]


def test_a_loss_that_is_not_finite_before_any_checkpoint_says_so(tmp_path):
    config = config_lib.load('line', ['parallel.devices=1', 'optimizer.learning_rate=1e30', 'tensorboard=False'])
    with pytest.raises(UserError, match='of step 2 is not finite .learning rate 1e.30.* there is no checkpoint yet'):
        train(config, tmp_path)
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps() == []


def test_the_line_that_was_learned_can_be_read(tmp_path, caplog):
    """In the table, for people, and in result.json."""
    caplog.set_level('INFO')
    assert train(config_lib.load('line', ['tensorboard=False', 'parallel.devices=1']), tmp_path) == 0
    learned = json.loads((tmp_path / 'result.json').read_text())['learned']
    assert learned == {'m': pytest.approx(2, abs=1e-4), 'b': pytest.approx(1, abs=1e-4)}
    assert re.search(r'^m +(2|1\.9999)', caplog.text, re.MULTILINE)
