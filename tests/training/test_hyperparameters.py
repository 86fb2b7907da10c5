"""Seed, learning rate and weight decay are inputs of the compiled steps, so that runs share executables."""

import json

import jax
import numpy as np
import pytest

from practicum.training import components
from practicum.training.loop import train
from tests.tiny import tiny_config

OTHER = ('seed=7', 'optimizer.learning_rate=0.004', 'optimizer.weight_decay=0.03')
DECAY = ('optimizer.name=adamw', 'optimizer.weight_decay=0.01')


def lowered(*overrides: str) -> str:
    """The program of a train step as XLA gets it."""
    training = components.build_training(tiny_config(*DECAY, 'schedule.name=cosine', 'ema_decay=0.9', *overrides))
    state = training.place(training.initial_state())
    return training.train_step.lower(state, training.parallel.shard(training.batches(0))).as_text()


def test_runs_that_differ_in_them_compile_the_same_step():
    assert lowered() == lowered(*OTHER)
    assert lowered() != lowered('optimizer.b1=0.8')  # what is a constant of it shows


def test_a_second_run_adds_nothing_to_the_cache_of_compiled_steps(tmp_path, monkeypatch):
    """Initialisation, training and evaluation: none of them is compiled again."""
    compiled = tmp_path / 'compiled'
    before = jax.config.jax_compilation_cache_dir
    from jax._src import compilation_cache
    try:
        compilation_cache.reset_cache()
        jax.config.update('jax_compilation_cache_dir', str(compiled))
        train(tiny_config(*DECAY, 'total=8 steps'), tmp_path / 'first')
        entries = {path.name for path in compiled.iterdir() if not path.name.endswith('-atime')}
        assert entries
        jax.clear_caches()
        train(tiny_config(*DECAY, 'total=8 steps', *OTHER), tmp_path / 'second')
        assert {path.name for path in compiled.iterdir() if not path.name.endswith('-atime')} == entries
    finally:
        compilation_cache.reset_cache()
        jax.config.update('jax_compilation_cache_dir', before)
    metrics = [json.loads((tmp_path / name / 'result.json').read_text())['metrics'] for name in ('first', 'second')]
    assert metrics[0] != metrics[1]


@pytest.mark.parametrize('override', OTHER)
def test_each_of_them_changes_what_is_learned(override):
    def params(*overrides):
        training = components.build_training(tiny_config(*DECAY, 'parallel.devices=1', *overrides))
        state = training.place(training.initial_state())
        state, _ = training.train_step(state, training.parallel.shard(training.batches(0)))
        return jax.tree.leaves(jax.tree.map(np.asarray, state.params))
    assert any(not np.array_equal(a, b) for a, b in zip(params(), params(override)))


def test_the_logged_learning_rate_is_that_of_the_last_step_of_the_window(tmp_path):
    config = tiny_config('total=8 steps', 'log_every=4 steps', 'optimizer.learning_rate=0.01', 'schedule.name=cosine')
    train(config, tmp_path)
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    rates = {row['step']: row['train/learning_rate'] for row in rows if 'train/learning_rate' in row}
    expected = {step: 0.01 * 0.5 * (1 + np.cos(np.pi * (step - 1) / 8)) for step in (4, 8)}
    assert rates == pytest.approx(expected, rel=1e-5)


def test_they_come_from_the_config_when_a_run_is_resumed(tmp_path):
    train(tiny_config('total=4 steps', 'log_every=2 steps'), tmp_path)
    train(tiny_config('total=8 steps', 'log_every=2 steps', 'optimizer.learning_rate=0.5'), tmp_path)
    rows = [json.loads(line) for line in (tmp_path / 'metrics.jsonl').read_text().splitlines()]
    later = [row for row in rows if row['step'] > 4 and 'train/learning_rate' in row]
    assert [row['train/learning_rate'] for row in later] == [0.5, 0.5]
