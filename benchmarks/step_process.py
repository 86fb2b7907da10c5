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
    ask = talk(command)
    return lambda steps: ask(steps)['ms'], ask(1)['parameters']


def talk(command: Sequence[object], environment: Mapping[str, str] | None = None) -> Callable[[object], Any]:
    """Starts a script that answers each line with a line of JSON.

    Returns:
      ask(line) -> answer; ask(None) sends nothing and returns what the script says next.

    Raises:
      SystemExit: by `ask`, if the script has ended instead; it has printed why.
    """
    child = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                             env=environment)

    def ask(line):
        try:
            if line is not None:
                child.stdin.write(f'{line}\n')
                child.stdin.flush()
            return json.loads(child.stdout.readline())
        except (BrokenPipeError, ValueError):
            raise SystemExit(f'error: {command[1]} ended with exit code {child.wait()}') from None
    return ask
