"""What `measure` found, as tables, as a picture and as JSON."""

import functools
import importlib.metadata
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.console import format_metric
from ..common.errors import UserError, file_error, printable
from ..common.files import write_json, write_text
from ..common.threads import import_lock
from ..reporting import tables
from ..training import snapshot
from ..training.learning_curves import COLOURS, GRID, INK
from ..training.results import write_image
from .measure import short

SUFFIXES = ('.csv', '.md', '.png')
_NAME = 'measure'  # of files in a folder
_COLUMNS: Mapping[str, tuple[str, int | None]] = {  # key -> header, and what is left out first where there is no room
    'file': ('file', None), 'batch': ('batch', None), 'p50_ms': ('p50 ms', None), 'p99_ms': ('p99 ms', 2),
    'images_per_second': ('images/s', 3), 'cpu_ms_per_image': ('cpu ms/image', None),
    'cpu_to_first': ('cpu/first', None), 'p50_to_first': ('p50/first', 4), 'first_call_seconds': ('first call s', 7),
    'calls': ('calls', 9), 'megabytes': ('MB', 5), 'operations_before': ('ops before', 6),
    'operations_after': ('ops after', 6), 'accuracy': ('accuracy', 1), 'labelled_images': ('labelled', 8)}


def check_output(output: Path) -> None:
    """Makes the folder of what is to be written, before anything is measured.

    Args:
      output: '.csv', '.md' or '.png'; without a suffix a folder for all three.

    Raises:
      UserError: another suffix, or a place where nothing can be written.
    """
    if output.suffix and output.suffix not in SUFFIXES and not output.is_dir():
        raise UserError(f'{printable(str(output))}: end --output with {", ".join(SUFFIXES)}, or name a folder')
    folder = output.parent if output.suffix in SUFFIXES else output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise file_error(folder, f'cannot be made: {error.strerror}; name another --output') from error
    if output.suffix in SUFFIXES and output.is_dir():
        raise file_error(output, 'is a folder; name another --output')
    if not os.access(folder, os.W_OK):
        raise file_error(folder, 'may not be written to; name another --output')


def write(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], output: Path) -> list[Path]:
    """Writes what was found, and beside it as .json with everything that is known of where it was found.

    Args:
      rows: of `measure`.
      about: see `surroundings`.
      output: see `check_output`.

    Returns:
      The files.

    Raises:
      UserError: they cannot be written.
    """
    files = [output] if output.suffix in SUFFIXES else [output / f'{_NAME}{suffix}' for suffix in SUFFIXES]
    writers: Mapping[str, Callable[[Path], Any]] = {
        '.csv': lambda file: write_text(file, tables.csv_text(list(rows[0]), [list(row.values()) for row in rows])),
        '.md': lambda file: write_text(file, f'{tables.markdown(columns(rows))}\n{describe(about)}\n'),
        '.png': functools.partial(_write_picture, rows, about)}
    beside = files[0].with_suffix('.json')
    try:
        for file in files:
            writers[file.suffix](file)
        write_json(beside, {**about, 'rows': list(rows)})
    except OSError as error:
        raise file_error(output, f'cannot be written: {error.strerror}; name another --output') from error
    return [*files, beside]


def surroundings(**more: Any) -> dict[str, Any]:
    """Returns what a measurement is made on: command, versions, processor, devices, load average; and `more`."""
    found = snapshot.environment()
    for package in ('onnxruntime', 'onnx', 'openvino'):
        try:
            found['packages'][package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {'date': time.strftime('%Y-%m-%d'), **found, 'processor': snapshot.processor(),
            'load_average': list(os.getloadavg()), **more}


def describe(about: Mapping[str, Any]) -> str:
    """Returns one line on where it was measured."""
    packages = ', '.join(f'{name} {version}' for name, version in about['packages'].items()
                         if name in ('jax', 'onnxruntime') and version)
    devices = ', '.join(dict.fromkeys(about['devices']))
    return (f"Measured {about['date']} on {devices} ({about['processor'] or 'unknown processor'}, {about['cpu_cores']} "
            f"cores, load average {about['load_average'][0]:.1f}), {packages}.")


def columns(rows: Sequence[Mapping[str, Any]]) -> list[tables.Column]:
    """Returns the columns of the table as a person reads it; what no row has is left out."""
    found = []
    for key, (header, rank) in _COLUMNS.items():
        values = [row[key] for row in rows]
        if any(value is not None for value in values):
            found.append(tables.Column(header, [_cell(key, value) for value in values], key != 'file', rank))
    return found


def _cell(key: str, value: Any) -> str:
    if value is None:
        return '-'
    if key == 'accuracy':
        return format_metric(key, value)
    if not isinstance(value, float):
        return f'{value:,}' if isinstance(value, int) else str(value)
    if key.endswith('_to_first'):
        return f'{value:.2f}'
    return short(value)


def draw(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> Any:
    """Returns a matplotlib figure of latency over throughput: a line for each file, a dot for each batch size."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
    figure = Figure(figsize=(8, 5.2), layout='constrained')
    axes = figure.add_subplot()
    for number, file in enumerate(dict.fromkeys(row['file'] for row in rows)):
        own = [row for row in rows if row['file'] == file]
        colour = COLOURS[1 + number % (len(COLOURS) - 1)]
        across = [row['images_per_second'] for row in own]
        p50, p99 = ([row[key] for row in own] for key in ('p50_ms', 'p99_ms'))
        axes.vlines(across, p50, [max(pair) for pair in zip(p50, p99)], color=colour, linewidth=1, alpha=0.5)
        axes.plot(across, p50, marker='o', markersize=5, linewidth=1.4, color=colour, label=file)
        for row in own:
            axes.annotate(str(row['batch']), (row['images_per_second'], row['p50_ms']), xytext=(5, -9),
                          textcoords='offset points', color=colour, fontsize=8)
    axes.set(xscale='log', yscale='log')
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f'{value:,.10g}'))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel('images/s', color=INK, fontsize=9)
    axes.set_ylabel('latency of a batch, ms: p50, line up to p99', color=INK, fontsize=9)
    axes.tick_params(length=0, which='both', labelcolor=INK, labelsize=9)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(color=GRID, linewidth=1)
    axes.set_title('Latency and throughput by batch size')
    legend = axes.legend(frameon=False, fontsize=9, ncols=2, loc='upper center', bbox_to_anchor=(0.5, -0.12))
    for text in legend.get_texts():
        text.set_parse_math(False)
    figure.supxlabel(describe(about), color=INK, fontsize=7, parse_math=False)
    return figure


def _write_picture(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], file: Path) -> None:
    with import_lock:
        write_image(file, draw(rows, about))
