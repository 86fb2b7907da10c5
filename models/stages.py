"""Networks as named stages, so that one can stop at an endpoint (`features`) or begin after one (`begin`).

The value of every endpoint can be looked at, and replaced, while a network runs (`watching`): also of those that are
not made of stages and only name what they compute (`mark`).
"""

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

from ..common.errors import UserError, nearest

Stage = tuple[str, Callable[[Any], Any]]

_recording = threading.local()  # .names: a list while `endpoints` asks a model of this thread for its stages
_watching = threading.local()  # .watch: of this thread, while there is one


def run_stages(stages: Sequence[Stage], x: Any, *, begin: str | None = None, features: str | None = None) -> Any:
    """Runs stages one after the other.

    Called from a module's compact `__call__`: a stage that is not run makes no parameters and needs none, so that the
    body of a network can be applied with the body's variables alone, and its head with the head's.

    Args:
      stages: (endpoint, function) pairs in order; an endpoint is the name of what its function returns.
      x: what goes into the first stage, or into the one after `begin`.
      begin: endpoint that x is the value of; None for the input of the network.
      features: endpoint whose value to return; None for the last.

    Raises:
      UserError: no such endpoint, or `features` does not come after `begin`.
    """
    names = [name for name, _ in stages]
    if getattr(_recording, 'names', None) == []:  # the outermost stages are the first to be run
        _recording.names += names
    for endpoint in (begin, features):
        if endpoint is not None and endpoint not in names:
            raise UserError(f'this model has no endpoint {endpoint!r}; {nearest(endpoint, names)}')
    first = 0 if begin is None else names.index(begin) + 1
    last = len(stages) if features is None else names.index(features) + 1
    if first >= last:
        raise UserError(f'endpoint {features or names[-1]!r} does not come after {begin!r}; in order: '
                        f'{", ".join(names)}')
    for name, stage in stages[first:last]:
        x = mark(name, stage(x))
    return x


def mark(endpoint: str, value: Any) -> Any:
    """Returns the value of an endpoint, or what is put in its place while somebody is `watching`."""
    watch = getattr(_watching, 'watch', None)
    return value if watch is None else watch(endpoint, value)


@contextlib.contextmanager
def watching(watch: Callable[[str, Any], Any] | None) -> Iterator[None]:
    """Has watch(endpoint, value) called for every endpoint that a network computes in this block, in their order.

    What it returns takes the value's place. Endpoints of a network inside a network, such as a captioner's body, come
    before that of which they are a part. The block belongs inside a function that is compiled, not around it.
    None: nobody is watching, whoever was before.
    """
    before = getattr(_watching, 'watch', None)
    _watching.watch = watch
    try:
        yield
    finally:
        _watching.watch = before


def endpoints(model, *inputs: Any) -> tuple[str, ...]:
    """Returns the endpoints of a flax module in order, () for one that is not made of stages; computes nothing.

    Args:
      *inputs: of the model, arrays of at least one row.
    """
    _recording.names = []
    try:
        key = jax.random.key(0)
        jax.eval_shape(lambda: model.init({'params': key, 'dropout': key}, *inputs, train=False))
        return tuple(_recording.names)
    finally:
        del _recording.names
