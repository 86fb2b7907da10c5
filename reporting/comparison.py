"""Runs side by side: the config fields in which they differ, how far they are, and their metrics; best first."""

import ast
import dataclasses
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UserError, nearest, printable
from ..common.metric_names import usual_mode
from ..training.learning_curves import is_number, set_order
from .config_fields import complete, differing, leaves
from .run_files import Run, is_run, read_evaluations, read_summary
from .run_search import Place, find_runs

_LONGEST_PARAMETER = 200  # characters
_STATES_OF_TRIALS = ('pruned', 'failed', 'waiting')  # what a sweep alone knows


@dataclasses.dataclass(eq=False)
class Entry:
    """A run in a comparison.

    Attributes:
      folder: the run's, as it was reached from what was named.
      name: its short name, unique among those compared.
      state: 'running', 'finished', 'stopped'; of a trial of a sweep also 'pruned', 'failed' and 'waiting'.
      step: the last that anything is known of.
      wall_seconds: it took so far, or None.
      config: leaves of its config by name, {'optimizer.learning_rate': 0.001, ...}.
      metrics: '<set>/<metric>' -> value: those of its end, or the latest of a run that has not reached its end, and of
        other sets those that `launch.py evaluate` found for the same step. None is a value that is not finite.
      error: why a trial failed, or ''.
      run: what was read.
    """
    folder: Path
    name: str
    state: str
    step: int
    wall_seconds: float | None
    config: dict[str, Any]
    metrics: dict[str, float | None]
    error: str
    run: Run

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Reads a metric over time: (step, value) of every evaluation in which it was finite."""
        return [(row['step'], row[metric]) for row in read_evaluations(self.run, metric) if is_number(row[metric])]

    def value(self, metric: str) -> float | None:
        """Returns a metric; None where it is missing or not finite."""
        return self.metrics.get(metric)


@dataclasses.dataclass
class Comparison:
    """Several runs.

    Attributes:
      entries: the runs, the best first, those without the metric last.
      fields: names of config fields that differ; those that a sweep searched come first.
      searched: the fields that a sweep searched.
      metric: what they are sorted by, '<set>/<metric>'; '' where no run has metrics.
      mode: 'max' or 'min', what is best.
      shown: the metrics to show where there is not room for all; `metric` is the first.
      metrics: all that any run has, `shown` first.
      notes: sentences about what could not be read.
    """
    entries: list[Entry]
    fields: list[str]
    searched: list[str]
    metric: str
    mode: str
    shown: list[str]
    metrics: list[str]
    notes: list[str]

    def rows(self) -> list[dict[str, Any]]:
        """Returns a dict for each run, the best first; all with the same keys in the same order.

        Returns:
          'run', the folder; 'state', 'step', 'wall_seconds', 'error' (see `Entry`); then the fields that differ and
          all metrics by their names. JSON types; None for what a run lacks, and for metrics that are not finite.
        """
        def row(entry: Entry) -> dict[str, Any]:
            own = {'run': str(entry.folder), 'state': entry.state, 'step': entry.step,
                   'wall_seconds': entry.wall_seconds, 'error': entry.error}
            fields = {name: entry.config.get(name) for name in self.fields}
            return {**own, **fields, **{name: entry.metrics.get(name) for name in self.metrics}, **own}
        return [row(entry) for entry in self.entries]


def compare(paths: Sequence[str | Path], metrics: Sequence[str] = (), mode: str = '') -> Comparison:
    """Compares runs, whatever state they are in. Nothing is locked, written or changed.

    Args:
      paths: see `find_runs`.
      metrics: those to show, the first of them to sort by. Without any it is the metric of the sweep, else the one
        that most runs keep their best checkpoint by (config.checkpoint.best_metric), then the same of the other
        evaluation sets, and the loss.
      mode: 'max' or 'min', which is best; '': as the sweep or the config says, else by the metric's name: a loss, an
        error, a perplexity or a distance is best when it is lowest.

    Raises:
      UserError: something named is not there, there is no run at all, or no run has a metric.
    """
    if mode not in ('', 'max', 'min'):
        raise UserError(f"mode = {mode!r}: it is 'max' or 'min'")
    places, notes = find_runs(paths)
    entries = [_read(place, name, notes) for place, name in zip(places, _short_names(places))]
    for entry, config in zip(entries, complete([entry.config for entry in entries])):
        entry.config = config
    known = _metric_names(entries)
    for name in metrics:
        if name not in known:
            raise UserError(f'no run has the metric {printable(name)}; {nearest(name, known)}')
    sweeps = [place.sweep for place in places if place.sweep]
    chosen = metrics[0] if metrics else _choose_metric(entries, sweeps, known)
    shown = list(dict.fromkeys(metrics)) or _choose_shown(chosen, known)
    searched = list(dict.fromkeys(str(name) for sweep in sweeps if isinstance(sweep.get('search'), dict)
                                  for name in sweep['search']))
    different = differing([entry.config for entry in entries])
    comparison = Comparison(
        entries, [name for name in searched if name in different] + [n for n in different if n not in searched],
        searched, chosen, mode or _choose_mode(chosen, entries, sweeps), shown,
        shown + [name for name in known if name not in shown], notes)
    sign = -1 if comparison.mode == 'max' else 1
    entries.sort(key=lambda entry: (entry.value(chosen) is None, sign * (entry.value(chosen) or 0.0),
                                    _natural(entry.name)))
    return comparison


def _read(place: Place, name: str, notes: list[str]) -> Entry:
    run = read_summary(place.folder) if is_run(place.folder) else Run(place.folder)
    notes += [f'{place.folder}: {note}' for note in run.notes]
    config = leaves(run.config) or _planned_config(place)
    metrics = {key: value for key, value in (_evaluated(run) | run.latest()).items()
               if value is None or is_number(value)}
    return Entry(place.folder, name, _state(run, place.trial), run.step, _wall_seconds(run), config, metrics,
                 str(place.trial.get('error') or ''), run)


def _evaluated(run: Run) -> dict[str, Any]:
    """Returns the metrics of `launch.py evaluate`, unless it scored an earlier step, or something overridden."""
    metrics = run.evaluation.get('metrics')
    same = run.evaluation.get('step') == run.step and not run.evaluation.get('overrides')
    return {key: value for key, value in metrics.items() if '/' in key} if same and isinstance(metrics, dict) else {}


def _planned_config(place: Place) -> dict[str, Any]:
    """Returns what a trial that has not begun will be started with; {} if the folder is none.

    A sweep notes parameters as texts, as on a command line.
    """
    config, params = (values if isinstance(values, dict) else {}
                      for values in (place.sweep.get('config'), place.trial.get('params')))
    if not params:
        return {}
    known = leaves(config)

    def parse(name: str, value: Any) -> Any:
        if not isinstance(value, str) or isinstance(known.get(name), str) or len(value) > _LONGEST_PARAMETER:
            return value
        try:
            return json.loads(json.dumps(ast.literal_eval(value)))  # tuples become lists
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value
    return known | leaves({name: parse(name, value) for name, value in params.items()})


def _state(run: Run, trial: Mapping[str, Any]) -> str:
    if run.running:
        return 'running'
    state = trial.get('state')
    if state == 'running' and not run.step:  # its process is not there yet, or no more
        state = 'waiting'
    if state in _STATES_OF_TRIALS:
        return str(state)
    return 'finished' if run.finished else 'stopped'


def _wall_seconds(run: Run) -> float | None:
    seconds: Any = run.result.get('wall_seconds') if run.finished else None
    if not is_number(seconds) and run.rows:
        timings = run.rows[-1].get('timings')
        seconds = timings.get('wall_seconds') if isinstance(timings, dict) else None
    return float(seconds) if is_number(seconds) else None


def _short_names(places: Sequence[Place]) -> list[str]:
    """Returns the folders without what all of them begin with."""
    folders = [os.path.abspath(place.folder) for place in places]
    common = os.path.commonpath([os.path.dirname(folder) for folder in folders])
    return [os.path.relpath(folder, common) for folder in folders]


def _metric_names(entries: Sequence[Entry]) -> list[str]:
    """Returns the names of all metrics, by evaluation set in the order in which these are always listed."""
    names = list(dict.fromkeys(name for entry in entries for name in entry.metrics))
    sets = set_order(name.partition('/')[0] for name in names)
    return sorted(names, key=lambda name: sets.index(name.partition('/')[0]))


def _choose_metric(entries: Sequence[Entry], sweeps: Sequence[Mapping[str, Any]], known: Sequence[str]) -> str:
    """Returns the metric to sort by: see `compare`."""
    named = Counter(name for sweep in sweeps if (name := sweep.get('metric')) in known) or \
        Counter(name for entry in entries if (name := entry.config.get('checkpoint.best_metric')) in known)
    if named:
        return named.most_common(1)[0][0]
    counts = Counter(name for entry in entries for name in entry.metrics)
    return max(known, key=lambda name: (name.startswith('val'), counts[name], name.endswith('/accuracy')), default='')


def _choose_shown(chosen: str, known: Sequence[str]) -> list[str]:
    """Returns the metric, the same of the other evaluation sets, then the loss of all of them."""
    name = chosen.partition('/')[2]
    same = [metric for end in (name, 'loss') for metric in known if metric.partition('/')[2] == end]
    return list(dict.fromkeys([*([chosen] if chosen else []), *same]))


def _choose_mode(metric: str, entries: Sequence[Entry], sweeps: Sequence[Mapping[str, Any]]) -> str:
    """Returns 'max' or 'min': see `compare`."""
    said = [sweep.get('mode') for sweep in sweeps if sweep.get('metric') == metric]
    name = metric.rpartition('/')[2]
    said += [entry.config.get('checkpoint.best_mode') for entry in entries
             if str(entry.config.get('checkpoint.best_metric')).rpartition('/')[2] == name]
    said = [mode for mode in said if mode in ('max', 'min')]
    return said[0] if said else usual_mode(name)


def _natural(name: str) -> list[Any]:
    """Returns a key by which 'run10' comes after 'run9'."""
    return [(0, int(part), '') if part.isdecimal() and len(part) < 20 else (1, 0, part)
            for part in re.split('([0-9]+)', name)]
