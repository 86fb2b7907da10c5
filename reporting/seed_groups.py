"""Runs that differ in their seed alone: mean and standard deviation over seeds, and differences seed by seed.

A group is the finished runs whose configs are equal but for `seed` and for what has no part in the training (see
`config_fields.NOT_OF_TRAINING`). All statistics are over seeds: of two runs with the same config and seed, the mean of
their values counts once. The standard deviation has n - 1 in its denominator.

Groups are compared in pairs, with the group whose mean is best: a seed decides the initial parameters and the order of
the examples, so runs that share it share part of their luck, and their difference varies less than the runs do. The
interval is that of Student's t for the mean of the n differences d, mean(d) +- t(0.975, n - 1) std(d) / sqrt(n). It
covers the true mean difference in 95 % of cases if differences are normally distributed and the two groups had been
chosen beforehand; the best of many groups looks better than it is, and no correction is made for the number of
comparisons.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence

from .comparison import Comparison, Entry
from .config_fields import NOT_OF_TRAINING, differing, identity

SEED = 'seed'
_IGNORED = (SEED, *NOT_OF_TRAINING)


@dataclasses.dataclass(frozen=True)
class Summary:
    """A metric over the seeds of a group.

    Attributes:
      n: seeds that have the metric.
      mean: over them.
      std: sample standard deviation, n - 1 in the denominator; None for one seed.
    """
    n: int
    mean: float
    std: float | None


@dataclasses.dataclass(frozen=True)
class Difference:
    """What a group has more than the best one, over the seeds that both have.

    Attributes:
      n: shared seeds.
      mean: of the differences, this group - the best.
      low, high: 95 % confidence interval of the mean; None where fewer than two seeds are shared.
    """
    n: int
    mean: float
    low: float | None
    high: float | None


@dataclasses.dataclass
class Group:
    """Runs that differ in their seed alone.

    Attributes:
      entries: the finished runs.
      unfinished: how many others there are, which do not count.
      config: leaves of their config.
      summaries: metric -> over seeds.
      difference: from the best group by the comparison's metric; None for the best itself, and where none can be had.
    """
    entries: list[Entry]
    unfinished: int
    config: dict[str, object]
    summaries: dict[str, Summary]
    difference: Difference | None = None


def seed_groups(comparison: Comparison) -> tuple[list[Group], list[str]]:
    """Finds the groups of a comparison that have at least two seeds.

    Returns:
      The groups, the best mean first; and the names of the fields in which they differ.
    """
    found: dict[object, list[Entry]] = {}
    for entry in comparison.entries:
        if SEED in entry.config:
            key = frozenset((name, identity(value)) for name, value in entry.config.items() if name not in _IGNORED)
            found.setdefault(key, []).append(entry)
    groups = []
    for entries in found.values():
        finished = [entry for entry in entries if entry.state == 'finished']
        if len({identity(entry.config[SEED]) for entry in finished}) > 1:
            summaries = {metric: summarise(list(values.values())) for metric in comparison.shown
                         if (values := _by_seed(finished, metric))}
            groups.append(Group(finished, len(entries) - len(finished), finished[0].config, summaries))
    metric, sign = comparison.metric, -1 if comparison.mode == 'max' else 1
    groups.sort(key=lambda group: (metric not in group.summaries,
                                   sign * group.summaries[metric].mean if metric in group.summaries else 0))
    for group in groups[1:]:
        group.difference = paired_difference(_by_seed(group.entries, metric), _by_seed(groups[0].entries, metric))
    fields = [name for name in differing([group.config for group in groups]) if name not in _IGNORED]
    return groups, [name for name in comparison.fields if name in fields]


def summarise(values: Sequence[float]) -> Summary:
    """Returns number, mean and sample standard deviation of a metric's values, one a seed."""
    return Summary(len(values), statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None)


def paired_difference(values: Mapping[object, float], reference: Mapping[object, float]) -> Difference | None:
    """Compares two groups seed by seed.

    Args:
      values: seed -> a metric of the group.
      reference: the same of the group to compare with.

    Returns:
      Mean of values - reference over the seeds that both have, with the interval described at the top of this file.
      None where they share no seed.
    """
    differences = [value - reference[seed] for seed, value in values.items() if seed in reference]
    if not differences:
        return None
    mean = statistics.fmean(differences)
    if len(differences) == 1:
        return Difference(1, mean, None, None)
    from scipy.special import stdtrit
    half = float(stdtrit(len(differences) - 1, 0.975)) * statistics.stdev(differences) / math.sqrt(len(differences))
    return Difference(len(differences), mean, mean - half, mean + half)


def _by_seed(entries: Sequence[Entry], metric: str) -> dict[object, float]:
    """Returns seed -> metric, of several runs of a seed their mean; runs without the metric do not count."""
    found: dict[object, list[float]] = {}
    for entry in entries:
        value = entry.value(metric)
        if value is not None:
            found.setdefault(identity(entry.config[SEED]), []).append(value)
    return {seed: statistics.fmean(values) for seed, values in found.items()}
