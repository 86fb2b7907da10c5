"""The one exception a user should ever read."""


class UserError(Exception):
    """Something the user can mend: a missing file, a typo, a wrong shape.

    Its message is one line that says what is wrong, where, and what to do. `launch.py` prints it without a
    traceback and exits with code 2. Anything else that is raised is a bug and shows its traceback.
    """
