"""What a sweep is: sweep.json, written once when it begins and read by every worker that joins."""

import dataclasses
import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from ..common.errors import UserError, file_error, nearest
from ..common.files import write_json
from ..common.metric_names import usual_mode
from ..training import config as config_lib
from . import search_space
from .pruners import PRUNERS
from .search_space import Space

SWEEP_FILE = 'sweep.json'
SAMPLERS = ('tpe', 'random', 'grid')
_LONGEST_HEARTBEAT = 3600
_SAME_FOR_ALL = ('evaluation.', 'checkpoint.', 'writers', 'tensorboard', 'log_every', 'profile.')
_MAY_GROW = ('trials', 'seeds')  # on a later start


@dataclasses.dataclass(frozen=True)
class Sweep:
    """The definition of a sweep.

    Attributes:
      experiment: as for `training.config.load`.
      overrides: 'field=value', the same for all trials.
      config: the config of all trials, without what is searched; a dict.
      final: the sets that the best configuration alone is scored on, config.evaluation.final of the experiment.
      search: field -> what it is searched in, see search_space.py.
      metric: that the sweep is for, '<set>/<metric>', of the last evaluation of a trial.
      mode: whether more of it is better, 'max', or less, 'min'.
      sampler, pruner: of `SAMPLERS` and `PRUNERS`.
      trials: how many there are to be in all.
      seeds: with how many seeds the best configuration is trained; 0: nothing is scored on the final sets.
      population: how many trials are trained at once, in one step; 1: none.
      seed: of the sampler.
      storage: URL of the database, without its password; '' for a file in the folder.
      heartbeat: seconds; a worker that is silent for three of them is lost.
      study: name in the database.
    """
    experiment: str
    overrides: tuple[str, ...]
    config: dict[str, Any]
    final: tuple[str, ...]
    search: dict[str, str]
    metric: str
    mode: str
    sampler: str = 'tpe'
    pruner: str = 'asha'
    trials: int = 30
    seeds: int = 1
    population: int = 1
    seed: int = 0
    storage: str = ''
    heartbeat: float = 60.0
    study: str = ''

    @property
    def space(self) -> Space:
        """Returns what every field is searched in."""
        return search_space.parse(self.search, config_lib.from_dict(self.config))

    def trial_overrides(self, params: Mapping[str, str]) -> list[str]:
        """Returns what follows --config. on the command line of a trial: the final sets are not for it to see."""
        periodic = tuple(self.config['evaluation']['periodic'])
        return [*self.overrides, *(f'{field}={value}' for field, value in params.items()), 'population=1',
                'evaluation.final=()', f'evaluation.periodic={periodic!r}', f'checkpoint.best_metric={self.metric}',
                f'checkpoint.best_mode={self.mode}']

    def check_unchanged(self) -> None:
        """Raises UserError if the experiment's file no longer says what the sweep began with."""
        now = _trial_config(config_lib.load(self.experiment, self.overrides), self.final, self.metric, self.mode)
        changed = config_lib.differences(self.config, _plain(now))
        if changed:
            raise UserError(f'{self.experiment} has changed since this sweep began: {changed[0]} (then -> now): change '
                            'it back, or begin another sweep in another --workdir')


def define(experiment: str, overrides: Sequence[str], *, search: Mapping[str, str] | None = None, metric: str = '',
           mode: str = '', **settings: Any) -> Sweep:
    """Returns the definition of a new sweep, after every check that needs no data.

    Args:
      experiment: as for `training.config.load`.
      overrides: 'field=value'.
      search: field -> text; without, what the experiment's search_space(config) returns but for what `overrides` fix.
      metric: config.checkpoint.best_metric by default.
      mode: by default config.checkpoint.best_mode for that metric, else by its name.
      settings: of `Sweep`; trials=None stands for all of a grid, or 30.

    Raises:
      UserError: whatever does not fit.
    """
    config = config_lib.load(experiment, overrides)
    fixed = {override.partition('=')[0] for override in overrides}
    search = search_space.from_function(search or {}, 'search')
    if both := fixed & set(search):
        raise UserError(f'--search {min(both)} and --config.{min(both)}: a field is searched or fixed')
    if not search:
        found = search_space.from_function(config_lib.search_space(experiment, config), experiment)
        search = {field: text for field, text in found.items() if field not in fixed}
    if not search:
        raise UserError('nothing to search: --search optimizer.learning_rate=log:1e-4:1e-1, or a function '
                        f'search_space(config) in {experiment}')
    final = tuple(config.evaluation.final)
    metric = metric or config.checkpoint.best_metric
    _check_metric(metric, config)
    mode = mode or _mode(metric, config)
    _check_choices(mode, settings.get('sampler', 'tpe'), settings.get('pruner', 'asha'))
    trial_config = _trial_config(config, final, metric, mode)
    space = search_space.parse(search, trial_config)
    _check_searched(space)
    if 'seed' in space and (settings.get('sampler'), settings.get('pruner')) != ('grid', 'none'):
        raise UserError('--search seed: configurations are compared by their means over the seeds, so each needs all '
                        'of them: add --sampler grid --pruner none, or leave the seeds to --seeds')
    size = grid_size(space) if settings.get('sampler') == 'grid' else None
    trials = settings.pop('trials', None)
    trials = size or 30 if trials is None else trials
    heartbeat = settings.get('heartbeat', 60.0)
    if not 1 <= heartbeat <= _LONGEST_HEARTBEAT:
        raise UserError(f'--heartbeat {heartbeat:g}: from 1 to {_LONGEST_HEARTBEAT} seconds')
    _check_numbers(trials, settings.get('seeds', 1), settings.get('sampler', 'tpe'), space)
    if config.population > 1:
        _check_population(space, settings.get('pruner', 'asha'))
    return Sweep(config_lib.portable(experiment), tuple(overrides), _plain(trial_config), final, search, metric, mode,
                 trials=trials, population=config.population, study=f'sweep-{secrets.token_hex(6)}', **settings)


def grid_size(space: Space) -> int:
    """Returns how many points a grid has. Raises UserError where a field has no steps."""
    size = 1
    for field, parameter in space.items():
        if parameter.points is None:
            raise UserError(f'--sampler grid: {field} needs a step, low:high:step, or values, a,b,c')
        size *= len(parameter.points)
    return size


def read(folder: Path) -> Sweep | None:
    """Returns the definition of the sweep in a folder; None where there is none. Raises UserError if it is damaged."""
    path = folder / SWEEP_FILE
    try:
        values = json.loads(path.read_text(encoding='utf-8'))
        for name in ('overrides', 'final'):
            values[name] = tuple(values[name])
        _check_types(values)
        values['config'] = _plain(config_lib.from_dict(values['config']))  # fields that are new have their defaults
        return Sweep(**values)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError, UserError) as error:
        raise file_error(path, 'is damaged, or of another version: begin another sweep in another --workdir') from error


def _check_types(values: dict[str, Any]) -> None:
    """Raises TypeError or ValueError unless the fields of a sweep are what they should be."""
    kinds = {field.name: field.type for field in dataclasses.fields(Sweep)}
    for name, value in values.items():
        kind = {'str': str, 'int': int, 'float': (int, float)}.get(str(getattr(kinds[name], '__name__', kinds[name])))
        if kind and (not isinstance(value, kind) or isinstance(value, bool)):
            raise TypeError(name)
    _check_choices(values['mode'], values['sampler'], values['pruner'])
    if not all(isinstance(text, str) for text in values['search'].values()):
        raise TypeError('search')
    if values['trials'] < 1 or values['seeds'] < 0 or values.get('population', 1) < 1 or values['heartbeat'] < 1:
        raise ValueError('out of range')


def _check_choices(mode: str, sampler: str, pruner: str) -> None:
    for name, value, known in (('mode', mode, ('max', 'min')), ('sampler', sampler, SAMPLERS),
                               ('pruner', pruner, tuple(PRUNERS))):
        if value not in known:
            raise UserError(f'--{name} {value}; {nearest(str(value), known)}')


def write(folder: Path, sweep: Sweep) -> None:
    """Writes sweep.json."""
    write_json(folder / SWEEP_FILE, dataclasses.asdict(sweep))


def joined(there: Sweep, new: Sweep, trials: int | None, seeds: int | None) -> Sweep:
    """Returns the sweep of a folder with what a later start of the same may change: trials and seeds, unless None.

    Raises:
      UserError: the later start is of another sweep.
    """
    old, now = (json.loads(json.dumps(dataclasses.asdict(sweep))) for sweep in (there, new))
    for values in (old, now):
        values['config'].pop('experiment', None)
        for name in ('study', *_MAY_GROW):
            values.pop(name)
    changed = config_lib.differences(old, now)
    if changed:
        raise UserError(f'this folder has another sweep: {changed[0]} (there -> now): take another --workdir')
    return grown(there, trials=trials, seeds=seeds)


def grown(sweep: Sweep, *, trials: int | None = None, seeds: int | None = None) -> Sweep:
    """Returns a sweep of other numbers of trials or seeds. Raises UserError where there cannot be so many."""
    trials = sweep.trials if trials is None else trials
    seeds = sweep.seeds if seeds is None else seeds
    _check_numbers(trials, seeds, sweep.sampler, sweep.space)
    return dataclasses.replace(sweep, trials=trials, seeds=seeds)


def _check_numbers(trials: int, seeds: int, sampler: str, space: Space) -> None:
    for name, value in (('trials', trials), ('seeds', seeds)):
        if not isinstance(value, int) or isinstance(value, bool):
            raise UserError(f'--{name} {value}: it is a whole number')
    if trials < 1 or seeds < 0:
        raise UserError(f'--trials {trials} --seeds {seeds}: at least 1 trial and 0 seeds')
    if seeds > 1 and 'seed' in space:
        raise UserError(f'--seeds {seeds}: the seed is searched already; the best configuration keeps those seeds')
    if sampler == 'grid' and trials > grid_size(space):
        raise UserError(f'--trials {trials}: the grid has {grid_size(space):,}')


def _trial_config(config: ConfigDict, final: Sequence[str], metric: str, mode: str) -> ConfigDict:
    """Returns the config that all trials share."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.evaluation.periodic = tuple(name for name in config.evaluation.periodic if name not in final)
        config.evaluation.final = ()
        config.population = 1
        config.checkpoint.best_metric, config.checkpoint.best_mode = metric, mode
    config.lock()
    return config


def _check_metric(metric: str, config: ConfigDict) -> None:
    """Raises UserError unless a metric is of a set that trials may look at."""
    name, slash, _ = metric.rpartition('/')
    if name in config.evaluation.final:
        raise UserError(f'--metric {metric}: the set {name!r} is one of config.evaluation.final = '
                        f'{tuple(config.evaluation.final)}: chosen by it, the best would say nothing about new data; '
                        'split validation data from the training set (config.evaluation.sets.validation.split)')
    if not slash or name not in config.evaluation.periodic:
        periodic = [f'{name}/...' for name in config.evaluation.periodic if name not in config.evaluation.final]
        raise UserError(f'--metric {metric or "is missing"}: write <set>/<metric> of a periodic evaluation; '
                        f'{nearest(metric, periodic)} (config.evaluation.periodic)')


def _mode(metric: str, config: ConfigDict) -> str:
    if metric == config.checkpoint.best_metric:
        return config.checkpoint.best_mode
    return usual_mode(metric)


def _check_searched(space: Space) -> None:
    """Raises UserError if a field is searched that the sweep itself sets, or that says where results come from."""
    for field in space:
        if field.startswith(_SAME_FOR_ALL) or field in ('experiment', 'population'):
            raise UserError(f'--search {field}: what is evaluated and kept is the same for all trials: set it with '
                            f'--config.{field}=...')


def _check_population(space: Space, pruner: str) -> None:
    """Raises UserError if trials cannot be trained in one step."""
    for field, parameter in space.items():
        if field not in config_lib.HYPERPARAMETERS:
            raise UserError('config.population: trials that are trained in one step can differ in '
                            f'{", ".join(config_lib.HYPERPARAMETERS)} alone, not in {field}')
        if field == 'optimizer.weight_decay' and any(float(value) == 0 for value in parameter.ends):
            raise UserError('config.population: without weight decay the step is another: search it above 0')
    if pruner != 'none':
        raise UserError(f'--pruner {pruner}: a trial of a population cannot be stopped on its own: --pruner none')


def _plain(config: ConfigDict) -> dict[str, Any]:
    return json.loads(json.dumps(config_lib.to_dict(config)))
