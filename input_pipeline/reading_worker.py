"""A process that reads examples for another one, see reading_processes.py. It imports what its sources do, no more.

Run with the Python of the process that starts it: `python -P reading_worker.py`. It ends when its standard input does,
and so with whoever started it, however that ends; signals are for that one.
"""

import importlib.util
import mmap
import os
import pickle
import sys
import traceback
from pathlib import Path
from typing import Any, BinaryIO


def main() -> None:
    """Answers requests until there are no more."""
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(1), 'wb', buffering=0)
    os.dup2(2, 1)  # what anybody prints is no answer
    sys.path[:] = pickle.load(requests)
    _find_package()
    from practicum.common.errors import UserError
    sources: dict[int, Any] = {}
    while True:
        try:
            number, request, alive = pickle.load(requests)
        except EOFError:
            return
        sources = {known: source for known, source in sources.items() if known in alive}
        answer, arrays = None, {}
        try:
            if number in sources:
                arrays = sources[number].read(*request)
            else:
                sources[number] = load(*request)
        except UserError as error:
            answer = 'mistake', str(error)
        except Exception:
            answer = 'bug', traceback.format_exc()
        send(answers, answer, arrays)


def load(pickled: bytes, file: str, places: list[tuple[int, int]]) -> Any:
    """Returns a source; its arrays stay where they are, at these places of a file in memory that processes share."""
    if not file:
        return pickle.loads(pickled)
    with open(file, 'rb') as opened:
        shared = memoryview(mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ))
    return pickle.loads(pickled, buffers=[shared[begin:end] for begin, end in places])


def send(file: BinaryIO, answer: Any, arrays: dict[str, Any]) -> None:
    """Writes (answer, [(name, type, shape), ...]) and then the content of the arrays."""
    parts = [pickle.dumps((answer, [(name, values.dtype.str, values.shape) for name, values in arrays.items()]))]
    parts += [memoryview(values.reshape(-1)).cast('B') for values in arrays.values() if values.size]
    for part in parts:
        part = memoryview(part)
        while part:
            part = part[file.write(part):]


def _find_package() -> None:
    """Makes the folder above the package `practicum`, as launch.py does."""
    folder = Path(__file__).resolve().parent.parent
    spec = importlib.util.spec_from_file_location('practicum', folder / '__init__.py',
                                                  submodule_search_locations=[str(folder)])
    sys.modules['practicum'] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules['practicum'])


if __name__ == '__main__':
    try:
        main()
    except BrokenPipeError:  # nobody is there any more
        pass
    os._exit(0)
