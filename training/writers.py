"""Where metrics go: metrics.jsonl for machines, TensorBoard events for people.

clu's writers import TensorFlow, which takes two seconds; that happens in a thread while the first steps already run.
Without TensorFlow (a GPU node may have none) metrics.jsonl is all there is.
"""

import json
import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.files import write_text

METRICS_FILE = 'metrics.jsonl'
SAMPLES_FILE = 'samples.jsonl'


class MetricWriters:
    """Writes rows of metrics. Use it as a context manager.

    Args:
      workdir: the run's folder.
      resumed_step: rows after this step are from a run that was killed and are dropped: they will be written again.
      redo_evaluation: so are the evaluations of this very step.
      tensorboard: also write events to <workdir>/tensorboard.

    Attributes:
      dropped: how many rows were dropped.
    """

    def __init__(self, workdir: Path, *, resumed_step: int, redo_evaluation: bool = False, tensorboard: bool = True):
        def is_kept(row: Mapping[str, Any]) -> bool:
            again = redo_evaluation and row['step'] == resumed_step and 'train/loss' not in row
            return row['step'] <= resumed_step and not again

        path = workdir / METRICS_FILE
        self.dropped = _keep_rows(path, is_kept)
        self._samples = workdir / SAMPLES_FILE
        if self._samples.is_file():
            _keep_rows(self._samples, is_kept)
        self._file = path.open('a')
        self._events = _EventThread(workdir / 'tensorboard') if tensorboard else None

    def __enter__(self) -> 'MetricWriters':
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def scalars(self, step: int, values: Mapping[str, float], timings: Mapping[str, float] | None = None) -> None:
        """Writes one row. `values` depend on config and step alone; `timings` are what the clock said."""
        row = {'step': step, **values}
        if timings:
            row['timings'] = dict(timings)
        self._file.write(json.dumps(row) + '\n')
        self._file.flush()
        if self._events:
            self._events.put('write_scalars', step, {**values, **(timings or {})})

    def images(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        """Writes images, uint8 [height, width, 3]."""
        if self._events and pictures:
            self._events.put('write_images', step, {name: image[None] for name, image in pictures.items()})

    def samples(self, step: int, name: str, samples: Sequence[Mapping[str, Any]]) -> None:
        """Writes a row of <workdir>/samples.jsonl: what was written at this step.

        Args:
          name: of the evaluation set.
          samples: dicts with 'text', and what is known of it, such as the 'references' of a caption.
        """
        with self._samples.open('a') as file:
            file.write(json.dumps({'step': step, 'set': name, 'samples': list(samples)}) + '\n')
        if self._events:
            self._events.put('write_texts', step, {f'{name}/{i}': sample['text'] for i, sample in enumerate(samples)})

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._file.close()
        if self._events:
            self._events.close()
            self._events = None


def read_rows(workdir: Path) -> list[dict[str, Any]]:
    """Returns the rows of a run's metrics.jsonl."""
    return [json.loads(line) for line in _whole_lines(workdir / METRICS_FILE)]


def _keep_rows(path: Path, is_kept: Callable[[Mapping[str, Any]], bool]) -> int:
    """Drops the other rows of a file and returns how many."""
    lines = _whole_lines(path)
    kept = [line for line in lines if is_kept(json.loads(line))]
    write_text(path, ''.join(kept))
    return len(lines) - len(kept)


def _whole_lines(path: Path) -> list[str]:
    """A kill can leave half a line at the end."""
    if not path.is_file():
        return []
    return [line for line in path.read_text().splitlines(keepends=True) if line.endswith('}\n')]


class _EventThread:
    """Feeds clu's SummaryWriter from a queue."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name='tensorboard', daemon=True)

    def put(self, method: str, *args: Any) -> None:
        if self._thread.ident is None:
            self._thread.start()
        self._queue.put((method, args))

    def close(self) -> None:
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    def _run(self) -> None:
        try:
            from ..common.tensorflow import import_tensorflow
            import_tensorflow()
            from clu import metric_writers
            writer = metric_writers.SummaryWriter(str(self._folder))
            while (item := self._queue.get()) is not None:
                method, args = item
                getattr(writer, method)(*args)
            writer.close()
        except Exception as error:  # no TensorFlow, a full disk: metrics.jsonl has the numbers, the training goes on
            logging.warning('no TensorBoard events: %s', ' '.join(str(error).split())[:200])
