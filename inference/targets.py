"""What a class is to the tasks that look at images: the number whose reasons are asked for."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest


@dataclasses.dataclass(frozen=True)
class Targets:
    """What a run says of classes.

    Attributes:
      names: of the classes; of a regression those of its numbers.
      rank: rank(outputs) -> float [batch, classes], by which classes are the likeliest of an image.
      score: score(outputs, reference, index) -> [batch], the class's number before it becomes a probability, of which
        gradients are taken; reference: the model's outputs for the image as it is, which say where the class is.
      share: the same as a probability, which is what is shown; for regressions the number.
      box: box(reference, index) -> float [4], left, top, right and bottom in pixels of the one object that score and
        share are about; None where they are about the whole image or many of its pixels.
      first: of the classes that are chosen where none is asked for; 1 leaves a background out.
      unit: what a share is written with.
      rank_name, share_name: what the two are, for people.
    """
    names: tuple[str, ...]
    rank: Callable[[Any], jax.Array]
    score: Callable[[Any, Any, jax.Array], jax.Array]
    share: Callable[[Any, Any, jax.Array], jax.Array]
    box: Callable[[Any, jax.Array], jax.Array] | None = None
    first: int = 0
    unit: str = '%'
    rank_name: str = 'probability'
    share_name: str = 'probability'

    def index(self, name: str) -> int:
        """Returns a class's place. Raises UserError: no such class."""
        if name not in self.names:
            raise UserError(f'--class {name}: the run knows no such class; {nearest(name, self.names)}')
        return self.names.index(name)

    def text(self, value: float) -> str:
        """Returns a share for people: '97.3 %'."""
        return f'{100 * value:.1f} %' if self.unit == '%' else f'{value:.4g}'


def targets_of(run: Any) -> Targets | None:
    """Returns what a class is to a run; None for a run that knows none: a body, or one that writes."""
    name = None if run.task is None else run.config.task.name
    if name in ('classification', 'multi_label'):
        probability = jax.nn.softmax if name == 'classification' else jax.nn.sigmoid
        return Targets(run.class_names, lambda outputs: probability(_logits(outputs)),
                       lambda outputs, _, index: _logits(outputs)[:, index],
                       lambda outputs, _, index: probability(_logits(outputs))[:, index])
    if name == 'segmentation':
        return Targets(run.class_names, _area, lambda outputs, reference, index: _inside(outputs, reference, index),
                       lambda outputs, reference, index: _inside(jax.nn.softmax(outputs), reference, index), first=1,
                       rank_name='share of the pixels', share_name='mean probability over its pixels')
    if name == 'detection':
        return Targets(run.class_names, lambda outputs: jax.nn.sigmoid(_logits(outputs).max(axis=(1, 2))), _in_cell,
                       lambda *arguments: jax.nn.sigmoid(_in_cell(*arguments)), _box,
                       **dict.fromkeys(('rank_name', 'share_name'), 'probability in the likeliest cell'))
    if name == 'regression':
        def number(outputs: Any, _: Any, index: jax.Array) -> jax.Array:
            return outputs.reshape(len(outputs), -1)[:, index]
        count = run.info.targets or 1
        names = tuple(f'value_{place}' for place in range(1, count + 1)) if count > 1 else ('value',)
        return Targets(names, lambda outputs: -jnp.arange(count) * jnp.ones((len(outputs), 1)), number, number, unit='',
                       rank_name='', share_name='number')
    return None


def _logits(outputs: Any) -> jax.Array:
    return outputs['logits'] if isinstance(outputs, Mapping) else outputs


def _cell(reference: Any, index: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns row and column of a detector's likeliest cell of a class; reference: its outputs for one image."""
    logits = jax.lax.stop_gradient(_logits(reference))[0, ..., index]
    return jnp.unravel_index(logits.argmax(), logits.shape)


def _in_cell(outputs: Any, reference: Any, index: jax.Array) -> jax.Array:
    """Returns a class's logit in the cell where `reference` has it likeliest: always of the same object, [batch]."""
    return _logits(outputs)[:, *_cell(reference, index), index]


def _box(reference: Mapping[str, jax.Array], index: jax.Array) -> jax.Array:
    """Returns the box that a detector draws from that cell, float32 [4]."""
    (x, y), sides = (reference[name][0][_cell(reference, index)] for name in ('centres', 'distances'))
    return jnp.stack([x - sides[0], y - sides[1], x + sides[2], y + sides[3]])


def _area(logits: jax.Array) -> jax.Array:
    """Returns the share of pixels that each class has, [batch, height, width, classes] -> [batch, classes]."""
    return jax.nn.one_hot(logits.argmax(axis=-1), logits.shape[-1]).mean(axis=(1, 2))


def _inside(values: jax.Array, reference: jax.Array, index: jax.Array) -> jax.Array:
    """Returns the mean of a class's values over its pixels, over all of them where it has none: [batch].

    Vinogradova et al. 2020, "Towards interpretable semantic segmentation via gradient-weighted class activation
    mapping", equation 2.

    Args:
      values: float [batch, height, width, classes].
      reference: logits of the image, [1, height, width, classes], that say which pixels these are.
      index: of the class.
    """
    pixels = (jax.lax.stop_gradient(reference).argmax(axis=-1) == index).astype(jnp.float32)
    pixels = jnp.where(pixels.any(), pixels, 1)
    return (values[..., index] * pixels).sum(axis=(1, 2)) / pixels.sum()
