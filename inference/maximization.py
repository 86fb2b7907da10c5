"""Activation maximisation: images that a unit or a class of a network responds to most.

Erhan et al. 2009, "Visualizing higher-layer features of a deep network": gradient ascent on the image, from noise. The
gradient alone finds high frequencies that no photograph has. So the image is shifted by random amounts (Mordvintsev et
al. 2015, "Inceptionism") and the gradient blurred, ever less (as Yosinski et al. 2015, "Understanding neural networks
through deep visualization", blur the image). Of colours the part that is common to all channels is strengthened, since
in photographs channels go together (Olah et al. 2017, "Feature visualization", decorrelate them).
"""

import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import flax
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError
from ..models.stages import watching
from .explanation import mean_over_cells

STEPS = 96
_SIDE = 128  # pixels that are enough to see what a unit responds to
_RATE = 1 / 90  # of a step, as a part of the range of pixels; gradients have length 1 per value
_BLURS = 1 / 32, 1 / 160  # standard deviations of the first and the last one, as parts of the image's side
_JITTER = 16  # the image is shifted by at most one of so many parts of its side
_GREY = 4.0  # how much more the common part of three channels counts
_WAKING = 1e-3  # what a layer's gradient counts beside that of what is made of it
_NOISE = 1 / 45  # standard deviation about middle grey, as a part of the same range


@dataclasses.dataclass(frozen=True)
class Maximized:
    """An image made for a unit or a class.

    Attributes:
      image: uint8 [height, width, channels].
      endpoint: whose unit it is; '' for a class.
      unit: channel of the endpoint, or place of the class.
      name: 'channel 17', 'unit 17' where there is no grid, or the class.
      before, after: what the noise and the image do to it: the mean over the cells of the channel, or the class's
        score before it becomes a probability.
    """
    image: np.ndarray
    endpoint: str
    unit: int
    name: str
    before: float
    after: float


def maximize_units(explainer: Any, endpoint: str, units: Sequence[int], *, steps: int = STEPS, seed: int = 0
                   ) -> list[Maximized]:
    """Returns an image for each of some channels of an endpoint.

    Args:
      explainer: see explanation.py.
      endpoint: of the network, with a grid or without.
      units: channels.
      steps: of gradient ascent.
      seed: of the noise and the shifts; the same one gives the same image of a channel, whatever the others are.

    Raises:
      UserError: no such endpoint or channel.
    """
    check(explainer, endpoint, units, seed)
    places, rows = jnp.asarray(units, jnp.int32), jnp.arange(len(units))

    def activity(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        value, before = _value_of(explainer, endpoint, variables, images)
        found, *below = (mean_over_cells(values)[rows, places] for values in (value, *before))
        # Where a ReLU lets nothing through there is no gradient: then what goes into it is to rise. Where there is one,
        # the others count next to nothing. What a unit says is no sign of it: BatchNorm makes any number of a 0.
        return found, found + sum(_WAKING**depth * values for depth, values in enumerate(below, start=1))
    found = _ascend(explainer, activity, units, steps, seed, f'maximising {endpoint}') if len(units) else ()
    kind = 'channel' if len(explainer.endpoints[endpoint]) == 3 else 'unit'
    return [Maximized(image, endpoint, int(unit), f'{kind} {unit}', *values)
            for unit, (image, *values) in zip(units, found)]


def check(explainer: Any, endpoint: str, units: Sequence[int] = (), seed: int = 0) -> None:
    """Raises UserError if there is no such endpoint or channel, or the seed is none; '' for classes alone."""
    if endpoint:
        explainer.check_endpoint(endpoint)
    channels = explainer.endpoints[endpoint][-1] if endpoint else 0
    for unit in units:
        if isinstance(unit, bool) or not isinstance(unit, numbers.Integral):
            raise UserError(f'--units {unit}: channels are whole numbers')
        if not 0 <= unit < channels:
            raise UserError(f'--units {unit}: ' + (f'{endpoint} has channels 0 to {channels - 1:,}' if endpoint else
                                                   'this network names no endpoint that has any'))
    if not 0 <= seed < 2**32:
        raise UserError(f'--seed {seed}: it must be in [0, 2**32)')


def maximize_classes(explainer: Any, names: Sequence[str], *, steps: int = STEPS, seed: int = 0) -> list[Maximized]:
    """Returns an image for each of some classes; see `maximize_units`.

    Raises:
      UserError: no such class, or a run without classes.
    """
    for name in names:
        explainer.check(name)
    indices = [explainer.targets.index(name) for name in names]

    def activity(variables: Any, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        outputs = explainer.forward(variables, images)
        found = jnp.stack([explainer.targets.score(part, part, index)[0] for part, index in (
            (jax.tree.map(lambda values, row=row: values[row:row + 1], outputs), index)
            for row, index in enumerate(indices))])
        return found, found
    found = _ascend(explainer, activity, indices, steps, seed, 'maximising classes') if names else ()
    return [Maximized(image, '', index, name, *values)
            for index, name, (image, *values) in zip(indices, names, found)]


class _Reached(Exception):
    """The network need not go on."""


def _value_of(explainer: Any, endpoint: str, variables: Any, images: jax.Array) -> tuple[jax.Array, list[jax.Array]]:
    """Returns the value of an endpoint, and those of the last two layers with weights and as many channels, last first.

    One of them is what the ReLU takes, where there is one: BatchNorm may come before or after it.
    """
    found, layers = [], {}

    def watch(name: str, value: Any) -> Any:
        if name == endpoint:
            found.append(value)
            raise _Reached
        return value

    def note(call: Callable, arguments: Any, keywords: Any, context: Any) -> Any:
        value = call(*arguments, **keywords)
        path = '/'.join(context.module.path)
        if context.method_name == '__call__' and path in explainer.layers:
            layers.pop(path, None)  # a layer that calls that of its base class is one layer
            layers[path] = value
        return value
    try:
        with watching(watch), nn.intercept_methods(note):
            explainer.forward(variables, images)
    except _Reached:
        pass
    value, = found
    before = [one for one in layers.values() if isinstance(one, jax.Array) and one.shape[::one.ndim - 1] == (
        len(value), value.shape[-1])]
    return value, before[:-3:-1]


def _ascend(explainer: Any, activity: Callable, units: Sequence[int], steps: int, seed: int, what: str
            ) -> list[tuple[np.ndarray, float, float]]:
    """Returns (image, activity of the noise, activity of the image) for each unit.

    Args:
      activity: activity(variables, images) -> what units do, and what is to rise, each float32 [units].
      units: numbers, each of which has noise of its own.
    """
    if steps < 1:
        raise UserError(f'steps = {steps}: at least 1')
    variables, (of_noise, of_shifts) = explainer.run.variables, jax.random.split(jax.random.key(seed))
    shape = _smaller(explainer, activity, len(units))
    low, high = explainer.limits()
    side = min(shape[1:3])
    jitter = side // _JITTER

    def step(variables: Any, images: jax.Array, key: jax.Array, blur: jax.Array) -> jax.Array:
        shift = jax.random.randint(key, (2,), -jitter, jitter + 1)
        gradient = jax.grad(lambda images: activity(variables, jnp.roll(images, shift, (1, 2)))[1].sum())(images)
        gradient = _blurred(gradient, blur)
        if shape[-1] == 3:
            gradient += _GREY * gradient.mean(axis=-1, keepdims=True)
        outward = (images <= low) & (gradient < 0) | (images >= high) & (gradient > 0)
        gradient = jnp.where(outward, 0, gradient)
        length = jnp.sqrt((gradient**2).mean(axis=(1, 2, 3), keepdims=True))
        return jnp.clip(images + _RATE * (high - low) * gradient / jnp.maximum(length, 1e-20), low, high)
    step, measure = jax.jit(step), jax.jit(lambda variables, images: activity(variables, images)[0])
    noise = jnp.stack([jax.random.normal(jax.random.fold_in(of_noise, int(unit)), shape[1:]) for unit in units])
    images = (low + high) / 2 + _NOISE * (high - low) * noise
    before = np.asarray(measure(variables, images))
    tick = ProgressLog(what, steps)
    for number in range(steps):  # no loop inside the function: convolutions in one are slow on CPUs
        blur = side * _BLURS[0] * (_BLURS[1] / _BLURS[0]) ** (number / max(1, steps - 1))
        images = step(variables, images, jax.random.fold_in(of_shifts, number), blur)
        tick(number)
    after = np.asarray(measure(variables, images))
    return list(zip(explainer.shown(np.asarray(images)), before.tolist(), after.tolist()))


def _blurred(values: jax.Array, deviation: jax.Array) -> jax.Array:
    """Convolves images with a Gaussian whose standard deviation is in pixels; the edges are joined, as by shifts."""
    rows, columns = (jnp.fft.fftfreq(side) for side in values.shape[1:3])
    kernel = jnp.exp(-2 * (jnp.pi * deviation) ** 2 * (rows[:, None] ** 2 + columns**2))
    return jnp.fft.ifft2(jnp.fft.fft2(values, axes=(1, 2)) * kernel[..., None], axes=(1, 2)).real


def _smaller(explainer: Any, activity: Callable, count: int) -> tuple[int, ...]:
    """Returns the shape of images that are large enough: smaller than the network's where it can take them."""
    *size, channels = explainer.shape
    small = (count, *(min(side, _SIDE) for side in size), channels)
    try:
        jax.eval_shape(activity, explainer.run.variables, jax.ShapeDtypeStruct(small, jnp.float32))
    except (flax.errors.FlaxError, UserError, TypeError, ValueError):  # dense layers that need their own size
        return (count, *size, channels)
    return small
