"""The end of a run: result.json, learning curves, and the table a person reads."""

import csv
import io
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ..common.console import format_metric, format_seconds
from ..common.errors import some
from ..common.files import replacing, write_json, write_text
from ..tasks import Animation, Frame
from .evaluation import Evaluation
from .learning_curves import draw_learning_curves
from .rows import to_json
from .writers import read_rows

RESULT_FILE = 'result.json'
_FRAME_SECONDS = 0.3


def write_result(workdir: Path, config: ConfigDict, metrics: dict[str, float], *, step: int, wall_seconds: float,
                 examples_per_second: float, best: dict[str, Any] | None, primary_metric: str,
                 learned: dict[str, float] | None = None, about: dict[str, Any] | None = None) -> None:
    """Writes result.json and, with config.figures, learning_curves.png, and prints the result table.

    Args:
      workdir: the run's folder, with its metrics.jsonl.
      config: the run's config.
      metrics: final metrics by flat name, 'test/accuracy'.
      step: steps done.
      wall_seconds: from the first start to the end, over all processes that worked on the run.
      examples_per_second: training speed, see `Progress`.
      best: {'step', 'metric'} of the best checkpoint, or None.
      primary_metric: the task's, which comes first in the table.
      learned: parameters of a model of a few numbers, by path.
      about: what else to note, see `snapshot.write`.
    """
    result = {'experiment': config.experiment, 'seed': config.seed, 'step': step,
              'wall_seconds': round(wall_seconds, 2), 'examples_per_second': round(examples_per_second, 1),
              'metrics': metrics, 'best': best, **({'learned': learned} if learned else {}), **(about or {})}
    if config.figures:
        figure = draw_learning_curves(read_rows(workdir), config.experiment, primary_metric)
        write_image(workdir / 'learning_curves.png', figure)
    write_json(workdir / RESULT_FILE, to_json(result))  # last: it says that nothing is left to do
    logging.info('%s', result_table(result, primary_metric))
    logging.info('everything about this run is in %s', workdir)


def print_result(workdir: Path, step: int, primary_metric: str) -> bool:
    """Prints the result table of a run that ended at this step; returns whether it has one that can be read."""
    try:
        result = json.loads((workdir / RESULT_FILE).read_bytes().decode())
        if result['step'] != step:
            return False
        table = result_table(result, primary_metric)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError):
        return False  # damaged: it is written anew
    logging.info('%s', table)
    return True


def result_table(result: dict[str, Any], primary_metric: str) -> str:
    """Returns the final metrics as a small table, of each set the primary metric first, then the loss."""
    metrics = result['metrics']
    lines = [(name, format_metric(name, metrics[name])) for name in _sorted(metrics, primary_metric)]
    lines += [(path, f'{value:.6g}') for path, value in result.get('learned', {}).items()]
    lines += [('steps', f"{result['step']:,}"), ('wall time', format_seconds(result['wall_seconds'])),
              ('examples/s', f"{result['examples_per_second']:,.0f}")]
    if result['best']:
        lines.append((f"best {result['best']['metric']}", f"at step {result['best']['step']:,}"))
    left, right = max(len(a) for a, _ in lines), max(len(b) for _, b in lines)
    title = f"{result['experiment']} (seed {result['seed']})"
    rule = '-' * max(len(title), left + right + 2)
    return '\n'.join(['', title, rule, *(f'{a:<{left}}  {b:>{right}}' for a, b in lines), rule])


def population_table(experiment: str, runs: Mapping[str, Mapping[str, float]], primary_metric: str) -> str:
    """Returns what the final metrics of several runs have in common: mean, standard deviation and range.

    Args:
      experiment: its name.
      runs: name of a run -> its metrics.
      primary_metric: the task's, which comes first of each set.
    """
    rows = [('', 'mean', 'std', 'min', 'max')]
    names = dict.fromkeys(name for metrics in runs.values() for name in metrics)
    for name in _sorted(names, primary_metric):
        values = [metrics[name] for metrics in runs.values() if name in metrics]
        deviation = format_metric(name, float(np.std(values, ddof=1))) if len(values) > 1 else '-'
        rows.append((name, format_metric(name, float(np.mean(values))), deviation,
                     format_metric(name, min(values)), format_metric(name, max(values))))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['  '.join([f'{row[0]:<{widths[0]}}', *(f'{cell:>{width}}' for cell, width in zip(row[1:], widths[1:]))])
             for row in rows]
    title = f'{experiment}, {len(runs)} runs: {some(list(runs))}'
    rule = '-' * max(map(len, [title, *lines]))
    return '\n'.join(['', title, rule, *lines, rule])


def _sorted(names: Iterable[str], primary_metric: str) -> list[str]:
    """Returns flat names of metrics: of each set the primary metric first, then the loss."""
    def place(flat: str):
        group, _, name = flat.rpartition('/')
        return group, name != primary_metric, name != 'loss', name
    return sorted(names, key=place)


def metric_line(metrics: dict[str, float], primary_metric: str) -> str:
    """Returns each set's primary metric and loss on one line."""
    shown = [name for name in metrics if name.rpartition('/')[2] in (primary_metric, 'loss')]
    return '  '.join(f'{name} {format_metric(name, metrics[name])}' for name in shown)


def format_table(rows: list[dict[str, Any]]) -> str:
    """Returns rows of equal keys as aligned columns; shares have three digits, None is '-'."""
    cells = [list(rows[0])] + [['-' if value is None else f'{value:.3f}' if isinstance(value, float) else str(value)
                                for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells)]
    return '\n'.join('  '.join(f'{cell:<{width}}' for cell, width in zip(line, widths)).rstrip() for line in cells)


def write_evaluation(workdir: Path, name: str, step: int, task: Any, found: Evaluation, *, figures: bool = True
                     ) -> dict[str, np.ndarray]:
    """Writes <workdir>/<name>_<figure>.png, <name>_<table>.csv and, where single examples are scored, _examples.json.

    Args:
      workdir: the folder.
      name: of the set.
      step: of the parameters.
      task: that was evaluated.
      found: what came out.
      figures: whether images are drawn.

    Returns:
      '<name>/<figure>' -> the image, uint8 [height, width, 3].
    """
    if found.examples:
        rows = [task.per_example.listed(row) for row in found.examples]
        content = {'step': step, 'metrics': found.scalars(), 'examples': rows}
        write_json(workdir / f'{name}_examples.json', to_json(content))
    for key, rows in task.tables(found.metrics).items():
        write_table(workdir / f'{name}_{key}.csv', rows)
    if not figures:
        return {}
    return {f'{name}/{key}': write_image(workdir / f'{name}_{key}.png', figure)
            for key, figure in task.figures(found.metrics, found.worst, found.first).items()}


def write_table(path: Path, rows: list[dict[str, Any]]) -> None:
    """Writes rows of equal keys as a csv file."""
    table = io.StringIO(newline='')
    writer = csv.DictWriter(table, list(rows[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, table.getvalue())


def write_model_figures(workdir: Path, step: int, figures: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Writes figures that are drawn from the model alone; returns name -> pixels for TensorBoard.

    They are <workdir>/<figure>.png, the latest. A `Frame` is kept as <workdir>/<figure>/<step>.png, and all frames up
    to this one become <workdir>/<figure>.gif: those of steps that a resumed run does again are drawn again.
    """
    images = {}
    for name, figure in figures.items():
        if isinstance(figure, Frame):
            keep_frame(workdir / name, step, figure.pixels)
            write_film(workdir / name, step)
            images[f'model/{name}'] = figure.pixels
        else:
            images[f'model/{name}'] = write_image(workdir / f'{name}.png', figure)
    return images


def write_image(path: Path, figure) -> np.ndarray:
    """Writes a matplotlib figure as PNG and returns its pixels, uint8 [height, width, 3].

    An `Animation` is written as GIF, by the same name but for its end; its last frame is returned.
    """
    if isinstance(figure, Animation):
        return _write_animation(path.with_suffix('.gif'), figure)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    figure.set_dpi(110)
    canvas = FigureCanvasAgg(figure)
    with replacing(path) as file:
        canvas.print_png(file)
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def keep_frame(folder: Path, step: int, pixels: np.ndarray) -> None:
    """Writes a picture, uint8 [height, width, 3], as <folder>/<step>.png, of which `write_film` makes a film."""
    from PIL import Image
    folder.mkdir(exist_ok=True)
    with replacing(folder / f'{step}.png') as file:
        Image.fromarray(pixels).save(file, 'PNG')


def write_film(folder: Path, step: int) -> None:
    """Writes the frames of a folder up to a step as <folder>.gif; those of the latest frame's size."""
    from PIL import Image
    steps = sorted(int(path.stem) for path in folder.glob('*.png') if path.stem.isdecimal() and int(path.stem) <= step)
    frames = []
    for kept in steps:
        with Image.open(folder / f'{kept}.png') as image:
            frames.append(np.asarray(image.convert('RGB')))
    fitting = [pixels for pixels in frames if pixels.shape == frames[-1].shape]
    _write_animation(folder.with_suffix('.gif'), Animation(np.stack(fitting), _FRAME_SECONDS))


def _write_animation(path: Path, animation: Animation) -> np.ndarray:
    from PIL import Image
    first, *others = map(Image.fromarray, animation.frames)
    with replacing(path) as file:  # the last frame stays a second before it begins again
        first.save(file, 'GIF', save_all=True, append_images=others, loop=0, optimize=False,
                   duration=[round(1000 * animation.seconds)] * len(others) + [1000])
    return animation.frames[-1]
