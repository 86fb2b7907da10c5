"""Train steps in processes of their own, which are idle while others are timed."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def start(command: Sequence[object]) -> tuple[Callable[[int], float], int]:
    """Starts a script that ends in baselines/torch_steps.py.

    Returns:
      run(steps) -> milliseconds per step, and the number of parameters.
    """
    ask = Script(command)
    return lambda steps: ask(steps)['ms'], ask(1)['parameters']


class Script:
    """A process that answers each line with a line of JSON.

    Args:
      command: what to start.
      environment: its variables; None for those of this process.
    """

    def __init__(self, command: Sequence[object], environment: Mapping[str, str] | None = None):
        self._name = command[1]
        self._child = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       text=True, env=environment)

    def __call__(self, line: object) -> Any:
        """Returns the answer to a line; to None, which sends nothing, what the script says next.

        Raises:
          SystemExit: the script has ended instead; it has printed why.
        """
        try:
            if line is not None:
                self._child.stdin.write(f'{line}\n')
                self._child.stdin.flush()
            return json.loads(self._child.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise SystemExit(f'error: {self._name} ended with exit code {self._child.wait()}') from None

    def close(self) -> None:
        """Ends the process, which frees its memory."""
        self._child.stdin.close()
        self._child.wait()
