"""The one exception a user should ever read, and the nearest name, to end its message with."""

import difflib
from collections.abc import Sequence


class UserError(Exception):
    """Something the user can mend: a missing file, a typo, a wrong shape.

    Its message is one line that says what is wrong, where, and what to do. `launch.py` prints it without a
    traceback and exits with code 2. Anything else that is raised is a bug and shows its traceback.
    """


def file_error(path: object, reason: str) -> UserError:
    """Returns a UserError about a user's file, on one line whatever is in the reason."""
    return UserError(' '.join(printable(f'{path}: {reason}').split()))


def printable(text: str) -> str:
    """Returns a text that can be printed and written as UTF-8; the name of a file need not be."""
    return text.encode(errors='backslashreplace').decode()


def nearest(name: str, known: Sequence[str]) -> str:
    """Returns '; did you mean X?' or a list of what there is, to end an error message with."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if close:
        return f'did you mean {close[0]}?'
    return f"there are: {', '.join(known)}" if known else 'there are none'


def some(names: Sequence[str]) -> str:
    """Returns the first five names, for a message."""
    return ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
