"""Histograms of weights and gradients, counted on the devices.

The gradient is computed a second time, by a program of its own: that of the training step is the same whether anybody
looks or not, and so are its numbers.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from .learning_curves import INK

BINS = 40
_MOST_ROWS = 12  # parameters in a picture


class Histogram(NamedTuple):
    """How the values of an array are distributed.

    Attributes:
      low, high: the least and the greatest; around it where all of them are one value.
      counts: int [BINS], of intervals of equal width from low to high.
    """
    low: float
    high: float
    counts: np.ndarray

    @property
    def edges(self) -> np.ndarray:
        """The ends of the intervals, float64 [BINS + 1]."""
        return np.linspace(self.low, self.high, len(self.counts) + 1)


def counted(tree: Any) -> dict[str, jax.Array]:
    """Returns what `to_histograms` reads: 'range' float32 [arrays, 2] and 'counts' int32 [arrays, BINS]."""
    ranges, counts = zip(*map(_count, jax.tree.leaves(tree)))
    return {'range': jnp.stack(ranges), 'counts': jnp.stack(counts)}


def _count(values: jax.Array) -> tuple[jax.Array, jax.Array]:
    values = values.astype(jnp.float32).ravel()
    low, high = values.min(), values.max()
    widening = jnp.where(low == high, jnp.maximum(1e-6, 1e-3 * jnp.abs(low)), 0)
    low, high = low - widening, high + widening
    places = jnp.clip(((values - low) / (high - low) * BINS).astype(jnp.int32), 0, BINS - 1)
    # On a CPU twenty times as fast as comparing with all edges.
    return jnp.stack([low, high]), jnp.zeros(BINS, jnp.int32).at[places].add(1)


def to_histograms(kind: str, tree: Any, found: Mapping[str, np.ndarray]) -> dict[str, Histogram]:
    """Returns '<kind>/<path>' -> histogram; arrays with a value that is not finite are left out.

    Args:
      kind: 'weights' or 'gradients'.
      tree: of which `counted` was given an equal one.
      found: what it returned, on the host.
    """
    paths = [jax.tree_util.keystr(path, simple=True, separator='/')
             for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    return {f'{kind}/{path}': Histogram(float(low), float(high), counts)
            for path, (low, high), counts in zip(paths, found['range'], found['counts']) if np.isfinite(high - low)}


def gradient_counter(find: Callable) -> Callable:
    """Returns count(state, batch) -> what `counted` does of the gradients that a step from there has.

    Args:
      find: of `step.make_gradients`.
    """
    def gradient_histograms(state, batch):
        return counted(find(state, batch)[0])
    return gradient_histograms


def draw_histograms(rows: Sequence[Mapping[str, Any]]):
    """Draws how weights and gradients are distributed over time, the first parameters of a model.

    Args:
      rows: of histograms.jsonl: dicts with 'step', 'name', 'low', 'high' and 'counts'.

    Returns:
      A matplotlib figure: for each parameter quantiles over the steps.
    """
    from matplotlib.figure import Figure
    found: dict[str, dict[str, list]] = {}
    for row in rows:
        kind, _, path = row['name'].partition('/')
        found.setdefault(path, {}).setdefault(kind, []).append(row)
    shown = list(found)[:_MOST_ROWS]
    figure = Figure(figsize=(9, 1.0 + 1.35 * len(shown)), layout='constrained')
    axes = figure.subplots(len(shown), 2, squeeze=False, sharex=True)
    for line, path in zip(axes, shown):
        for place, kind in zip(line, ('weights', 'gradients')):
            of_kind = found[path].get(kind, [])
            steps = [row['step'] for row in of_kind]
            quantiles = np.array([_quantiles(row) for row in of_kind]).reshape(-1, 5).T
            for low, high, shade in ((0, 4, 0.18), (1, 3, 0.4)):
                place.fill_between(steps, quantiles[low], quantiles[high], color='tab:blue', alpha=shade, linewidth=0)
            place.plot(steps, quantiles[2], color='tab:blue', linewidth=1)
            place.set_title(f'{path}, {kind}', fontsize=8, color=INK)
            place.tick_params(labelsize=7)
    for place in axes[-1]:
        place.set_xlabel('step', fontsize=8)
    more = f' (the first {_MOST_ROWS} of {len(found)} arrays)' if len(found) > len(shown) else ''
    figure.suptitle(f'median, middle half, and all but 1 % of the values{more}', fontsize=9)
    return figure


def _quantiles(row: Mapping[str, Any]) -> np.ndarray:
    """Returns five quantiles of a histogram, as if values were even within an interval."""
    counts = np.asarray(row['counts'], np.float64)
    shares = np.concatenate([[0], np.cumsum(counts)]) / max(1, counts.sum())
    return np.interp((0.005, 0.25, 0.5, 0.75, 0.995), shares, np.linspace(row['low'], row['high'], len(shares)))
