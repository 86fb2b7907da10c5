"""What a task that makes its own batches has lived through: part of the state, on any devices, and exactly resumed."""

import json
import os
import signal

import jax
import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.tasks import Task
from practicum.tasks.environments.cartpole import CartPole
from practicum.tasks.q_learning import QLearning
from practicum.training import components, evaluation
from practicum.training.checkpoints import Checkpoints
from practicum.training.loop import train
from practicum.training.parallel import Parallel
from practicum.training.state import evaluated_variables
from practicum.training.window import MetricWindow
from tests.tiny import tiny_config
from tests.tiny_game import game_config


@pytest.fixture(autouse=True, scope='module')
def short_episodes():
    """At most 30 steps, so that they are soon played."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CartPole, 'limit', 30)
        yield


def take_steps(*overrides, steps=5):
    """Returns the state after some steps, and the `Training`."""
    training = components.build_training(game_config(*overrides))
    state = training.place(training.initial_state())
    for step in range(steps):
        state, _ = training.train_step(state, training.feed(training.batches(step)))
    return training.fetch(state), training


@pytest.fixture(scope='module')
def one_device():
    return take_steps('parallel.devices=1')


@pytest.mark.parametrize('count, mode', [pytest.param(4, 'pmap', marks=pytest.mark.thorough), (2, 'jit')])
def test_devices_share_environments_and_remember_the_same(one_device, count, mode):
    """There are three, which no number of devices shares evenly: the same actions, the same transitions."""
    wanted, _ = one_device
    found, training = take_steps(f'parallel.devices={count}', f'parallel.mode={mode}')
    assert training.parallel.count == count
    ours, theirs = found.experience, wanted.experience
    np.testing.assert_array_equal(ours.replay.rows['action'], theirs.replay.rows['action'])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=5e-6, atol=5e-6), ours, theirs)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found.params, wanted.params)


def test_every_step_adds_a_transition_of_each_environment(one_device):
    state, _ = one_device
    assert int(state.experience.replay.filled) == 15 + 5 * 3 and len(np.unique(state.experience.states.place)) == 3
    jax.tree.map(np.testing.assert_array_equal, jax.tree.map(np.shape, state.experience.target),
                 jax.tree.map(np.shape, state.params))


def test_episodes_of_an_evaluation_depend_on_nothing_but_their_seeds(one_device):
    state, trained = one_device

    def rows(*overrides):
        config = game_config(*overrides)
        evaluations = evaluation.Evaluations(config, Parallel(config.parallel), trained.task, trained.info,
                                             ('validation',))
        variables = evaluations.parallel.place(evaluated_variables(state.variables))
        return evaluation.evaluate(evaluations, 'validation', variables)
    wanted = rows('parallel.devices=1')
    assert [row['seed'] for row in wanted.examples] == list(map(str, range(10_000, 10_006)))
    assert all(row['return'] == row['length'] <= 30 for row in wanted.examples)
    returns = [row['return'] for row in wanted.examples]
    assert wanted.scalars() == pytest.approx({
        'mean_return': np.mean(returns), 'mean_length': np.mean(returns), 'min_return': min(returns),
        'max_return': max(returns), 'std_return': np.std(returns)})
    assert rows('parallel.devices=2', 'evaluation.batch_size=4', 'seed=3').examples == wanted.examples


# Runs


def outcome(workdir) -> dict:
    """Returns the arrays of all checkpoints as bytes, and the metrics without times."""
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    for row in rows:
        row.pop('timings', None)
    with Checkpoints(workdir, writable=False) as checkpoints:
        return {'rows': rows, 'arrays': {step: {path: value.tobytes() for path, value in
                                                checkpoints.restore(step).arrays.items()}
                                         for step in checkpoints.steps()}}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run of 12 steps on two devices."""
    workdir = tmp_path_factory.mktemp('run')
    assert train(game_config('parallel.devices=2'), workdir) == 0
    return workdir


def test_a_run_that_is_asked_to_stop_ends_in_the_same_bits(run, tmp_path, monkeypatch):
    """After step 7, between two checkpoints and in the middle of a target's life."""
    monkeypatch.setattr(QLearning, 'model_figures', Task.model_figures)  # not what this is about
    add, steps = MetricWindow.add, []

    def stop_after_seven(self, metrics):
        add(self, metrics)
        steps.append(1)
        if len(steps) == 7:
            os.kill(os.getpid(), signal.SIGTERM)
    monkeypatch.setattr(MetricWindow, 'add', stop_after_seven)
    assert train(game_config('parallel.devices=2'), tmp_path) == 128 + signal.SIGTERM
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        saved = checkpoints.restore('last')
    assert saved.step == 7 and saved.arrays['experience/replay/filled'] == 15 + 7 * 3
    assert train(game_config('parallel.devices=2'), tmp_path) == 0
    assert outcome(tmp_path) == outcome(run)


def test_an_episode_is_a_moving_picture_and_a_sheet_of_the_report(run, call_launch):
    with Image.open(run / 'episode.gif') as picture:
        assert picture.n_frames > 5 and picture.size == (160, 80) and picture.info['duration'] == 20
    assert (run / 'frames.png').stat().st_size > 1000
    assert call_launch('report', '--workdir', run).code == 0
    page = (run / 'report.html').read_text()
    assert page.count('data:image/gif;base64,') == 1
    assert json.loads((run / 'result.json').read_text())['metrics']['test/mean_return'] <= 30


def test_other_experience_does_not_fit_a_run(run):
    """Another number of environments, another memory: one line, and nothing is changed."""
    with pytest.raises(UserError, match='experience/.* of shape') as caught:
        train(game_config('parallel.devices=2', 'task.environments=2', 'total=20 steps'), run)
    assert '\n' not in str(caught.value)


def test_too_large_a_memory_is_one_line(tmp_path):
    with pytest.raises(UserError, match='of the .* this machine has'):
        train(game_config('task.replay=2000000000', 'task.environment=breakout'), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()


def test_tasks_that_learn_from_data_have_none():
    """Nothing of it is in their states, nor in checkpoints (see test_resume.py): those of earlier versions are read."""
    training = components.build_training(tiny_config('parallel.devices=1'))
    assert not training.task.collects and jax.tree.leaves(training.initial_state().experience) == []
