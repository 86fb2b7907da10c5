"""The loss over all values of a model's two parameters, and the path that a training took there."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from ..input_pipeline import preprocessing
from .components import Training
from .step import TrainState, apply_model

_POINTS = 121  # of the grid, on each side
_MOST_EXAMPLES = 1000
_LEVELS = 24
_MOST_DOTS = 60


def losses_of(training: Training, state: TrainState) -> Callable[[np.ndarray], np.ndarray]:
    """Returns losses(points): the mean training loss at values of the parameters, float [n, 2] -> float64 [n].

    Args:
      training: of a model of two parameters; of at most 1,000 of its examples, spread evenly.
      state: of the model.
    """
    source, task = training.source, training.task
    places = np.unique(np.linspace(0, len(source) - 1, min(len(source), _MOST_EXAMPLES)).astype(np.int64))
    batch = preprocessing.build(training.config.image)(source.read(places), None)
    if task.needs_rng:
        batch |= {'rng': jax.random.split(jax.random.key(training.config.seed), len(places))}
    params = jax.tree.map(np.asarray, training.parallel.fetch(state.params))
    batch_stats = training.parallel.fetch(state.batch_stats)
    _, unravel = jax.flatten_util.ravel_pytree(params)
    forward = apply_model(training.model, task)

    def loss(point):
        outputs = forward({'params': unravel(point), 'batch_stats': batch_stats}, batch, train=False)
        return jnp.mean(task.score(outputs, batch)['loss'])
    compute = jax.jit(lambda rows: jax.lax.map(jax.vmap(loss), rows))
    return lambda points: np.asarray(compute(np.asarray(points, np.float32)[:, None]), np.float64)[:, 0]


def draw(losses: Callable, names: Sequence[str], rows: Sequence[Mapping[str, Any]]):
    """Draws lines of equal loss and the path over them.

    Args:
      losses: see `losses_of`.
      names: of the two parameters, in the order in which `losses` takes them; the last one is drawn to the right, as
        slopes and kernels are.
      rows: of parameters.jsonl: dicts with 'step' and 'parameters'.

    Returns:
      A matplotlib figure: the whole path, and the surface as a relief.
    """
    from matplotlib.colors import LogNorm
    from matplotlib.figure import Figure
    path = np.array([[row['parameters'][name] for name in names] for row in rows], np.float64)
    steps = [row['step'] for row in rows]
    centre = (path.max(0) + path.min(0)) / 2
    reach = np.maximum(0.8 * (path.max(0) - path.min(0)), 0.4 * (path.max(0) - path.min(0)).max() or 1.0)
    down, right = (np.linspace(centre[i] - reach[i], centre[i] + reach[i], _POINTS) for i in (0, 1))
    grid = np.stack(np.meshgrid(down, right, indexing='ij'), axis=-1)
    found = losses(grid.reshape(-1, 2)).reshape(_POINTS, _POINTS)
    finite = np.isfinite(found)
    found[~finite] = found[finite].max(initial=1.0)  # far from anywhere, what float32 does not hold
    on_path = np.minimum(losses(path), found.max())
    low = max(found.min(), found.max() * 1e-4, np.finfo(np.float64).tiny)
    levels = np.geomspace(low, max(found.max(), 2 * low), _LEVELS)
    figure = Figure(figsize=(11, 4.8), layout='constrained')
    axes = figure.add_subplot(1, 2, 1)
    shown = np.maximum(found, low)
    filled = axes.contourf(right, down, shown, levels=levels, norm=LogNorm(low, levels[-1]), cmap='viridis')
    axes.contour(right, down, shown, levels=levels, norm=LogNorm(low, levels[-1]), colors='white', linewidths=0.3)
    bar = figure.colorbar(filled, ax=axes, label='training loss')
    ticks = 10.0 ** np.arange(np.ceil(np.log10(low)), np.floor(np.log10(levels[-1])) + 1)
    bar.set_ticks(ticks, labels=[f'{tick:g}' for tick in ticks])
    axes.plot(path[:, 1], path[:, 0], color='tab:red', linewidth=1.4)
    dots = np.unique(np.geomspace(1, len(path), min(len(path), _MOST_DOTS)).astype(int)) - 1
    axes.plot(path[dots, 1], path[dots, 0], '.', color='tab:red', markersize=4)
    for place, symbol in ((0, 'o'), (-1, '*')):
        axes.plot(path[place, 1], path[place, 0], symbol, color='tab:red', markeredgecolor='white', markersize=11,
                  label=f'step {steps[place]:,}: {names[1]} = {path[place, 1]:.4g}, {names[0]} = {path[place, 0]:.4g}')
    axes.legend(fontsize=8)
    axes.set(xlabel=names[1], ylabel=names[0], title='lines of equal loss and the path of the training')
    relief = figure.add_subplot(1, 2, 2, projection='3d')
    relief.plot_surface(*np.meshgrid(right, down), found, cmap='viridis', alpha=0.85, linewidth=0, rcount=60, ccount=60)
    relief.plot(path[:, 1], path[:, 0], on_path, color='tab:red', linewidth=1.6, zorder=10)
    relief.set(xlabel=names[1], ylabel=names[0], title='the same as a relief')
    relief.set_zlabel('training loss')
    relief.set_box_aspect(None, zoom=0.85)  # room for the label
    return figure
