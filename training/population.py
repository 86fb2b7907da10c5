"""Several runs trained at once as one process: one compiled step, `jax.vmap` of that of a single run, moves them all.

The runs, the members of the population, differ in their `hyperparameters` alone, which are inputs of the step: seed,
learning rate and weight decay. Each has its folder, which is that of a run trained alone, and ends when its own time
has come: by its length, by early stopping, or because its loss is not finite any more. A member that has ended, or that
waits for others that a kill left behind it, keeps its place in the step, where nobody looks at what is computed for it:
so the numbers of the others do not depend on it.
"""

import contextlib
import copy
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from ..common.console import format_metric
from ..common.errors import UserError, some
from ..input_pipeline import checks
from . import components, loop, results
from . import config as config_lib
from .evaluation import Evaluations
from .member import Member, Shared, speaking
from .optimizer import Optimizer
from .parallel import Parallel
from .preemption import Interrupted, StopRequest
from .step import TrainState
from .transfer import init_unless_resuming

_ONE_A_PROCESS = ('mlflow', 'wandb')  # writers whose package knows one run at a time


def train(config: ConfigDict, workdir: Path) -> int:
    """Trains, or resumes, the run of a config or, with config.population > 1, its runs in <workdir>/seed<seed>.

    Returns:
      Exit code, see `training.loop.train`.
    """
    if config.population == 1:
        return loop.train(config, workdir)
    runs = members(config, workdir)
    return train_population(list(runs.values()), list(runs))


def members(config: ConfigDict, workdir: Path) -> dict[Path, ConfigDict]:
    """Returns the folders and configs of the runs of a config with a population, each with a seed of its own.

    Raises:
      UserError: there is no such population.
    """
    if config.population < 1:
        raise UserError(f'config.population = {config.population}: it must be at least 1')
    seeds = range(config.seed, config.seed + config.population)
    return {workdir / f'seed{seed}': _changed(config, {'population': 1, 'seed': seed}) for seed in seeds}


def train_population(configs: Sequence[ConfigDict], workdirs: Sequence[Path]) -> int:
    """Trains, or resumes, several runs at once, on one device, and writes the results of each.

    Args:
      configs: locked configs, which differ in `config.HYPERPARAMETERS` at most.
      workdirs: the runs' folders, whose names are those of the members.

    Returns:
      Exit code: 0, or 128 + signal if the process was asked to stop and saved.

    Raises:
      UserError: the configs do not fit each other, something in them or a folder does not fit, or, once all others are
        at their ends, the loss of some was not finite any more.
    """
    _check(configs, workdirs)
    # Several devices would have to share each member; a single one has no use for pmap's dimension of devices.
    common = _changed(configs[0], {'parallel.mode': 'jit', 'parallel.batch_norm': 'global'})
    if (parallel := Parallel(common.parallel)).count > 1:
        raise UserError(f'a population trains on one device, and this are {parallel}: set config.parallel.devices=1 in '
                        'a single process')
    seeds = [config.seed for config in configs]
    with StopRequest() as stop, contextlib.ExitStack() as folders:
        try:
            training = components.build_training(common, seeds)
            names = tuple(dict.fromkeys((*common.evaluation.periodic, *common.evaluation.final)))
            evaluations = Evaluations(common, training.parallel, training.task, training.info, names, seeds)
        except Interrupted:
            logging.info('asked to stop before the first step: the same command begins again')
            return stop.exit_code
        logging.info('%s: %d runs at once, %s steps of %d each on %s; %s training examples', common.experiment,
                     len(configs), f'{training.total:,}', common.batch_size, training.parallel,
                     f'{training.batches.examples:,}')
        checks.say_what_is_learned(training.source, evaluations.sources)
        states = training.initial_states(configs)
        taken = []
        for config, state, workdir in zip(configs, states, workdirs):
            with speaking(workdir.name) if taken else contextlib.nullcontext():
                taken.append(init_unless_resuming(config.init_from, state.variables, training.info, workdir))
        logging.info('%s', training.parameter_table(states[0]))
        _warn_of_convolutions(states[0])
        shared = Shared(training, evaluations, stop)
        started = [Member(shared, *parts, folders)
                   for parts in zip(range(len(configs)), configs, workdirs, states, taken)]
        return _Population(shared, started).run(workdirs[0])


def _changed(config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
    """Returns a locked copy of a config with other values of some fields."""
    config = copy.deepcopy(config)
    for field, value in values.items():
        section, _, name = field.rpartition('.')
        (config[section] if section else config)[name] = value
    return config


def _check(configs: Sequence[ConfigDict], workdirs: Sequence[Path]) -> None:
    """Raises UserError unless the runs can be trained at once."""
    if len({workdir.absolute() for workdir in workdirs}) < len(configs):
        raise UserError('two runs of a population have the same workdir')
    first = configs[0]
    for config in configs:
        components.check_fields(config)
        Optimizer(config.optimizer)
        alike = _changed(config, {'seed': first.seed, 'optimizer.learning_rate': first.optimizer.learning_rate,
                                  'optimizer.weight_decay': first.optimizer.weight_decay})
        if different := config_lib.differences(config_lib.to_dict(first), config_lib.to_dict(alike)):
            raise UserError(f'the runs of a population may differ in {", ".join(config_lib.HYPERPARAMETERS)} alone, '
                            f'these differ in config.{different[0]}')
        if bool(config.optimizer.weight_decay) != bool(first.optimizer.weight_decay):
            raise UserError('config.optimizer.weight_decay is 0 in some runs of the population and not in others, '
                            'whose optimizer has another step: train them as two populations')
    if first.cached_features.endpoint:
        raise UserError('config.cached_features: a population cannot be trained on cached features; train its runs one '
                        'by one: the features are computed once for all')
    if first.inspect.program or first.inspect.histograms_every or first.inspect.parameters_every:
        logging.warning('config.inspect is for single runs: nothing of it is shown of a population')
    for name in first.writers:
        if name in _ONE_A_PROCESS:
            raise UserError(f'config.writers: {name} takes one run from a process, and a population is several: leave '
                            'it out')


def _warn_of_convolutions(state: TrainState) -> None:
    if any(leaf.ndim > 3 for leaf in jax.tree.leaves(state.params)):
        logging.warning('this model has convolutions: with kernels of their own for every run they are usually slower '
                        'all at once than one run after the other')


class _Population:
    """What a `Boundary` is to one run, for all members: logs, evaluates and saves each of them.

    Args:
      shared: what they have together.
      members: all of them, in the order of the step.

    Attributes:
      end: the step up to which the same members are at work.
    """

    def __init__(self, shared: Shared, members: Sequence[Member]):
        self._shared, self._members = shared, members
        self._begin = self.end = 0
        self._waiting: list[Member] = []  # ahead of those that are at work
        self._working: list[Member] = []

    def run(self, workdir: Path) -> int:
        """Takes all members to their ends, those that are behind first. Returns the exit code.

        Args:
          workdir: where a profiler trace goes.

        Raises:
          UserError: not all of them came to their ends.
        """
        training, members = self._shared.training, self._members
        _say_where(members)
        self._shared.begin(min(member.step for member in members),
                           max(member.resumed.get('wall_seconds', 0.0) for member in members))
        for member in members:
            member.begin()
        while any(not member.over for member in members):
            step = self._choose()
            state = jax.tree.map(lambda *leaves: np.stack(leaves), *(member.state for member in members))
            try:
                step, state = loop.take_steps(training, step, training.place(state), self, self._shared.progress,
                                              self._shared.stop, workdir)
            except Interrupted:
                return self._shared.stop.exit_code
            host = jax.tree.map(np.array, training.parallel.fetch(state))  # copies: the next step takes the memory
            for member in self._working:
                member.step, member.state = step, member.part(host)
            self._finish(step, host)
        self._conclude()
        return 0

    def _choose(self) -> int:
        """Lets those work that are behind, up to where the next one is. Returns their step."""
        left = [member for member in self._members if not member.over]
        self._begin = min(member.step for member in left)
        self._working = [member for member in left if member.step == self._begin]
        self._waiting = [member for member in left if member.step > self._begin]
        self._shared.skip_to(self._begin)
        self._update()
        return self._begin

    def _update(self) -> None:
        """Finds out who is still at work, and until when."""
        self._working = [member for member in self._working if not member.over]
        last = max((member.boundary.end for member in self._working), default=self._begin)
        self.end = min([last, *(member.step for member in self._waiting)])

    def add(self, metrics: jax.Array) -> None:
        """Adds what a step returned, [members, numbers]."""
        self._shared.returned.add(metrics)

    @property
    def done(self) -> bool:
        """See `Boundary`."""
        return all(member.boundary.done for member in self._working)

    def next(self, step: int) -> int:
        """See `Boundary`."""
        return min([self.end, *(member.boundary.next(step) for member in self._working)])

    def __call__(self, step: int, state: TrainState) -> None:
        """Does what is due after a step, see `Boundary`; members that are at their ends write their results."""
        shared = self._shared
        # Before the first step the others did all that was due before they were saved.
        due = [member for member in self._working if step > self._begin or not member.boundary.done]
        for member in due:
            member.boundary.done = False  # also of those that are not reached if the process is asked to stop
        reads = any(member.boundary.reads_state(step) for member in due)
        shared.look_at(state)
        host = shared.training.parallel.fetch(state) if reads else None
        with shared.progress.pause_all() if reads else contextlib.nullcontext():
            for member in due:
                with member.alone():
                    member.boundary(step, member.part(host) if reads else None)
            self._say()
            self._finish(step, host)
        shared.returned.forget(min((member.window.step for member in self._working), default=step))

    def _finish(self, step: int, host: TrainState | None) -> None:
        """Writes the results of those that are at their ends."""
        for member in self._working:
            if not member.over and step >= member.boundary.end and member.boundary.done:
                with member.alone():
                    member.boundary.finish(step, member.part(host))
                    member.close()
        self._update()

    def interrupted(self, step: int, state: TrainState) -> None:
        """See `Boundary`; those that wait were saved where they are."""
        host = self._shared.training.parallel.fetch(state)
        for member in self._working:
            with member.alone():
                member.boundary.save(step, member.part(host), done=member.boundary.done)
        for member in self._working:
            if not member.over:
                with member.alone():
                    member.outputs.wait()

    def _say(self) -> None:
        """Logs in a line what the members have just written."""
        rows: dict[tuple[int, bool], list[dict[str, float]]] = {}
        for member in self._members:
            for step, values in member.outputs.rows:
                rows.setdefault((step, 'train/loss' in values), []).append(values)
            member.outputs.rows.clear()
        primary = self._shared.training.task.primary_metric
        for (step, training), of_members in rows.items():
            shown = {name: [values[name] for values in of_members if name in values]
                     for name in dict.fromkeys(name for values in of_members for name in values)
                     if name.rpartition('/')[2] in ('loss', primary)}
            if training:
                means = {name.rpartition('/')[2]: float(np.mean(values)) for name, values in shown.items()}
                timings = self._shared.progress.window(step)
                logging.info('%s  (means of %d runs)', self._shared.progress.line(step, means, timings),
                             len(of_members))
            else:
                logging.info('evaluation at step %s: %s', f'{step:,}',
                             '  '.join(f'{name} {_range(name, values)}' for name, values in shown.items()))

    def _conclude(self) -> None:
        """Prints the table of all results. Raises UserError if members were given up."""
        done = {member.name: member.boundary.metrics for member in self._members if not member.error}
        training = self._shared.training
        if done:
            logging.info('%s', results.population_table(training.config.experiment, done,
                                                        training.task.primary_metric))
        failed = [member.name for member in self._members if member.error]
        if failed:
            raise UserError(f'{len(failed)} of {len(self._members)} runs were given up, as said above: '
                            f'{some(failed)}; the others are finished')


def _say_where(members: Sequence[Member]) -> None:
    """Logs with which steps members go on that were begun before."""
    places: dict[int, list[str]] = {}
    for member in members:
        places.setdefault(member.step, []).append(member.name)
    if set(places) != {0}:
        logging.info('resuming at %s', '; '.join(f'step {step:,}: {some(names)}'
                                                 for step, names in sorted(places.items())))


def _range(name: str, values: Sequence[float]) -> str:
    """Returns the mean of a metric, and its least and greatest value."""
    mean, low, high = (format_metric(name, float(of(values))) for of in (np.mean, np.min, np.max))
    return f'{mean} ({low} to {high})'
