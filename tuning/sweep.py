"""A sweep from its first trial to its best configuration, scored: what every worker does, whichever comes first.

    import practicum
    practicum.sweep('digits_mlp', 'sweeps/mlp', search={'optimizer.learning_rate': 'log:1e-4:3e-2'}, trials=40)

1. The search: trials, each an ordinary run in <folder>/<number>, that never look at the final evaluation sets.
2. The best configuration is trained with more seeds; the best trial is the first of them.
3. These runs are scored on the final sets, once, and best.json says what came out.
"""

import contextlib
import dataclasses
import json
import logging
import shlex
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..common.console import format_metric, format_seconds
from ..common.errors import UserError
from ..common.files import write_json
from ..training.rows import to_json
from ..training.workdir import make_folder
from . import definition, search_space
from .definition import SWEEP_FILE, Sweep
from .held_trial import TRIAL_FILE, Job
from .search_space import Choice, Range
from .study import SWEEP_LOCK, Record, Storage, Study, file_turn, without_password
from .trial import Child
from .worker import Stopped, StopRequest, Worker

BEST_FILE = 'best.json'
_BEGIN_LOCK = '.begin.lock'
_SHOWN = 10  # of the best trials


def begin(folder: Path, new: Sweep, trials: int | None = None, seeds: int | None = None) -> Sweep:
    """Returns the sweep of a folder, which begins if there is none; else it must be the same.

    Args:
      folder: of the sweep; made if it is not there.
      new: as it was asked for.
      trials, seeds: how many were asked for; None where nothing was said, and those of the folder's sweep stay.

    Raises:
      UserError: the folder has another sweep or something else, or a trial could not begin as the sweep is defined.
    """
    new = dataclasses.replace(new, storage=without_password(new.storage))
    made = not folder.exists()
    make_folder(folder)
    try:
        with file_turn(folder, _BEGIN_LOCK, 'beginning this sweep'):  # the others need not check it again
            if definition.read(folder) is None:
                _check_empty(folder)
                if new.storage:
                    Storage(folder, new.storage, new.heartbeat)  # it can be reached
                _check_fits(new)
            with file_turn(folder):
                there = definition.read(folder)
                sweep = new if there is None else definition.joined(there, new, trials, seeds)
                if sweep != there:
                    definition.write(folder, sweep)
    except BaseException:
        if not (folder / SWEEP_FILE).exists():
            _leave_nothing(folder, made)
        raise
    return sweep


def join(folder: Path, trials: int | None = None, seeds: int | None = None) -> Sweep:
    """Returns the sweep that is in a folder, with more trials or seeds if they are given.

    Raises:
      UserError: there is none.
    """
    sweep = definition.read(folder)
    if sweep is None and (folder / _BEGIN_LOCK).exists():
        with file_turn(folder, _BEGIN_LOCK, 'beginning this sweep'):
            sweep = definition.read(folder)
    if sweep is None:
        raise UserError(f'no sweep in {folder}: begin one with --config, or name another --workdir')
    changes = {name: value for name, value in (('trials', trials), ('seeds', seeds)) if value is not None}
    if changes:
        with file_turn(folder):
            sweep = definition.grown(definition.read(folder), **changes)
            definition.write(folder, sweep)
    return sweep


def work(folder: Path, sweep: Sweep) -> int:
    """Works until all trials are over and the best configuration is scored; any number of processes may do so at once.

    Returns:
      Exit code: 0, or 128 + signal if this worker was asked to stop; its trial then waits for another.

    Raises:
      UserError: the experiment has changed, the database is away, or all trials fail.
    """
    sweep.check_unchanged()
    storage = Storage(folder, sweep.storage, sweep.heartbeat)
    with StopRequest() as stop:
        worker = Worker(sweep, stop)
        try:
            search = _search(folder, sweep, storage, worker)
            best = best_trials(search.trials(), sweep)
            if not best:
                raise UserError(f'no trial of {folder} came to its end: there is no best one')
            _print_best(search.trials(), sweep)
            if sweep.seeds:
                _score(folder, sweep, storage, worker, best)
        except Stopped:
            logging.info('asked to stop: launch.py sweep --workdir %s goes on from there', shlex.quote(str(folder)))
            return stop.exit_code
    return 0


def _search(folder: Path, sweep: Sweep, storage: Storage, worker: Worker) -> Study:
    """Works through the trials and returns their study."""
    space = sweep.space
    points = []
    if sweep.sampler == 'grid':
        points = search_space.grid(space)[:sweep.trials]
        space = {field: Choice(parameter.points) for field, parameter in space.items()}
    study = Study(storage, sweep.study, mode=sweep.mode, space=space, sampler='' if points else sweep.sampler,
                  pruner=sweep.pruner, seed=sweep.seed)
    with study.turn():
        study.put(points)
    records = study.trials()
    if not records and next(folder.glob(f'[0-9]*/{TRIAL_FILE}'), None):
        raise UserError(f'{storage} has no trials of this sweep, but {folder} has folders of some: bring the database '
                        'back, or begin in another --workdir')
    over = sum(record.state in ('complete', 'pruned', 'failed') for record in records)
    logging.info('%s: %s for the best %s (%s), %d done; %s', folder,
                 '1 trial' if sweep.trials == 1 else f'{sweep.trials} trials', sweep.metric, sweep.mode, over,
                 ', '.join(f'{field} in {text}' for field, text in sweep.search.items()))
    worker(study, lambda: _read_again(folder, sweep).trials,
           lambda number, params: Job(f'trial {number}', folder / f'{number:04}', sweep.trial_overrides(params)))
    return study


def _read_again(folder: Path, sweep: Sweep) -> Sweep:
    """Returns the sweep as sweep.json has it now; as it was where the file cannot be read."""
    try:
        return definition.read(folder) or sweep
    except UserError:
        return sweep


def best_trials(records: Sequence[Record], sweep: Sweep) -> list[Record]:
    """Returns the trials of the best configuration: one, or one for each seed where seeds are searched too.

    Of configurations with several seeds those count that were completed with most of them, by their mean.
    """
    groups: dict[str, dict[str, Record]] = {}
    for record in records:
        if record.state == 'complete':
            others = {field: value for field, value in record.params.items() if field != 'seed'}
            of_seed = groups.setdefault(json.dumps(others, sort_keys=True), {})
            of_seed.setdefault(record.params.get('seed', ''), record)  # drawn again it gives the same again
    most = max(map(len, groups.values()), default=0)
    sign = 1 if sweep.mode == 'max' else -1
    whole = [list(of_seed.values()) for of_seed in groups.values() if len(of_seed) == most]
    return max(whole, key=lambda group: sign * statistics.fmean(record.value for record in group), default=[])


def _score(folder: Path, sweep: Sweep, storage: Storage, worker: Worker, best: Sequence[Record]) -> None:
    """Trains the best configuration with its seeds, scores all of them on the final sets, and writes best.json."""
    number, params = best[0].number, {key: value for key, value in best[0].params.items() if key != 'seed'}
    of_seed = {record.params.get('seed', str(sweep.config['seed'])): record.number for record in best}
    if 'seed' not in sweep.search:
        for seed in range(sweep.config['seed'], sweep.config['seed'] + sweep.seeds):
            of_seed.setdefault(str(seed), -1)
    study = Study(storage, f'{sweep.study}/best-{number}', mode=sweep.mode,
                  space={'seed': Range(0, 2**32 - 1, whole=True)})
    with study.turn():
        study.put([{'seed': seed} for seed in of_seed])

    def job_of(_: int, values: Mapping[str, str]) -> Job:
        seed = values['seed']
        own = of_seed.get(seed, -1)
        run = folder / (f'{own:04}' if own >= 0 else f'{number:04}-seed{seed}')
        return Job(f'trial {number} with seed {seed}', run, sweep.trial_overrides(params | {'seed': seed}), sweep.final,
                   noted=False)
    worker(study, lambda: len(of_seed), job_of)
    before = [int(name.rpartition('-')[2]) for name in storage.scored(f'{sweep.study}/best-')]
    _write_best(folder, sweep, study.trials(), number, params, sorted(set(before) - {number}))


def _write_best(folder: Path, sweep: Sweep, records: Sequence[Record], number: int, params: Mapping[str, str],
                looks: Sequence[int]) -> None:
    """Writes best.json and prints it.

    Args:
      folder, sweep: of the sweep.
      records: of the runs of the best configuration.
      number: of its trial.
      params: what it is.
      looks: trials that were the best earlier, and scored on the final sets too.
    """
    done = [record for record in records if record.state == 'complete']
    metrics = {}
    for name in done[0].facts['metrics'] if done else ():
        values = [record.facts['metrics'].get(name) for record in done]
        if all(value is not None for value in values):
            metrics[name] = {'mean': statistics.fmean(values), 'values': values,
                             'std': statistics.stdev(values) if len(values) > 1 else None}
    write_json(folder / BEST_FILE, to_json({
        'trial': number, 'params': dict(params), 'seeds': [int(record.params['seed']) for record in done],
        'metrics': metrics, 'final': list(sweep.final), 'scored_before': list(looks)}))
    if looks:
        logging.warning('earlier the best was trial %s, which was scored on %s too: say so with the result',
                        ', then '.join(map(str, looks)), ' and '.join(sweep.final))
    for record in records:
        if record.state == 'failed':
            logging.warning('seed %s of the best configuration failed: %s', record.params['seed'], record.error)
    logging.info('\nthe best configuration, trial %d, %d seed%s: %s', number, len(done), '' if len(done) == 1 else 's',
                 '  '.join(f'{field}={value}' for field, value in params.items()))
    for name, found in metrics.items():
        if name.rpartition('/')[2] == sweep.metric.rpartition('/')[2]:
            spread = f" ± {format_metric(name, found['std'])}" if found['std'] is not None else ''
            logging.info('  %-28s %s%s', name, format_metric(name, found['mean']), spread)
    logging.info('everything about this sweep is in %s; launch.py compare %s shows it', folder,
                 shlex.quote(str(folder)))


def _print_best(records: Sequence[Record], sweep: Sweep) -> None:
    """Prints how many trials ended how, and the best of them."""
    counts = {state: sum(record.state == state for record in records) for state in ('complete', 'pruned', 'failed')}
    logging.info('\n%s', ', '.join(f'{count} {state}' for state, count in counts.items() if count))
    sign = 1 if sweep.mode == 'max' else -1
    done = sorted((record for record in records if record.state == 'complete'), key=lambda r: -sign * r.value)
    for record in done[:_SHOWN]:
        logging.info('  %04d  %s %s   %s', record.number, sweep.metric, format_metric(sweep.metric, record.value),
                     '  '.join(f'{field}={value}' for field, value in record.params.items()))


def _check_empty(folder: Path) -> None:
    """Raises UserError if a folder without a sweep has runs in it, which the trials' would be mixed up with."""
    try:
        strange = [path.name for path in folder.iterdir() if not path.name.startswith('.')]
    except OSError as error:
        raise UserError(f'{folder}: {error.strerror}') from error
    if strange:
        raise UserError(f'{folder} is not empty (it has {strange[0]}) and has no {SWEEP_FILE}: take another --workdir')


def _leave_nothing(folder: Path, made: bool) -> None:
    """Removes what `begin` has made in a folder where no sweep came of it, and the folder if it was made too."""
    with contextlib.suppress(OSError):
        for name in (_BEGIN_LOCK, SWEEP_LOCK):
            (folder / name).unlink(missing_ok=True)
        if made:
            folder.rmdir()


def _check_fits(sweep: Sweep) -> None:
    """Raises UserError with what is wrong with the experiment, its data or a value, before the first trial."""
    logging.info('checking the experiment and what is searched')
    began = time.monotonic()
    points = [{}, *({field: value} for field, parameter in sweep.space.items() for value in parameter.ends)]
    variations = json.dumps([sweep.trial_overrides(point) for point in points])
    with tempfile.TemporaryDirectory() as console, Child(
            ['check', '--config', sweep.experiment, '--variations', variations], Path(console) / 'log') as child:
        while (code := child.wait()) is None:
            pass
        if code:
            line = child.last_line().replace(f'config.checkpoint.best_metric = {sweep.metric!r}',
                                             f'--metric {sweep.metric}')
            raise UserError(line.removesuffix(" ('' keeps no best)"))
    logging.info('%d configurations fit, %s', len(points), format_seconds(time.monotonic() - began))
