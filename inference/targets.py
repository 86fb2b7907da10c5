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
      first: of the classes that are chosen where none is asked for; 1 leaves a background out.
      unit: what a share is written with.
      rank_name, share_name: what the two are, for people.
    """
    names: tuple[str, ...]
    rank: Callable[[Any], jax.Array]
    score: Callable[[Any, Any, jax.Array], jax.Array]
    share: Callable[[Any, Any, jax.Array], jax.Array]
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
        def best(outputs: Any, _: Any, index: jax.Array) -> jax.Array:
            return _logits(outputs)[..., index].max(axis=(1, 2))
        return Targets(run.class_names, lambda outputs: jax.nn.sigmoid(_logits(outputs).max(axis=(1, 2))), best,
                       lambda *arguments: jax.nn.sigmoid(best(*arguments)),
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
