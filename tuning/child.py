"""The process of a trial: a command of launch.py that ends with the worker that started it.

    python tuning/child.py PID train --config ... --workdir ...
"""

import ctypes
import os
import runpy
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1  # prctl(2)


def main() -> None:
    """Asks the kernel for SIGTERM when the worker is gone, then becomes launch.py."""
    worker = int(sys.argv.pop(1))
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    except (OSError, AttributeError):
        pass  # not Linux: the trial goes on without its worker, and whoever takes it waits for its end
    if os.getppid() != worker:  # gone already
        sys.exit(128 + signal.SIGTERM)
    launch = Path(__file__).resolve().parent.parent / 'launch.py'
    sys.path[0] = str(launch.parent)
    sys.argv[0] = str(launch)
    runpy.run_path(str(launch), run_name='__main__')


if __name__ == '__main__':
    main()
