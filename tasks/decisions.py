"""What to do about an image, decided by the names of classes: which animals pass a door."""

import re
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..common.errors import UserError, nearest


class Decisions:
    """Groups of classes, each with one consequence.

    Args:
      pairs: (decision, class names) pairs; a name is a regular expression that fully matches names of classes,
        whatever their case. The first pair that matches a class has it.
      class_names: of the data set.

    Attributes:
      names: the decisions, in order.

    Raises:
      UserError: not such pairs, a pattern that matches no class, or a class that no pair has.
    """

    def __init__(self, pairs: Sequence[tuple[str, Sequence[str]]], class_names: Sequence[str]):
        self.names: list[str] = []
        groups = np.full(len(class_names), -1)
        for pair in pairs:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)
                    and isinstance(pair[1], tuple)):
                raise UserError(f"config.task.decisions: {pair!r} is not a pair such as ('opens', ('dog', 'wolf'))")
            decision, patterns = pair
            if decision not in self.names:
                self.names.append(decision)
            for pattern in patterns:
                try:
                    matched = [c for c, name in enumerate(class_names) if re.fullmatch(pattern, name, re.IGNORECASE)]
                except (re.error, TypeError) as error:
                    raise UserError(f'config.task.decisions: {pattern!r} is no regular expression: {error}') from error
                if not matched:
                    raise UserError(f'config.task.decisions: {pattern!r} matches no class; '
                                    f'{nearest(str(pattern), list(class_names))}')
                groups[[c for c in matched if groups[c] < 0]] = self.names.index(decision)
        if pairs and (groups < 0).any():
            left = class_names[int(np.argmax(groups < 0))]
            raise UserError(f"config.task.decisions says nothing of class {left!r}: end it with ('...', ('.*',))")
        self._groups = groups

    def __bool__(self) -> bool:
        return bool(self.names)

    def __call__(self, probabilities: np.ndarray) -> str:
        """Returns the decision with the largest probability, the sum over its classes; of one image, [classes]."""
        return self.names[int(np.argmax(np.bincount(self._groups, probabilities, len(self.names))))]

    def correct(self, probabilities: jax.Array, label: jax.Array) -> jax.Array:
        """Returns whether the decision is that for the label, float32 [batch]; probabilities: [batch, classes]."""
        member = jax.nn.one_hot(self._groups, len(self.names))
        decided = jnp.argmax(jnp.matmul(probabilities, member, precision='highest'), axis=-1)
        return (decided == jnp.asarray(self._groups)[label]).astype(jnp.float32)
