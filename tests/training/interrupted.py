"""launch.py in a process that sends itself a signal at a chosen moment: interrupted.py WHEN SIGNAL ARGUMENTS...

WHEN is one of
  step:N        the N-th training step of this process has been started
  evaluation:N  the N-th batch of evaluations has been started
  row:N         the N-th row of metrics has been written
  file:N        the N-th time that a file or folder of the workdir is about to be opened, made, renamed or removed
  save:SECONDS  so long after the first checkpoint began to be written in the background
"""

import os
import signal
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FILE_EVENTS = ('open', 'os.mkdir', 'os.rename', 'os.remove', 'os.rmdir', 'os.link', 'os.truncate')


def main() -> int:
    when, number, arguments = sys.argv[1], signal.Signals[sys.argv[2]], sys.argv[3:]
    kind, _, amount = when.partition(':')

    def send() -> None:
        # time.time() for the test, to measure how long the rest takes.
        print(f'sending {number.name} at {time.time()}', file=sys.stderr, flush=True)
        os.kill(os.getpid(), number)

    remaining = float(amount)

    def count_down(*_) -> None:
        nonlocal remaining
        remaining -= 1
        if remaining == 0:
            send()

    import launch
    from practicum.common import console
    from practicum.training import checkpoints, outputs, window
    if kind == 'step':
        call_after(window.MetricWindow, 'add', count_down)
    elif kind == 'evaluation':
        call_after(console.ProgressLog, '__call__', count_down)
    elif kind == 'row':
        call_after(outputs.Outputs, 'scalars', count_down)
    elif kind == 'save':
        timer = threading.Timer(float(amount), send)
        call_after(checkpoints.Checkpoints, 'save', lambda: timer.ident or timer.start())
    elif kind == 'file':
        workdir = arguments[arguments.index('--workdir') + 1]
        sys.addaudithook(lambda event, args: count_down() if event in FILE_EVENTS and workdir in str(args[0]) else None)
    return launch.main(arguments)


def call_after(cls: type, name: str, function) -> None:
    original = getattr(cls, name)

    def wrapped(self, *args, **kwargs):
        result = original(self, *args, **kwargs)
        function()
        return result
    setattr(cls, name, wrapped)


if __name__ == '__main__':
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
