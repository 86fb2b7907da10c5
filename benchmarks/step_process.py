"""A baseline's train step in a process of its own, which is idle while others are timed."""

import json
import subprocess
from collections.abc import Callable, Sequence


def start(command: Sequence[object]) -> tuple[Callable[[int], float], int]:
    """Starts a script that ends in baselines/torch_steps.py.

    Returns:
      run(steps) -> milliseconds per step, and the number of parameters.
    """
    child = subprocess.Popen(list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def answer(steps):
        child.stdin.write(f'{steps}\n')
        child.stdin.flush()
        return json.loads(child.stdout.readline())
    return lambda steps: answer(steps)['ms'], answer(1)['parameters']
