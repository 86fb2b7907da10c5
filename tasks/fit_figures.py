"""Pictures of what a model makes of few numbers: regions of classes in a plane, and a curve among points."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_GRID = 160  # points of the plane, on each side
_CURVE = 400
_MARGIN = 0.12  # share of the range of the points around them
COLOURS = ('tab:blue', 'tab:orange', 'tab:green', 'tab:red', 'tab:purple', 'tab:brown', 'tab:pink', 'tab:gray',
           'tab:olive', 'tab:cyan')
_MARKS = ('o', '^', 's')  # of sets


def apply(model: Any, variables: Mapping[str, Any], points: np.ndarray) -> np.ndarray:
    """Returns a model's outputs in inference, on the host."""
    return np.asarray(_forward(model, variables, jnp.asarray(points, jnp.float32)))


@functools.partial(jax.jit, static_argnums=0)  # compiled once for all pictures of a run
def _forward(model: Any, variables: Mapping[str, Any], points: jax.Array) -> jax.Array:
    return model.apply(variables, points, train=False)


def is_plane(sets: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
    """Whether examples are points of a plane, 'x' [n, 2], with a 'label'."""
    return all(examples['x'].shape[1:] == (2,) and 'label' in examples for examples in sets.values())


def is_curve(sets: Mapping[str, Mapping[str, np.ndarray]]) -> bool:
    """Whether examples are single numbers, 'x' [n] or [n, 1], and what belongs to them, 'y' [n] or [n, 1]."""
    return all(examples['x'][0].size == 1 and 'y' in examples and examples['y'][0].size == 1
               for examples in sets.values())


def draw_regions(probabilities: Callable[[np.ndarray], np.ndarray], sets: Mapping[str, Mapping[str, np.ndarray]],
                 class_names: tuple[str, ...], title: str = '', axes: Any = None):
    """Draws which class each point of a plane is taken for, how surely, and the points of the sets.

    Args:
      probabilities: float [n, 2] -> float [n, classes].
      sets: name -> 'x' float [n, 2] and 'label' int [n].
      class_names: of the labels.
      title: of the picture.
      axes: of matplotlib, to draw on; None for a figure of its own.

    Returns:
      The matplotlib figure.
    """
    from matplotlib.colors import to_rgb
    from matplotlib.figure import Figure
    points = np.concatenate([examples['x'] for examples in sets.values()])
    left, right, bottom, top = limits(points)
    across, up = np.linspace(left, right, _GRID), np.linspace(bottom, top, _GRID)
    grid = np.stack(np.meshgrid(across, up), axis=-1)
    shares = probabilities(grid.reshape(-1, 2).astype(np.float32))
    palette = np.array([to_rgb(COLOURS[i % len(COLOURS)]) for i in range(shares.shape[1])])
    surely = (shares.max(axis=1, keepdims=True) - 1 / shares.shape[1]) / (1 - 1 / shares.shape[1])
    picture = 1 - (0.12 + 0.48 * surely) * (1 - palette[shares.argmax(axis=1)])
    if axes is None:
        figure = Figure(figsize=(5.6, 5.4), layout='constrained')
        axes = figure.add_subplot()
    axes.imshow(picture.reshape(_GRID, _GRID, 3), origin='lower', extent=(left, right, bottom, top), aspect='auto',
                interpolation='bilinear')
    for number in range(shares.shape[1]):
        lead = shares[:, number] - np.delete(shares, number, axis=1).max(axis=1)
        if lead.min() < 0 < lead.max():
            axes.contour(across, up, lead.reshape(_GRID, _GRID), levels=[0], colors='#333333', linewidths=0.9)
    for (name, examples), mark in zip(sets.items(), _MARKS):
        for number, class_name in enumerate(class_names):
            own = examples['x'][examples['label'] == number]
            axes.scatter(*own.T, s=14, marker=mark, color=COLOURS[number % len(COLOURS)], edgecolors='white',
                         linewidths=0.5, label=f'{class_name}, {name}')
    axes.set(xlim=(left, right), ylim=(bottom, top))
    axes.set_title(title, fontsize=10)
    if len(class_names) * len(sets) <= 6:
        axes.legend(fontsize=7, loc='upper right')
    return axes.figure


def draw_curve(curve: Callable[[np.ndarray], np.ndarray], sets: Mapping[str, Mapping[str, np.ndarray]],
               title: str = ''):
    """Draws a function of one number among the points that it should go through.

    Args:
      curve: float [n] -> float [n].
      sets: name -> 'x' and 'y', float [n] or [n, 1].
      title: of the picture.

    Returns:
      A matplotlib figure.
    """
    from matplotlib.figure import Figure
    points = {name: np.stack([examples['x'].ravel(), examples['y'].ravel()], axis=1)
              for name, examples in sets.items()}
    left, right, bottom, top = limits(np.concatenate(list(points.values())))
    across = np.linspace(left, right, _CURVE, dtype=np.float32)
    figure = Figure(figsize=(6.4, 4.4), layout='constrained')
    axes = figure.add_subplot()
    # The first set is the training's: it stands out.
    for number, (name, own) in enumerate(points.items()):
        axes.plot(*own.T, _MARKS[number % len(_MARKS)], markersize=3 if number else 7, zorder=1 if number else 3,
                  color=('tab:orange', '#b9bdc1', '#8fb3d1')[number % 3], label=f'{name}, {len(own):,} points')
    axes.plot(across, curve(across), color='tab:blue', linewidth=1.8, zorder=2, label='the model')
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel='x', ylabel='y')
    axes.set_title(title, fontsize=10)
    axes.legend(fontsize=8)
    return figure


def limits(points: np.ndarray) -> tuple[float, ...]:
    """Returns left, right, bottom and top of a picture of points, float [n, 2]."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = _MARGIN * np.maximum(high - low, 1e-6)
    return low[0] - margin[0], high[0] + margin[0], low[1] - margin[1], high[1] + margin[1]
