"""How a batch lies over devices while a step is traced; training/parallel.py says so, layers and steps ask here.

Under `jax.pmap` a step is traced for the rows of one device: what concerns the whole batch is reduced over a named
axis. Under one `jax.jit` over sharded arrays it is traced for the whole batch and XLA divides the work: there is no
axis, and the functions below return what they are given. A layer or a step is written once for both.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


@dataclasses.dataclass(frozen=True)
class _Division:
    axis: str | None = None
    by_xla: bool = False
    normalizes_globally: bool = True
    gather_parameters: Callable[[Any], Any] = lambda tree: tree


_UNDIVIDED = _Division()
_current: ContextVar[_Division] = ContextVar('division', default=_UNDIVIDED)


@contextlib.contextmanager
def divided(axis: str | None, *, by_xla: bool = False, normalizes_globally: bool = True,
            gather_parameters: Callable[[Any], Any] = lambda tree: tree) -> Iterator[None]:
    """Within it, steps and layers are traced for a batch that is divided in this way.

    Args:
      axis: the mapped axis over which the rows are split; None if the batch is traced in one piece.
      by_xla: whether XLA divides that one piece over several devices.
      normalizes_globally: whether BatchNorm takes its statistics over the global batch, or each device over its rows.
      gather_parameters: tree of parameters -> the same, each whole on every device; for parameters kept in shards.
    """
    token = _current.set(_Division(axis, by_xla, normalizes_globally, gather_parameters))
    try:
        yield
    finally:
        _current.reset(token)


def norm_axis() -> str | None:
    """Returns the mapped axis over which BatchNorm averages its statistics; None if it has all its rows."""
    division = _current.get()
    return division.axis if division.normalizes_globally else None


def norms_differ() -> bool:
    """Whether the devices' BatchNorm statistics differ, each being those of its own rows."""
    division = _current.get()
    return division.axis is not None and not division.normalizes_globally


def divided_by_xla() -> bool:
    """Whether neighbouring rows of this trace's batch may lie on different devices."""
    return _current.get().by_xla


def positions(rows: int) -> jax.Array:
    """Returns the places in the global batch of this trace's rows, int32 [rows]."""
    axis = _current.get().axis
    first = 0 if axis is None else lax.axis_index(axis) * rows
    return first + jnp.arange(rows)


def mean(tree: Any) -> Any:
    """Returns the mean over all parts of the batch, the same on every device."""
    axis = _current.get().axis
    return tree if axis is None else lax.pmean(tree, axis)


def total(tree: Any) -> Any:
    """Returns the sum over all parts of the batch, the same on every device."""
    axis = _current.get().axis
    return tree if axis is None else lax.psum(tree, axis)


def gather(tree: Any) -> Any:
    """Returns the rows of the global batch, [rows of all devices, ...], on every device."""
    axis = _current.get().axis
    return tree if axis is None else lax.all_gather(tree, axis, tiled=True)


def share(rows: int) -> jax.Array:
    """Returns which of so many rows, that every device has, are this trace's to work on, int32 [its share].

    Shares are equal: where the rows cannot be split evenly, the last devices work on the last row. `join` puts the
    results together.
    """
    axis = _current.get().axis
    return jnp.arange(rows) if axis is None else jnp.minimum(positions(-(-rows // lax.axis_size(axis))), rows - 1)


def join(tree: Any, rows: int) -> Any:
    """Returns the rows whose shares the devices worked on, [rows, ...], on every device."""
    return jax.tree.map(lambda leaf: leaf[:rows], gather(tree))


def stack(tree: Any) -> Any:
    """Returns what each part of the batch has, [parts, ...], on every device."""
    axis = _current.get().axis
    return jax.tree.map(lambda leaf: leaf[None], tree) if axis is None else lax.all_gather(tree, axis)


def whole(parameters: Any) -> Any:
    """Returns parameters as a network needs them, each in one piece on every device."""
    return _current.get().gather_parameters(parameters)
