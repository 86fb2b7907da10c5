"""Classes in groups, named one by one or by regular expressions."""

import re
from collections.abc import Sequence

import numpy as np

from .errors import UserError, nearest


def group_of_classes(groups: Sequence[Sequence[str]], class_names: Sequence[str], field: str) -> np.ndarray:
    """Returns the group of every class, int32 [classes]: the first that has it, -1 for none.

    Args:
      groups: the patterns of each, see `matching`.
      class_names: of the data set.
      field: of the config, for messages.

    Raises:
      UserError: see `matching`.
    """
    found = np.full(len(class_names), -1, np.int32)
    for index, patterns in enumerate(groups):
        for pattern in patterns:
            matched = matching(pattern, class_names, field)
            found[matched & (found < 0)] = index
    return found


def matching(pattern: str, class_names: Sequence[str], field: str) -> np.ndarray:
    """Returns which classes a pattern means, bool [classes].

    It is the name of a class as it stands ('c++'), or a regular expression that fully matches names. Case is ignored,
    except between names that differ in nothing else: 'cat' is 'cat' and not 'Cat' where there are both.

    Raises:
      UserError: no regular expression, or it matches no class.
    """
    try:
        exact, loose = re.compile(pattern), re.compile(pattern, re.IGNORECASE)
    except (re.error, TypeError) as error:
        exact = loose = None
        reason = error

    def matches(names_equal, expression):
        if any(map(names_equal, class_names)):
            return [names_equal(name) for name in class_names]
        return [expression is not None and expression.fullmatch(name) is not None for name in class_names]

    cased = matches(lambda name: name == pattern, exact)
    matched = matches(lambda name: name.casefold() == str(pattern).casefold(), loose)
    if not any(matched):
        if loose is None:
            raise UserError(f'{field}: {pattern!r} is not a regular expression: {reason}') from reason
        raise UserError(f'{field}: {pattern!r} matches no class; {nearest(str(pattern), list(class_names))}')
    settled = {name.casefold() for name, hit in zip(class_names, cased) if hit}
    return np.array([hit if name.casefold() in settled else also
                     for name, hit, also in zip(class_names, cased, matched)])
