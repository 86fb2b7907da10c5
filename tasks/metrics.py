"""Metrics as sums and counts with masks, on clu.metrics: exact whatever the batch size and the number of devices.

They are summed on the devices, merged on the host in float64, and only then divided.
"""

import dataclasses
import math

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from ..models import batch_axis


def over_devices(collection: clu_metrics.Collection) -> clu_metrics.Collection:
    """Returns a collection over the global batch from that of each part of it; called while a step is traced.

    Metrics with the attribute `additive` are sums, and are added. All others are gathered and reduced by their own
    method, which moves as many copies of them as there are devices.
    """
    def reduced(metric):
        return batch_axis.total(metric) if getattr(metric, 'additive', False) else batch_axis.stack(metric).reduce()
    own = {name: metric for name, metric in vars(collection).items() if name in type(collection).__annotations__}
    return dataclasses.replace(collection, **{name: reduced(metric) for name, metric in own.items()})


@flax.struct.dataclass
class Mean(clu_metrics.Average):
    """Masked mean, divided on the host in the precision of its sums."""
    additive = True

    def compute(self) -> float:
        """Returns the mean; NaN if every example was masked."""
        return float(np.float64(self.total) / np.float64(self.count)) if self.count else float('nan')


@flax.struct.dataclass
class Ratio(clu_metrics.Metric):
    """Masked sum of one quantity over the sum of another."""
    additive = True
    numerator: jax.Array
    denominator: jax.Array

    @classmethod
    def of(cls, numerator: str, denominator: str) -> type['Ratio']:
        """Returns the metric that reads two arrays [batch] of these names and 'mask'."""
        @flax.struct.dataclass
        class Named(cls):
            """A ratio of named quantities."""

            @classmethod
            def empty(cls):
                return cls(numerator=jnp.zeros(()), denominator=jnp.zeros(()))

            @classmethod
            def from_model_output(cls, mask=None, **outputs):
                weights = 1.0 if mask is None else mask
                return cls(numerator=jnp.sum(outputs[numerator] * weights),
                           denominator=jnp.sum(outputs[denominator] * weights))

            def merge(self, other):
                return type(self)(self.numerator + other.numerator, self.denominator + other.denominator)

            def compute(self):
                return self.finish(float(self.numerator / self.denominator)) if self.denominator else float('nan')
        return Named

    @staticmethod
    def finish(ratio: float) -> float:
        """Returns what is made of the ratio in the end."""
        return ratio


class Perplexity(Ratio):
    """e to the masked sum of negative log-likelihoods, in nats, over a number of tokens."""

    @staticmethod
    def finish(ratio: float) -> float:
        """Returns e ** ratio, infinite where a float cannot hold it."""
        return math.exp(ratio) if ratio < 700 else math.inf


class Bits(Ratio):
    """A masked sum in nats over a number of things, in bits."""

    @staticmethod
    def finish(ratio: float) -> float:
        """Returns nats in bits."""
        return ratio / math.log(2)


@flax.struct.dataclass
class ConfusionMatrix(clu_metrics.Metric):
    """Counts of (true class, predicted class): int32 [classes, classes]."""
    additive = True
    is_scalar = False  # known without computing it, by which a run is checked before it starts
    counts: jax.Array

    @classmethod
    def of(cls, num_classes: int) -> type['ConfusionMatrix']:
        """Returns the metric for so many classes; it reads 'label', 'prediction' and 'mask', each [batch]."""
        @flax.struct.dataclass
        class Sized(cls):
            """A confusion matrix of fixed size."""

            @classmethod
            def empty(cls):
                return cls(counts=jnp.zeros((num_classes, num_classes), jnp.int32))

            @classmethod
            def from_model_output(cls, label, prediction, mask=None, **_):
                weights = jnp.ones(label.shape, jnp.int32) if mask is None else mask.astype(jnp.int32)
                counts = jnp.zeros((num_classes, num_classes), jnp.int32)
                return cls(counts=counts.at[label, prediction].add(weights))
        return Sized

    def merge(self, other):
        """Adds the other's counts."""
        return type(self)(counts=self.counts + other.counts)

    def compute(self) -> np.ndarray:
        """Returns the counts, int64."""
        return np.asarray(self.counts).astype(np.int64)


class LabelCounts(ConfusionMatrix):
    """Of every class, the examples that have it and were predicted to, that have it, and that were predicted to.

    int32 [classes, 3], where an example may have several classes.
    """

    @classmethod
    def of(cls, num_classes: int) -> type['LabelCounts']:
        """Returns the metric for so many classes; it reads 'labels' and 'predicted', [batch, classes], and 'mask'."""
        @flax.struct.dataclass
        class Sized(cls):
            """Counts of a fixed number of classes."""

            @classmethod
            def empty(cls):
                return cls(counts=jnp.zeros((num_classes, 3), jnp.int32))

            @classmethod
            def from_model_output(cls, labels, predicted, mask=None, **_):
                counted = jnp.stack([labels * predicted, labels, predicted], axis=-1).astype(jnp.int32)
                weights = 1 if mask is None else mask.astype(jnp.int32)[:, None, None]
                return cls(counts=jnp.sum(counted * weights, axis=0))
        return Sized
