"""The one exception a user should ever read."""


class UserError(Exception):
    """Something the user can mend: a missing file, a typo, a wrong shape.

    Its message is one line that says what is wrong, where, and what to do. `launch.py` prints it without a
    traceback and exits with code 2. Anything else that is raised is a bug and shows its traceback.
    """


def file_error(path: object, reason: str) -> UserError:
    """Returns a UserError about a user's file, on one line whatever is in the reason."""
    return UserError(' '.join(f'{path}: {reason}'.split()))
