"""Small trees to save, a different one for every step, and whether a checkpoint holds them."""

from pathlib import Path

import numpy as np

from practicum.training.checkpoints import Checkpoints, flatten


def make_trees(step: int) -> tuple[dict, dict]:
    """Returns the variables and the training state of a step; no two steps share a number."""
    generator = np.random.default_rng(step)
    params = {'conv': {'kernel': generator.normal(size=(32, 32)).astype(np.float32),
                       'bias': np.zeros(32, np.float32)}}
    return ({'params': params, 'batch_stats': {}, 'ema': {}},
            {'opt_state': {'mu': generator.normal(size=100).astype(np.float32)}, 'step': np.asarray(step, np.int32)})


def arrays_of(step: int) -> dict[str, np.ndarray]:
    variables, training = make_trees(step)
    return flatten(variables) | flatten(training)


def save_steps(workdir: Path, steps, *, best=lambda step: step / 10, **options) -> None:
    with Checkpoints(workdir, writable=True, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, *make_trees(step), {'note': f'step {step}'}, best=best(step))


def assert_holds(checkpoint, step: int) -> None:
    assert checkpoint.step == checkpoint.meta['step'] == step
    assert checkpoint.meta['note'] == f'step {step}'
    wanted = arrays_of(step)
    assert set(checkpoint.arrays) == set(wanted)
    for path, value in wanted.items():
        assert checkpoint.arrays[path].dtype == value.dtype
        np.testing.assert_array_equal(checkpoint.arrays[path], value)


def assert_intact(workdir: Path, step: int) -> None:
    with Checkpoints(workdir, writable=False) as checkpoints:
        assert checkpoints.steps()[-1] == step
        assert_holds(checkpoints.restore('last'), step)
