"""Reading in processes, where threads keep one another waiting: what Python itself does is done by one at a time.

The processes know nothing of JAX and TensorFlow, share the arrays of a source (such as a million file names), and end
with the process that started them. Examples, and so batches, are those that threads would read.
"""

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import UserError
from .source import Examples, Source

_PROGRAM = Path(__file__).with_name('reading_worker.py')
_FIELD = 'config.data.processes'
_ALIGNMENT = 64  # bytes, of shared arrays
_SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

# One pool for all sources of a process: training and evaluation take turns.
_pools: weakref.WeakValueDictionary[int, '_Pool'] = weakref.WeakValueDictionary()


class ProcessSource(Source):
    """A source that is read by other processes.

    Args:
      source: any that can be pickled, and reads the same in any process.
      processes: how many; they start when the first example is read.
    """

    def __init__(self, source: Source, processes: int):
        self.info, self.name, self.frames, self.needs_rng = source.info, source.name, source.frames, source.needs_rng
        self.has_masks, self.has_captions, self.has_boxes = source.has_masks, source.has_captions, source.has_boxes
        self.labels, self.unit = source.labels, source.unit
        self._source, self._package, self._opening = source, None, threading.Lock()
        self._pool = _pools.setdefault(processes, _Pool(processes))

    def __len__(self) -> int:
        return len(self._source)

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """See `Source`.

        Raises:
          UserError: an example cannot be read, the source cannot be sent to another process, or a process has ended.
        """
        with self._opening:  # several threads read
            if self._package is None:
                self._package = _Package(self._source)
        return self._pool.read(self._package, np.asarray(indices), uniforms)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """See `Source`."""
        return self._source.describe(indices)


class _Package:
    """A source as it is sent: pickled, with its arrays in memory that processes share."""

    def __init__(self, source: Source):
        buffers: list[pickle.PickleBuffer] = []
        shared = hasattr(os, 'memfd_create') and os.path.isdir('/proc/self/fd')
        try:
            self._pickled = pickle.dumps(source, protocol=5, buffer_callback=buffers.append if shared else None)
        except Exception as error:  # what a class trips pickle into is a long list
            raise UserError(f'{_FIELD}: {source.name} cannot be sent to other processes '
                            f'({" ".join(str(error).split())[:200]}): set it to 0') from error
        self._file, self._places = '', []
        if not buffers:
            return
        descriptor = os.memfd_create('practicum', os.MFD_CLOEXEC)
        self._file = f'/proc/{os.getpid()}/fd/{descriptor}'
        weakref.finalize(self, os.close, descriptor)
        with os.fdopen(os.dup(descriptor), 'wb') as file:
            for buffer in buffers:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                begin = file.tell()
                file.write(buffer.raw())
                self._places.append((begin, file.tell()))
            file.write(b'\0')  # what is empty cannot be mapped

    def request(self) -> tuple[bytes, str, list[tuple[int, int]]]:
        """Returns the arguments of `reading_worker.load`."""
        return self._pickled, self._file, self._places


class _Pool:
    """Some processes, each busy with one request at a time."""

    def __init__(self, processes: int):
        self._processes, self._starting, self._started = processes, threading.Lock(), False
        self._idle: queue.SimpleQueue[_Worker] = queue.SimpleQueue()

    def read(self, package: _Package, indices: np.ndarray, uniforms: np.ndarray | None) -> Examples:
        with self._starting:
            if not self._started:
                for worker in [_Worker() for _ in range(self._processes)]:
                    self._idle.put(worker)
                self._started = True
        worker = self._idle.get()
        try:
            return worker.read(package, indices, uniforms)
        finally:
            self._idle.put(worker)


class _Worker:
    """One process of reading_worker.py."""

    def __init__(self):
        # Signals are for this process, which lets the other one finish: they are blocked there from the beginning.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            self._process = subprocess.Popen([sys.executable, '-P', str(_PROGRAM)], stdin=subprocess.PIPE,
                                             stdout=subprocess.PIPE)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._known: weakref.WeakKeyDictionary[_Package, int] = weakref.WeakKeyDictionary()
        self._count = 0
        # Its standard input ends, and then it does.
        weakref.finalize(self, _end, self._process)
        self._send(sys.path)

    def read(self, package: _Package, indices: np.ndarray, uniforms: np.ndarray | None) -> Examples:
        try:
            if package not in self._known:
                self._ask(self._count, package.request())
                self._known[package] = self._count
                self._count += 1
            return self._ask(self._known[package], (indices, uniforms))
        except (OSError, EOFError, pickle.UnpicklingError):
            code = self._process.wait()
            how = f'was killed by signal {-code}: memory may have run out' if code < 0 else f'ended with code {code}'
            raise UserError(f'{_FIELD}: a process that reads examples {how}; take fewer of them') from None

    def _ask(self, number: int, request: Any) -> Examples:
        self._send((number, request, {number, *self._known.values()}))
        answers = self._process.stdout
        problem, shapes = pickle.load(answers)
        if problem is not None:
            kind, text = problem
            raise UserError(text) if kind == 'mistake' else RuntimeError(f'in a process that reads examples:\n{text}')
        examples = {}
        for name, dtype, shape in shapes:
            examples[name] = np.empty(shape, dtype)
            left = memoryview(examples[name].reshape(-1)).cast('B') if examples[name].size else b''
            while left:
                count = answers.readinto(left)
                if not count:
                    raise EOFError
                left = left[count:]
        return examples

    def _send(self, message: Any) -> None:
        pickle.dump(message, self._process.stdin)
        self._process.stdin.flush()


def _end(process: subprocess.Popen) -> None:
    for file in (process.stdin, process.stdout):
        try:
            file.close()
        except OSError:  # it has ended already
            pass
    process.wait()
