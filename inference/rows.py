"""Examples that are no images: rows of a table, or what is seen of a game."""

import contextlib
from typing import TYPE_CHECKING

import flax
import jax
import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError
from ..training import array_paths
from .network import Network

if TYPE_CHECKING:
    from .run import Run


def row_shape(run: 'Run', network: Network) -> tuple[int, ...] | None:
    """Returns the shape of an example, () of a single number; None where nothing says it.

    The task may know it, or the config; otherwise the checkpoint does, by its kernels alone.
    """
    if run.task.row_shape is not None:
        return run.task.row_shape
    if (known := run.config.data.arrays.get(run.feature)) is not None:
        return np.shape(known)[1:]
    for path, array in array_paths.flatten(network.variables).items():
        if path.endswith('/kernel') and array.ndim == 2:
            row = jax.ShapeDtypeStruct((1, array.shape[0]), jnp.float32)
            with contextlib.suppress(flax.errors.FlaxError, TypeError, UserError):
                jax.eval_shape(network.function, network.variables, {run.feature: row})
                return array.shape[:1]
    return None
