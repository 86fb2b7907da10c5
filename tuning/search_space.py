"""What a sweep searches: 'log:1e-4:3e-2', '0:0.6:0.1' or 'adam,sgd' for a field of the config."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from ..common.errors import UserError, shortened
from ..training import config as config_lib

_FORMS = "write 'low:high', 'log:low:high', 'low:high:step' or 'one,another'"
_DIGITS = 12  # of a value on a grid of steps: 0.3, not 0.30000000000000004


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included.

    Attributes:
      low, high: the ends.
      step: the values are low, low + step, ...; None for all of them.
      log: whether they are drawn evenly on a logarithmic scale.
      whole: whether they are whole numbers.
    """
    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    def text(self, value: float) -> str:
        """Returns a value as it is written after '--config.field='."""
        if self.whole:
            return str(int(value))
        return repr(float(value) if self.step is None else round(float(value), _DIGITS))

    @property
    def ends(self) -> tuple[str, ...]:
        """The values that are checked before the first trial."""
        points = self.points
        return (points[0], points[-1]) if points else (self.text(self.low), self.text(self.high))

    @property
    def points(self) -> tuple[str, ...] | None:
        """All values, for a grid; None where there is no step."""
        step = 1 if self.whole and not self.log else None
        step = self.step or step
        if step is None:
            return None
        count = math.floor((self.high - self.low) / step + 1e-9) + 1
        return tuple(self.text(self.low + i * step) for i in range(count))


@dataclasses.dataclass(frozen=True)
class Choice:
    """One of several values, as they are written after '--config.field='."""
    values: tuple[str, ...]

    def text(self, value: str) -> str:
        """See `Range`."""
        return value

    @property
    def ends(self) -> tuple[str, ...]:
        """See `Range`."""
        return self.values

    points = ends


Space = Mapping[str, Range | Choice]


def parse(search: Mapping[str, str], config: ConfigDict) -> Space:
    """Returns what every field is searched in, having tried all choices and the ends of all ranges on the config.

    Args:
      search: field -> text, see `from_words` for the forms.
      config: locked, of the sweep.

    Raises:
      UserError: no field, an unknown one, a range that is empty or no range, a value that the field does not take.
    """
    space = {field: _parse(field, text, config) for field, text in search.items()}
    for field, parameter in space.items():
        for value in parameter.ends:
            try:
                changed(config, {field: value})
            except UserError as error:
                raise UserError(f'--search {field}={shortened(search[field])}: {error}') from error
    return space


def grid(space: Space) -> list[dict[str, str]]:
    """Returns all points of a grid, field -> value; the last field changes fastest."""
    return [dict(zip(space, values)) for values in itertools.product(*(field.points for field in space.values()))]


def changed(config: ConfigDict, values: Mapping[str, str]) -> ConfigDict:
    """Returns a locked copy of a config with other values, field -> text."""
    config = config.copy_and_resolve_references()
    config.lock()
    for field, value in values.items():
        config_lib.apply_override(config, f'{field}={value}')
    return config


def from_words(words: Sequence[str]) -> dict[str, str]:
    """['model.dropout=0:0.6:0.1', ...] -> {'model.dropout': '0:0.6:0.1', ...}.

    Raises:
      UserError: a word without '=', or two of the same field.
    """
    search: dict[str, str] = {}
    for word in words:
        field, equals, text = word.removeprefix('--').removeprefix('config.').partition('=')
        if not equals or not field:
            raise UserError(f'--search {shortened(word)}: write field=values; {_FORMS}')
        if field in search:
            raise UserError(f'--search {field} is there twice')
        search[field] = text
    return search


def from_function(found: Any, where: str) -> dict[str, str]:
    """Returns the search space that an experiment file's search_space() gave, in the form of the command line.

    Raises:
      UserError: it is no dict of field -> text or tuple of values.
    """
    if not isinstance(found, dict):
        raise UserError(f'{where}: search_space(config) returns {type(found).__name__}, not a dict')
    search = {}
    for field, values in found.items():
        if isinstance(values, (tuple, list)):  # a text with commas is quoted, so that they are its own
            values = ','.join(value if isinstance(value, str) and len(list(_split(value, ','))) == 1 else repr(value)
                              for value in values)
        if not isinstance(values, str):
            raise UserError(f'{where}: search_space(config)[{field!r}] is {values!r}: {_FORMS}, or a tuple')
        search[str(field)] = values
    return search


def _parse(field: str, text: str, config: ConfigDict) -> Range | Choice:
    where = f'--search {field}={shortened(text)}'
    parts = list(_split(text, ','))
    if len(parts) > 1:
        if not all(parts) or len(set(parts)) < len(parts):
            raise UserError(f'{where}: a value is empty or there twice')
        return Choice(tuple(parts))
    numbers = text.split(':')
    log = numbers[0] == 'log'
    values = [_number(number) for number in numbers[log:]]
    if not 2 <= len(values) <= (2 if log else 3) or None in values:
        one = f'; one value is no search: --config.{field}={shortened(text)}' if text and ':' not in text else ''
        raise UserError(f'{where}: {_FORMS}{one}')
    low, high, step = [*values, None][:3]
    if not low < high:
        raise UserError(f'{where}: the range is empty: {low:g} is not below {high:g}')
    if log and low <= 0:
        raise UserError(f'{where}: a logarithmic range begins above 0')
    if step is not None and not 0 < step <= high - low:
        raise UserError(f'{where}: the step is above 0 and at most {high - low:g}')
    kind = _kind(config, field)
    integers = all(float(value).is_integer() for value in values) and '.' not in text and 'e' not in text
    if kind is int and not integers:
        raise UserError(f'{where}: config.{field} takes whole numbers')
    return Range(low, high, step, log, whole=integers and kind is not float)


def _kind(config: ConfigDict, field: str) -> type | None:
    """Returns the type of a field of the config; None for one that it does not have (yet)."""
    try:
        value = config
        for name in field.split('.'):
            value = value[name]
    except (KeyError, TypeError, AttributeError):
        return None
    return type(value)


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _split(text: str, separator: str) -> Iterator[str]:
    """Splits where the separator is in no brackets and no quotes: '(1,2),(3,)' -> '(1,2)', '(3,)'."""
    depth, quote, part = 0, '', ''
    for letter in text:
        if quote:
            quote = '' if letter == quote else quote
        elif letter in '"\'':
            quote = letter
        elif letter in '([{':
            depth += 1
        elif letter in ')]}':
            depth -= 1
        if letter == separator and not depth and not quote:
            yield part.strip()
            part = ''
        else:
            part += letter
    yield part.strip()
