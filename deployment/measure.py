"""What exported models cost where they are to run: latency, throughput, processor time and memory, by batch size."""

import contextlib
import functools
import logging
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError, file_error, nearest, printable
from ..common.threads import cores, parallel_map
from ..inference.image_reader import ImageReader
from ..inference.run import Run
from ..input_pipeline import image_search
from . import artifact, operations
from .export import Function
from .runtime import Model

BATCHES = (1, 2, 4, 8, 16, 32)
PRECISIONS = ('float32', 'bfloat16')
_ROUNDS = 10  # in which all take turns, forwards and backwards
_SIDE = 8  # of inputs that may have any, such as the length of a text

Row = dict[str, Any]


def measure(paths: Sequence[str | Path], batches: Sequence[int] = BATCHES, *, workdir: str | Path | None = None,
            step: str | int = 'best', precisions: Sequence[str] = (), overrides: Sequence[str] = (),
            seconds: float = 2.0, labelled: str | Path | None = None) -> list[Row]:
    """Measures exported models side by side, in one process and in turns, so that noise is the same for all.

    Args:
      paths: of exported models, '.zip' or '.onnx'.
      batches: sizes to measure; a model that takes a list of sizes alone is measured on those of them.
      workdir: a run that is measured, too, and first: its function compiled by jax.jit, what an export comes from.
      step: of the run, 'best', 'last' or a number.
      precisions: of PRECISIONS, of the run, a row for each; () for its own.
      overrides: changes to the run's config.
      seconds: of every model at every size, compiling and warming up apart.
      labelled: a folder of folders of images, each named as the class of what is in it, for `accuracy`.

    Returns:
      A dict of JSON types for each model and size; all have the same keys, None where nothing is known:

        file: name of the file, or of the run and its precision.
        batch: its size. Sizes between powers of two are padded to the next, as in use.
        first_call_seconds: the first call at this size, which compiles; no cache of compiled programs is used.
        calls: how many were timed.
        p50_ms, p99_ms: latency of a call, arrays in, arrays out, by wall clock: exact quantiles of all calls.
        images_per_second: by wall clock, one call after the other.
        cpu_ms_per_image: processor time of all threads; median over rounds.
        p50_to_first, cpu_to_first: both in shares of the first model's at this size, medians over rounds.
        megabytes: of the file, 10**6 bytes.
        operations_before, operations_after: of fusion, see operations.py, at the first size that was measured.
        accuracy, labelled_images: share of labelled images that the likeliest class is right of, and how many.

    Raises:
      UserError: no such file, no model, a batch that it does not take, or labels that it does not know.
    """
    batches = _check(paths, batches, workdir, precisions, overrides, seconds)
    warn_of_load()
    with _compiling_anew():
        subjects = _of_run(Path(workdir).expanduser(), step, precisions, overrides) if workdir else []
        subjects += [_of_file(Path(path).expanduser(), max(batches)) for path in paths]
        _tell_apart(subjects)
        sizes = {subject: subject.sizes_of(batches) for subject in subjects}
        files = labelled_files(Path(labelled).expanduser(), subjects) if labelled else []
        rows = []
        for batch in batches:
            taking = [subject for subject in subjects if batch in sizes[subject]]
            rows += _measure_batch(taking, subjects[0], batch, seconds)
        counts = {subject.name: subject.count_operations(sizes[subject][0]) for subject in subjects}
        accuracies, scored = _accuracies(subjects, files, {subject: sizes[subject][-1] for subject in subjects})
    order = [subject.name for subject in subjects]
    rows = sorted(rows, key=lambda row: order.index(row['file']))
    megabytes = {subject.name: subject.megabytes for subject in subjects}
    return [row | {'megabytes': megabytes[name := row['file']], 'operations_before': counts[name][0],
                   'operations_after': counts[name][1], 'accuracy': accuracies.get(name),
                   'labelled_images': scored} for row in rows]


def short(value: float) -> str:
    """Returns a number with three digits, or all of those before the point."""
    return f'{value:,.0f}' if value >= 100 else f'{value:.3g}'


def warn_of_load() -> None:
    """Says so where other programs take the processors: wall times then mean little, processor time more."""
    load = os.getloadavg()[0]
    if load > cores():
        logging.warning('warning: %.1f programs want to run on %d cores: times by wall clock mean little, compare '
                        'processor time', load, cores())


class _Subject:
    """A model that is measured.

    Args:
      name: of it in the table.
      function: function(inputs) -> outputs, dicts of arrays by name, [batch, ...].
      meta: see artifact.py.
      reader: of the images it takes; None for other models.
      file: the file it is in; None for a run.
      lower: lower(inputs) -> jax.stages.Lowered, or None of what XLA does not run.
    """

    def __init__(self, name: str, function: Callable[[Mapping[str, np.ndarray]], Mapping[str, Any]],
                 meta: Mapping[str, Any], reader: ImageReader | None, file: Path | None,
                 lower: Callable[[Mapping[str, np.ndarray]], Any]):
        self.name, self.function, self.meta, self.reader, self.file = name, function, meta, reader, file
        self._lower = lower
        self.megabytes = None if file is None else file.stat().st_size / 1e6
        self.labels = list(meta['labels'])
        # Its first row of every example; a language model's seed has none.
        self.feature = next(name for name, of in meta['inputs'].items() if of['shape'][:1] == [None])

    def sizes_of(self, batches: Sequence[int]) -> list[int]:
        """Returns which of the sizes it takes; says which not. Raises UserError: none."""
        taken = self.meta.get('batch', artifact.ANY)
        found = [batch for batch in batches if taken == artifact.ANY or batch in taken]
        left = [str(batch) for batch in batches if batch not in found]
        known = '' if taken == artifact.ANY else ', '.join(map(str, taken))
        if not found:
            raise UserError(f'--batches {" ".join(left)}: {self.name} takes batches of {known} alone')
        if left:
            logging.warning('warning: %s takes batches of %s alone: it is not measured on %s', self.name, known,
                            ', '.join(left))
        return found

    def inputs(self, batch: int) -> dict[str, np.ndarray]:
        """Returns inputs of a size, the same ones always: pixels and numbers at random."""
        random = np.random.default_rng(0)
        found = {}
        for name, of in self.meta['inputs'].items():
            shape = [batch if side is None and not axis else _SIDE if side is None else side
                     for axis, side in enumerate(of['shape'])]
            dtype = np.dtype(of['dtype'])
            if dtype.kind == 'f':
                values = random.normal(size=shape)
            elif dtype.kind == 'u' and shape:
                values = random.integers(0, np.iinfo(dtype).max, shape, endpoint=True)
            else:
                values = np.ones(shape)  # tokens, a seed
            found[name] = np.asarray(values).astype(dtype)
        return found

    def count_operations(self, batch: int) -> tuple[int | None, int | None]:
        """Returns the operations before and after fusion, of a size that was called before."""
        if self.file is not None and self.file.suffix == '.onnx':
            from .onnx_runtime import count_operations  # an optional extra
            return count_operations(self.file)
        lowered = self._lower(self.inputs(batch))
        return operations.count(lowered) if lowered else (None, None)

    def classes(self, examples: np.ndarray) -> np.ndarray:
        """Returns the likeliest class of each image, int [n]."""
        logits, = self.function({self.feature: examples}).values()
        return np.argmax(np.asarray(logits), -1)


def _of_file(path: Path, largest: int) -> _Subject:
    model = Model(path, largest=2 ** math.ceil(math.log2(largest)), verify=False)
    return _Subject(path.name, model, model.meta, model.reader, path, model.lower)


def _of_run(workdir: Path, step: str | int, precisions: Sequence[str], overrides: Sequence[str]) -> list[_Subject]:
    found = []
    for precision in precisions or ('',):
        chosen = [f'precision={precision}'] if precision else []
        run = Run(workdir, step, overrides=[*overrides, *chosen])
        function = Function.of(run)
        reader = run.network() if run.feature == 'image' else None
        name = f'{workdir.resolve().name} (jit, {run.config.precision})'
        found.append(_jitted(name, function, reader))
    return found


def _jitted(name: str, function: Function, reader: ImageReader | None) -> _Subject:
    compiled = jax.jit(functools.partial(function.__call__))

    def call(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {name: np.asarray(values) for name, values in compiled(function.weights, inputs).items()}
    return _Subject(name, call, function.meta(), reader, None, lambda inputs: compiled.lower(function.weights, inputs))


def _measure_batch(subjects: Sequence[_Subject], first: _Subject, batch: int, seconds: float) -> list[Row]:
    """Returns the rows of one size: times and ratios."""
    inputs = {subject: subject.inputs(batch) for subject in subjects}
    first_calls = {subject: _first_call(subject, inputs[subject], batch) for subject in subjects}
    rounds: dict[_Subject, list[tuple[list[float], float]]] = {subject: [] for subject in subjects}
    for number in range(_ROUNDS):
        for subject in subjects if number % 2 else reversed(subjects):
            rounds[subject].append(_timed(subject, inputs[subject], seconds / _ROUNDS))
    medians = {subject: [1e3 * statistics.median(calls) for calls, _ in found] for subject, found in rounds.items()}
    processor = {subject: [1e3 * cpu / len(calls) / batch for calls, cpu in found] for subject, found in rounds.items()}
    rows = []
    for subject in subjects:
        calls = [call for some, _ in rounds[subject] for call in some]
        rows.append({
            'file': subject.name, 'batch': batch, 'first_call_seconds': first_calls[subject], 'calls': len(calls),
            'p50_ms': 1e3 * quantile(calls, 0.5), 'p99_ms': 1e3 * quantile(calls, 0.99),
            'images_per_second': batch * len(calls) / sum(calls),
            'cpu_ms_per_image': statistics.median(processor[subject]),
            'p50_to_first': _ratio(medians[subject], medians.get(first)),
            'cpu_to_first': _ratio(processor[subject], processor.get(first))})
        logging.info('%s, batch %d: p50 %s ms, p99 %s ms, processor %s ms an image', printable(subject.name), batch,
                     *(short(rows[-1][key]) for key in ('p50_ms', 'p99_ms', 'cpu_ms_per_image')))
    return rows


def _first_call(subject: _Subject, inputs: Mapping[str, np.ndarray], batch: int) -> float:
    try:
        begin = time.perf_counter()
        subject.function(inputs)
        taken = time.perf_counter() - begin
        subject.function(inputs)  # memory that only the first call has to ask for
    except jax.errors.JaxRuntimeError as error:
        if 'RESOURCE_EXHAUSTED' not in str(error):
            raise
        raise UserError(f'{subject.name}: a batch of {batch} does not fit into memory; leave it out of '
                        '--batches') from error
    return taken


def _timed(subject: _Subject, inputs: Mapping[str, np.ndarray], seconds: float) -> tuple[list[float], float]:
    """Returns the seconds of each call, one at least, and the processor's seconds of all of them."""
    calls = []
    cpu, end = time.process_time(), time.perf_counter() + seconds
    begin = 0.0
    while begin < end:
        begin = time.perf_counter()
        subject.function(inputs)
        now = time.perf_counter()
        calls.append(now - begin)
        begin = now
    return calls, time.process_time() - cpu


def quantile(values: Sequence[float], share: float) -> float:
    """Returns the least value that at least so many do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1]


def _ratio(own: Sequence[float], first: Sequence[float] | None) -> float | None:
    return None if first is None or not all(first) else statistics.median(a / b for a, b in zip(own, first))


@contextlib.contextmanager
def _compiling_anew() -> Iterator[None]:
    """Keeps JAX from taking programs that were compiled before: the first call would not say what compiling takes."""
    from jax.experimental.compilation_cache import compilation_cache
    was = jax.config.jax_enable_compilation_cache
    jax.config.update('jax_enable_compilation_cache', False)
    compilation_cache.reset_cache()  # it asks once in a process
    try:
        yield
    finally:
        jax.config.update('jax_enable_compilation_cache', was)
        compilation_cache.reset_cache()


def labelled_files(folder: Path, subjects: Sequence[_Subject]) -> list[tuple[Path, str]]:
    """Returns the images of a folder of class folders with their labels, each file once wherever links lead.

    Raises:
      UserError: a folder that is no class of one of the models, an empty one, an image in no class or in two, or a
        model that tells no classes apart.
    """
    for subject in subjects:
        if subject.meta['task']['name'] != 'classification' or subject.reader is None:
            raise UserError(f'--labelled: accuracy is of classifiers of images, {subject.name} is for '
                            f'{subject.meta["task"]["name"]}')
    if not folder.is_dir():
        raise file_error(folder, 'no such folder; --labelled is a folder of class folders')
    entries = sorted(entry for entry in folder.iterdir() if not entry.name.startswith('.'))
    found: dict[Path, tuple[Path, str]] = {}
    for entry in entries:
        if not entry.is_dir():
            if entry.suffix.lower() in image_search.IMAGE_SUFFIXES:
                raise file_error(entry, 'is in no class: --labelled takes a folder for each class')
            continue
        for subject in subjects:
            if entry.name not in subject.labels:
                raise file_error(entry, f'{subject.name} has no class {entry.name!r}; '
                                        f'{nearest(entry.name, subject.labels)}')
        for file in image_search.find_images(entry):
            _, label = found.setdefault(file.resolve(), (file, entry.name))
            if label != entry.name:
                raise file_error(file, f'is in the folder of {label!r}, too')
    if not found:
        raise file_error(folder, 'has no class folders: --labelled takes a folder for each class, named as it')
    return list(found.values())


def _accuracies(subjects: Sequence[_Subject], files: Sequence[tuple[Path, str]], sizes: Mapping[_Subject, int]
                ) -> tuple[dict[str, float], int | None]:
    """Returns name -> share of right answers, and of how many images; of batches that were compiled before.

    Images that cannot be read are named and left out.
    """
    if not files:
        return {}, None
    found, unreadable = {}, {}
    for subject in subjects:
        def read(row: tuple[Path, str], reader: ImageReader = subject.reader) -> np.ndarray | None:
            try:
                return reader.fit(reader.read_file(row[0]))
            except UserError as error:
                unreadable[row[0]] = str(error)
                return None
        tick = ProgressLog(f'images for {subject.name}', len(files))
        size, right, count = sizes[subject], 0, 0
        for begin in range(0, len(files), size):
            part = files[begin:begin + size]
            rows = [(image, label) for image, (_, label) in zip(parallel_map(read, part), part) if image is not None]
            if rows:
                batch = np.stack([image for image, _ in rows])
                padded = np.concatenate([batch, np.zeros((size - len(rows), *batch.shape[1:]), batch.dtype)])
                classes = subject.classes(padded)[:len(rows)].tolist()
                right += sum(subject.labels[said] == label for said, (_, label) in zip(classes, rows))
                count += len(rows)
            tick(begin + len(part))
        found[subject.name] = right / count if count else math.nan
    for line in unreadable.values():
        logging.warning('warning: %s; it is left out', line)
    return {name: share for name, share in found.items() if not math.isnan(share)}, len(files) - len(unreadable)


def _check(paths: Sequence[str | Path], batches: Sequence[int], workdir: str | Path | None,
           precisions: Sequence[str], overrides: Sequence[str], seconds: float) -> list[int]:
    """Returns the sizes in their order, each once."""
    if not paths and not workdir:
        raise UserError('nothing to measure: name files that launch.py export wrote, or a --workdir')
    if isinstance(paths, (str, Path)):
        raise UserError(f'{paths}: give a list of files')
    for path in map(Path, paths):
        if path.suffix not in ('.zip', '.onnx'):
            raise file_error(path, 'is neither .zip nor .onnx; launch.py export makes them')
    if not isinstance(batches, Sequence) or not batches or not all(type(size) is int and size > 0 for size in batches):
        sizes = ' '.join(map(str, batches)) if isinstance(batches, Sequence) else batches
        raise UserError(f'--batches {sizes}: a list of whole numbers from 1 on')
    if not (math.isfinite(seconds) and seconds > 0):
        raise UserError(f'--seconds {seconds}: it must be above 0')
    for precision in precisions:
        if precision not in PRECISIONS:
            raise UserError(f'--precision {precision}: {nearest(precision, PRECISIONS)}')
    if (precisions or overrides) and not workdir:
        raise UserError('--precision and --config are for a --workdir: a file has been made with its own')
    return sorted(set(batches))


def _tell_apart(subjects: Sequence[_Subject]) -> None:
    """Gives names that several have their folder, and a number where it is one file: that shows how large noise is."""
    files: dict[str, set[Path | None]] = {}
    for subject in subjects:
        files.setdefault(subject.name, set()).add(subject.file)
    for subject in subjects:
        if len(files[subject.name]) > 1:
            subject.name = str(subject.file)
    seen: dict[str, int] = {}
    for subject in subjects:
        seen[subject.name] = number = seen.get(subject.name, 0) + 1
        if number > 1:
            subject.name += f' ({number})'
