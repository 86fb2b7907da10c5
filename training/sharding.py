"""Which arrays of a training state are kept in shards, one on every device: config.parallel.sharding and its rules.

Zhao et al. 2023, "PyTorch FSDP: experiences on scaling fully sharded data parallel"; the rule of which dimension is
divided is that of big_vision's `fsdp` (Beyer et al. 2022).
"""

import math
import re
from collections.abc import Collection, Sequence
from typing import Any

from ml_collections import ConfigDict

from ..common.errors import UserError, nearest
from .array_paths import compile_pattern, select

_KINDS = ('replicated', 'fsdp')


class Sharding:
    """Decides, by path and shape, along which dimension an array is divided over the devices.

    Args:
      config: config.parallel; of its `sharding_rules`, (regex, kind) pairs, the first that matches a parameter's path
        decides, of others `sharding` does. A kind is 'replicated', 'fsdp' (the largest dimension that the devices
        share evenly, of arrays of at least `min_shard_mb`) or the number of a dimension.
      devices: how many share an array.

    Raises:
      UserError: an unknown kind, a rule that is none, or rules in a mode that has none.
    """

    def __init__(self, config: ConfigDict, devices: int):
        self._devices, self._min_bytes = devices, config.min_shard_mb * 2**20
        if config.sharding not in _KINDS:
            raise UserError(f'config.parallel.sharding = {config.sharding!r}; {nearest(config.sharding, _KINDS)}')
        self._default = config.sharding
        self._rules = [_rule(rule) for rule in config.sharding_rules]
        if config.min_shard_mb < 0:
            raise UserError(f'config.parallel.min_shard_mb = {config.min_shard_mb}: it must be at least 0')

    @property
    def is_replicated(self) -> bool:
        """Whether every device keeps everything."""
        return self._default == 'replicated' and all(kind == 'replicated' for _, kind in self._rules)

    def check(self, parameters: Collection[str]) -> None:
        """Raises UserError if a rule matches none of the parameters' paths."""
        select([pattern for pattern, _ in self._rules], parameters, 'parallel.sharding_rules')

    def dimension(self, path: str, array: Any) -> int | None:
        """Returns the dimension along which an array is divided; None if every device keeps it whole.

        Args:
          path: of a parameter, 'conv1/kernel', or of what an optimizer or an average keeps for it,
            'opt_state/0/mu/conv1/kernel'.
          array: anything with shape and dtype.

        Raises:
          UserError: a rule names a dimension that the array has not, or that the devices do not share evenly.
        """
        kind = next((kind for pattern, kind in self._rules if re.fullmatch(f'(?:.*/)?(?:{pattern})', path)),
                    self._default)
        if kind == 'replicated':
            return None
        shape = tuple(array.shape)
        if kind == 'fsdp':
            if math.prod(shape) * array.dtype.itemsize < self._min_bytes:
                return None
            even = [size for size in shape if size % self._devices == 0 and size >= self._devices]
            return shape.index(max(even)) if even else None
        if kind >= len(shape):
            raise UserError(f'config.parallel.sharding_rules: {path}, of shape {shape}, has no dimension {kind}; they '
                            'count from 0')
        if shape[kind] % self._devices:
            raise UserError(f'config.parallel.sharding_rules: dimension {kind} of {path}, of shape {shape}, cannot be '
                            f'shared by {self._devices} device(s)')
        return kind


def _rule(rule: Any) -> tuple[str, str | int]:
    if not isinstance(rule, Sequence) or isinstance(rule, str) or len(rule) != 2:
        raise UserError(f"config.parallel.sharding_rules: {rule!r} is no rule; write (('.*kernel', 'fsdp'),)")
    pattern, kind = rule
    compile_pattern(pattern, 'parallel.sharding_rules')
    if type(kind) is int and kind >= 0:
        return pattern, kind
    if type(kind) is int or kind not in _KINDS:
        raise UserError(f"config.parallel.sharding_rules: {kind!r} for {pattern!r}; it is 'replicated', 'fsdp' or the "
                        'number of a dimension, from 0')
    return pattern, kind
