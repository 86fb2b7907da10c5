"""A run that is gone on with, beside the one that was never interrupted."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from practicum.training.checkpoints import Checkpoints
from practicum.training.loop import train


def check_the_same_bits(run: Path, make_config: Callable[..., ConfigDict], copy: Path) -> dict[str, np.ndarray]:
    """Goes on in a copy of a run of 12 steps as if it had been killed after step 6, which is in its folder.

    Returns:
      The arrays of step 12, which are equal.
    """
    shutil.copytree(run, copy)
    shutil.rmtree(copy / 'checkpoints' / '12')
    assert train(make_config('parallel.devices=1', 'figures=False', 'evaluation.every=', 'evaluation.final=()'),
                 copy) == 0
    arrays = []
    for workdir in (run, copy):
        with Checkpoints(workdir, writable=False) as checkpoints:
            arrays.append(checkpoints.restore(12).arrays)
    assert arrays[0].keys() == arrays[1].keys()
    for path, values in arrays[0].items():
        np.testing.assert_array_equal(arrays[1][path], values, err_msg=path)
    return arrays[0]
