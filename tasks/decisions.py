"""What to do about an image, decided by the names of classes: which animals pass a door."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ..common.class_groups import group_of_classes
from ..common.errors import UserError

_FIELD = 'config.task.decisions'


class Decisions:
    """Groups of classes, each with one consequence.

    Args:
      pairs: (decision, class names or regular expressions) pairs, see common/class_groups.py. The first pair that
        matches a class has it.
      class_names: of the data set.

    Attributes:
      names: the decisions, in order.

    Raises:
      UserError: not such pairs, a pattern that matches no class, or a class that no pair has.
    """

    def __init__(self, pairs: Sequence[tuple[str, Sequence[str]]], class_names: Sequence[str]):
        for pair in pairs:
            if not (isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)
                    and isinstance(pair[1], tuple)):
                raise UserError(f"{_FIELD}: {pair!r} is not a pair such as ('opens', ('dog', 'wolf'))")
        decisions = [decision for decision, _ in pairs]
        self.names: list[str] = list(dict.fromkeys(decisions))
        pair_of_class = group_of_classes([patterns for _, patterns in pairs], class_names, _FIELD)
        if pairs and (pair_of_class < 0).any():
            left = class_names[int(np.argmax(pair_of_class < 0))]
            raise UserError(f"{_FIELD} says nothing of class {left!r}: end it with ('...', ('.*',))")
        self._groups = np.array([self.names.index(decisions[pair]) for pair in pair_of_class if pair >= 0], int)

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
