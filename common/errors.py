"""The one exception a user should ever read, and the nearest name, to end its message with."""

import difflib
from collections.abc import Sequence

_LONGEST_NAME = 200  # of which the nearest is looked for; longer ones would take minutes
_SHORTEST_BEGINNING = 3  # letters that can stand for a longer name
_MOST_NAMES = 60  # that one line lists


class UserError(Exception):
    """Something the user can mend: a missing file, a typo, a wrong shape.

    Its message is one line that says what is wrong, where, and what to do. `launch.py` prints it without a
    traceback and exits with code 2. Anything else that is raised is a bug and shows its traceback.
    """


def file_error(path: object, reason: str) -> UserError:
    """Returns a UserError about a user's file, on one line of sensible length whatever is in the reason."""
    return UserError(printable(' '.join(f'{path}: {shortened(reason, 300)}'.split())))


def printable(text: str) -> str:
    r"""Escapes what a terminal would obey or could not write: control characters, and bytes that are not UTF-8.

    File names may hold both, '\x1b[2J' to clear the screen and '\xe9' alone, which Python reads as '\udce9'.
    """
    return ''.join(c if c.isprintable() else f'\\x{ord(c) - 0xdc00:02x}' if '\udc80' <= c <= '\udcff'
                   else c.encode('unicode_escape', 'backslashreplace').decode() for c in text)


def nearest(name: str, known: Sequence[str], cutoff: float = 0.5) -> str:
    """Returns 'did you mean X?' or a list of what there is, to end an error message with.

    The only name that begins with what was written is meant, be it much longer; else the most similar one.

    Args:
      name: what was written.
      known: what could have been meant.
      cutoff: similarity from which on a name is close, in [0, 1]; higher where names are short and mean much.
    """
    known = sorted(set(known))
    longer = [one for one in known if len(name) >= _SHORTEST_BEGINNING and one.casefold().startswith(name.casefold())]
    close = longer if len(longer) == 1 else difflib.get_close_matches(name[:_LONGEST_NAME], known, n=1, cutoff=cutoff)
    if close:
        return f'did you mean {close[0]}?'
    if not known:
        return 'there are none'
    more = f', and {len(known) - _MOST_NAMES:,} more' if len(known) > _MOST_NAMES else ''
    return f"there are: {', '.join(known[:_MOST_NAMES])}{more}"


def shortened(text: str, length: int = 120) -> str:
    """Returns a text with its middle left out where it is long, for a message of one line."""
    half = length // 2
    return text if len(text) <= length else f'{text[:half]} ... {text[-half:]}'


def some(names: Sequence[str]) -> str:
    """Returns the first five names, for a message."""
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
