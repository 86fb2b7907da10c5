"""Where metrics, images and texts of a run go: files of its own, TensorBoard, MLflow, Weights & Biases.

metrics.jsonl and samples.jsonl are always written. The others are chosen by config.writers; each runs in a thread of
its own, so that neither an import (TensorFlow takes two seconds) nor a network holds up the training, and a failure
there is one warning. A new writer is a class here and a line in `WRITERS`.
"""

import hashlib
import importlib
import json
import logging
import os
import queue
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ..common.errors import UserError, nearest
from .histograms import Histogram
from .program_summary import Program
from .rows import keep_rows, parse_rows, to_json

METRICS_FILE = 'metrics.jsonl'
SAMPLES_FILE = 'samples.jsonl'
HISTOGRAMS_FILE = 'histograms.jsonl'
PARAMETERS_FILE = 'parameters.jsonl'


class Writer:
    """Takes what a run reports. A subclass overrides what it has a place for; the other methods do nothing.

    Attributes:
      title: its name in messages.
      requires: the package it needs and this project does not; '' for none.
    """
    title: str = ''
    requires: str = ''

    def hparams(self, values: Mapping[str, Any]) -> None:
        """Takes the config's fields, 'optimizer.learning_rate' -> number, bool or string; once, before all else."""

    def scalars(self, step: int, values: Mapping[str, float], timings: Mapping[str, float] | None = None) -> None:
        """Takes metrics. `values` depend on config and step alone; `timings` are what the clock said."""

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Takes images, uint8 [height, width, 3]."""

    def samples(self, step: int, name: str, samples: Sequence[Mapping[str, Any]]) -> None:
        """Takes texts that were generated at this step.

        Args:
          step: the step.
          name: of the evaluation set.
          samples: dicts with 'text', and what is known of it, such as the 'references' of a caption.
        """

    def histograms(self, step: int, histograms: Mapping[str, Histogram]) -> None:
        """Takes histograms of weights and gradients, 'weights/conv1/kernel' -> histogram."""

    def parameters(self, step: int, values: Mapping[str, float]) -> None:
        """Takes the parameters of a model of a few numbers."""

    def program(self, step: int, program: Program) -> None:
        """Takes the summary of the compiled train step."""

    def close(self) -> None:
        """Waits until everything is written."""


class JsonlWriter(Writer):
    """metrics.jsonl, samples.jsonl, ...: a row is an object on a line, a number that is not finite is null.

    Args:
      workdir: the run's folder.
      resumed_step: rows after this step are from a run that was killed and are dropped: they will be written again.
      redo_evaluation: so are the evaluations of this very step.

    Attributes:
      dropped: how many rows of metrics were dropped.
    """

    def __init__(self, workdir: Path, *, resumed_step: int, redo_evaluation: bool = False):
        def is_kept(row: Mapping[str, Any]) -> bool:
            again = redo_evaluation and row['step'] == resumed_step and 'train/loss' not in row
            return row['step'] <= resumed_step and not again

        self._workdir = workdir
        self.dropped = keep_rows(workdir / METRICS_FILE, is_kept)
        for name in (SAMPLES_FILE, HISTOGRAMS_FILE, PARAMETERS_FILE):
            keep_rows(workdir / name, is_kept)
        self._file = (workdir / METRICS_FILE).open('a')

    def scalars(self, step, values, timings=None):
        """See `Writer`."""
        row = {'step': step, **values, **({'timings': dict(timings)} if timings else {})}
        self._file.write(json.dumps(to_json(row)) + '\n')
        self._file.flush()

    def samples(self, step, name, samples):
        """See `Writer`."""
        self._append(SAMPLES_FILE, {'step': step, 'set': name, 'samples': list(samples)})

    def histograms(self, step, histograms):
        """See `Writer`."""
        self._append(HISTOGRAMS_FILE, *({'step': step, 'name': name, 'low': found.low, 'high': found.high,
                                         'counts': found.counts.tolist()} for name, found in histograms.items()))

    def parameters(self, step, values):
        """See `Writer`."""
        self._append(PARAMETERS_FILE, {'step': step, 'parameters': dict(values)})

    def _append(self, name: str, *rows: Mapping[str, Any]) -> None:
        with (self._workdir / name).open('a') as file:
            file.writelines(json.dumps(to_json(row)) + '\n' for row in rows)

    def close(self):
        """See `Writer`."""
        self._file.close()


class TensorBoardWriter(Writer):
    """Events in the run's folder, for `tensorboard --logdir runs`; the HParams tab compares runs by their config."""
    title = 'TensorBoard'

    def __init__(self, workdir: Path):
        from ..common.tensorflow import import_tensorflow
        import_tensorflow()
        from clu import metric_writers
        self._writer = metric_writers.SummaryWriter(str(workdir))

    def hparams(self, values):
        """See `Writer`."""
        self._writer.write_hparams(dict(values))

    def scalars(self, step, values, timings=None):
        """See `Writer`."""
        self._writer.write_scalars(step, _with_timings(values, timings))

    def images(self, step, images):
        """See `Writer`."""
        self._writer.write_images(step, {name: image[None] for name, image in images.items()})

    def samples(self, step, name, samples):
        """See `Writer`."""
        self._writer.write_texts(step, {f'{name}/{i}': sample['text'] for i, sample in enumerate(samples)})

    def histograms(self, step, histograms):
        """See `Writer`."""
        from tensorboard.plugins.histogram import metadata
        # As TensorBoard stores them: rows of left end, right end, count.
        values = {name: np.stack([found.edges[:-1], found.edges[1:], found.counts], axis=1).astype(np.float64)
                  for name, found in histograms.items()}
        about = metadata.create_summary_metadata(display_name=None, description=None)
        self._writer.write_summaries(step, values, dict.fromkeys(values, about))

    def parameters(self, step, values):
        """See `Writer`."""
        self._writer.write_scalars(step, {f'parameters/{name}': value for name, value in values.items()})

    def program(self, step, program):
        """See `Writer`."""
        from tensorboard.compat.proto.graph_pb2 import GraphDef
        from tensorboard.compat.proto.summary_pb2 import DATA_CLASS_BLOB_SEQUENCE, SummaryMetadata
        from tensorboard.plugins.graph import metadata
        text = '\n'.join(f'    {line}' for line in program.text.splitlines())  # indented, it keeps its columns
        self._writer.write_texts(step, {'program': text})
        graph = GraphDef()
        for node in program.graph:
            added = graph.node.add(name=node.name, op=node.operation, input=node.inputs)
            shape = added.attr['_output_shapes'].list.shape.add()
            for size in node.shape:
                shape.dim.add(size=size)
        # The form into which TensorBoard itself brings the graphs of TensorFlow.
        about = SummaryMetadata(plugin_data=SummaryMetadata.PluginData(plugin_name=metadata.PLUGIN_NAME),
                                data_class=DATA_CLASS_BLOB_SEQUENCE)
        self._writer.write_summaries(step, {metadata.RUN_GRAPH_NAME: [graph.SerializeToString()]},
                                     {metadata.RUN_GRAPH_NAME: about})

    def close(self):
        """See `Writer`."""
        self._writer.close()


class MlflowWriter(Writer):
    """A run of MLflow, at $MLFLOW_TRACKING_URI or in ./mlruns; a resumed training goes on in the same one."""
    title = 'MLflow'
    requires = 'mlflow'

    def __init__(self, workdir: Path):
        self._mlflow = importlib.import_module('mlflow')
        note = workdir / 'mlflow_run_id.txt'
        self._is_new = not note.is_file()
        run = self._mlflow.start_run(run_name=workdir.name, run_id=None if self._is_new else note.read_text().strip())
        note.write_text(f'{run.info.run_id}\n')

    def hparams(self, values):
        """See `Writer`. MLflow takes a parameter once."""
        if self._is_new:
            self._mlflow.log_params(dict(values))

    def scalars(self, step, values, timings=None):
        """See `Writer`."""
        self._mlflow.log_metrics(_with_timings(values, timings), step=step)

    def images(self, step, images):
        """See `Writer`."""
        for name, image in images.items():
            self._mlflow.log_image(image, f'images/{name}/{step:09}.png')

    def samples(self, step, name, samples):
        """See `Writer`."""
        self._mlflow.log_text('\n\n'.join(sample['text'] for sample in samples), f'samples/{name}/{step:09}.txt')

    def parameters(self, step, values):
        """See `Writer`."""
        self._mlflow.log_metrics({f'parameters/{name}': value for name, value in values.items()}, step=step)

    def program(self, step, program):
        """See `Writer`."""
        del step
        self._mlflow.log_text(program.text, 'program.txt')

    def close(self):
        """See `Writer`."""
        self._mlflow.end_run()


class WandbWriter(Writer):
    """A run of Weights & Biases, in $WANDB_PROJECT or 'practicum'; a resumed training goes on in the same one."""
    title = 'Weights & Biases'
    requires = 'wandb'

    def __init__(self, workdir: Path):
        self._wandb = importlib.import_module('wandb')
        identity = hashlib.sha256(str(workdir.resolve()).encode(errors='surrogateescape')).hexdigest()[:16]
        self._run = self._wandb.init(project=os.environ.get('WANDB_PROJECT', 'practicum'), name=workdir.name,
                                     dir=str(workdir), id=identity, resume='allow')

    def hparams(self, values):
        """See `Writer`."""
        self._run.config.update(dict(values), allow_val_change=True)

    def scalars(self, step, values, timings=None):
        """See `Writer`."""
        self._run.log(_with_timings(values, timings), step=step)

    def images(self, step, images):
        """See `Writer`."""
        self._run.log({name: self._wandb.Image(image) for name, image in images.items()}, step=step)

    def samples(self, step, name, samples):
        """See `Writer`."""
        table = self._wandb.Table(columns=['text'], data=[[sample['text']] for sample in samples])
        self._run.log({f'{name}/samples': table}, step=step)

    def histograms(self, step, histograms):
        """See `Writer`."""
        self._run.log({name: self._wandb.Histogram(np_histogram=(found.counts, found.edges))
                       for name, found in histograms.items()}, step=step)

    def parameters(self, step, values):
        """See `Writer`."""
        self._run.log({f'parameters/{name}': value for name, value in values.items()}, step=step)

    def close(self):
        """See `Writer`."""
        self._run.finish()


WRITERS: dict[str, type[Writer]] = {
    'tensorboard': TensorBoardWriter,
    'mlflow': MlflowWriter,
    'wandb': WandbWriter,
}


def chosen(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of a config's writers besides metrics.jsonl.

    Raises:
      UserError: one is not known, or its package is not installed.
    """
    names = tuple(name for name in dict.fromkeys(config.writers) if name != 'tensorboard' or config.tensorboard)
    for name in names:
        if name not in WRITERS:
            raise UserError(f'config.writers: {name!r} is not known; {nearest(str(name), list(WRITERS))}')
        if package := WRITERS[name].requires:
            try:
                importlib.import_module(package)
            except ImportError as error:
                reason = ' '.join(str(error).split())
                raise UserError(f'config.writers: {name!r} needs the package {package} ({reason}): '
                                f'pip install {package}') from error
    return names


class MetricWriters(Writer):
    """All writers of a run. Use it as a context manager.

    Args:
      workdir: the run's folder.
      names: of `WRITERS`, besides metrics.jsonl.
      resumed_step, redo_evaluation: see `JsonlWriter`.

    Attributes:
      dropped: see `JsonlWriter`.
    """

    def __init__(self, workdir: Path, names: Sequence[str] = (), *, resumed_step: int, redo_evaluation: bool = False):
        rows = JsonlWriter(workdir, resumed_step=resumed_step, redo_evaluation=redo_evaluation)
        self.dropped = rows.dropped
        self._writers = [rows, *(_Threaded(WRITERS[name], workdir) for name in names)]

    def __enter__(self) -> 'MetricWriters':
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def hparams(self, values):
        """See `Writer`."""
        for writer in self._writers:
            writer.hparams(values)

    def scalars(self, step, values, timings=None):
        """See `Writer`."""
        for writer in self._writers:
            writer.scalars(step, values, timings)

    def images(self, step, images):
        """See `Writer`."""
        for writer in self._writers if images else ():
            writer.images(step, images)

    def samples(self, step, name, samples):
        """See `Writer`."""
        for writer in self._writers:
            writer.samples(step, name, samples)

    def histograms(self, step, histograms):
        """See `Writer`."""
        for writer in self._writers:
            writer.histograms(step, histograms)

    def parameters(self, step, values):
        """See `Writer`."""
        for writer in self._writers:
            writer.parameters(step, values)

    def program(self, step, program):
        """See `Writer`."""
        for writer in self._writers:
            writer.program(step, program)

    def close(self):
        """See `Writer`."""
        for writer in self._writers:
            writer.close()


def read_rows(workdir: Path, name: str = METRICS_FILE) -> list[dict[str, Any]]:
    """Returns the rows of a run's metrics.jsonl, or of another of its files; damaged lines are left out."""
    path = workdir / name
    return parse_rows(path.read_bytes())[0] if path.is_file() else []


def flat_fields(config: ConfigDict, prefix: str = '') -> dict[str, Any]:
    """Returns {'optimizer.learning_rate': 0.001, ...}, of the fields that are numbers, bools or strings."""
    fields: dict[str, Any] = {}
    for key in config:
        value = config.get(key)
        if isinstance(value, ConfigDict):
            fields |= flat_fields(value, f'{prefix}{key}.')
        elif isinstance(value, (bool, int, float, str)):
            fields[prefix + key] = value
    return fields


def _with_timings(values: Mapping[str, float], timings: Mapping[str, float] | None) -> dict[str, float]:
    return {**values, **{f'timing/{name}': value for name, value in (timings or {}).items()}}


class _Threaded(Writer):
    """Calls a writer in a thread, which makes it, from the first metrics on; by then the first steps are under way.

    Args:
      kind: the writer's class.
      workdir: the run's folder.
    """

    def __init__(self, kind: type[Writer], workdir: Path):
        self._kind, self._workdir, self._failed = kind, workdir, False
        self._queue: queue.SimpleQueue = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=kind.title, daemon=True)

    def hparams(self, values):
        """See `Writer`."""
        self._queue.put(('hparams', (values,)))

    def scalars(self, step, values, timings=None):
        """See `Writer`."""
        self._put('scalars', step, values, timings)

    def images(self, step, images):
        """See `Writer`."""
        self._put('images', step, images)

    def samples(self, step, name, samples):
        """See `Writer`."""
        self._put('samples', step, name, samples)

    def histograms(self, step, histograms):
        """See `Writer`."""
        self._put('histograms', step, histograms)

    def parameters(self, step, values):
        """See `Writer`."""
        self._put('parameters', step, values)

    def program(self, step, program):
        """See `Writer`."""
        self._put('program', step, program)

    def close(self):
        """See `Writer`."""
        if self._thread.ident is not None:
            self._queue.put(None)
            self._thread.join()

    def _put(self, method: str, *args: Any) -> None:
        if self._thread.ident is None:
            self._thread.start()
        if not self._failed:
            self._queue.put((method, args))

    def _run(self) -> None:
        try:
            writer = self._kind(self._workdir)
            while (item := self._queue.get()) is not None:
                method, args = item
                getattr(writer, method)(*args)
            writer.close()
        except Exception as error:  # no TensorFlow, a full disk, no network: the training goes on
            self._failed = True
            logging.warning('%s gets nothing more, metrics.jsonl has all numbers: %s', self._kind.title,
                            ' '.join(str(error).split())[:200])
