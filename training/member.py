"""One run of several that are trained at once, see training/population.py, and what they have together."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from ..common.errors import UserError
from . import components, loop
from .boundary import Boundary
from .checkpoint_meta import NonFiniteError
from .evaluation import Evaluation, Evaluations, evaluate_all
from .outputs import Outputs
from .preemption import StopRequest
from .progress import Progress
from .state import evaluated_variables
from .step import TrainState
from .window import MemberWindow, StepMetrics


class Shared:
    """What the members of a population have together.

    Args:
      training: with the step and the batches of all of them.
      evaluations: that score all of them at once.
      stop: whether the process was asked to stop.

    Attributes:
      returned: metrics of the steps, still on their way.
      progress: times all of them.
    """

    def __init__(self, training: components.Training, evaluations: Evaluations, stop: StopRequest):
        self.training, self.evaluations, self.stop = training, evaluations, stop
        self.returned = StepMetrics(0)
        self.progress: Progress | None = None
        self._state: TrainState | None = None
        self._found: dict[str, list[Evaluation]] = {}

    def begin(self, step: int, wall_seconds: float) -> None:
        """Begins to count steps."""
        self.returned = StepMetrics(step)
        self.progress = _SharedProgress(self.training.total, step, self.training.config.batch_size, wall_seconds)

    def skip_to(self, step: int) -> None:
        """Goes on counting at a step; those in between nobody had to take."""
        if step > self.returned.latest:
            self.returned.forget(step)
            self.progress.skip_to(step)

    def look_at(self, state: TrainState) -> None:
        """Says which state, of all members, is evaluated next."""
        self._state, self._found = state, {}

    def evaluation(self, name: str, member: int) -> Evaluation:
        """Returns what a member finds on a set; the first that asks computes it for all. Raises Interrupted."""
        if name not in self._found:
            variables = evaluated_variables(self._state.variables)
            self._found[name] = evaluate_all(self.evaluations, name, variables, self.stop)
        return self._found[name][member]


class _SharedProgress(Progress):
    """The clock of a population: every member closes the same windows, and none pauses on its own."""

    def __init__(self, *args):
        super().__init__(*args)
        self._closed: dict[int, dict[str, float]] = {}

    def window(self, step):
        """See `Progress`."""
        if step not in self._closed:
            self._closed = dict([*self._closed.items()][-1:]) | {step: super().window(step)}
        return self._closed[step]

    def skip_to(self, step: int) -> None:
        """Leaves out the steps up to this one."""
        self._window_start = step

    def pause(self):
        """See `Progress`; the population itself calls `pause_all`."""
        return contextlib.nullcontext()

    def pause_all(self):
        """What `Progress.pause` is."""
        return super().pause()


class _MemberEvaluations:
    """Stands for the `Evaluations` of a member."""

    def __init__(self, shared: Shared, member: int):
        self._shared, self._member = shared, member
        self.model, self.sources = shared.evaluations.model, shared.evaluations.sources

    def __call__(self, name: str, variables: Any, stop_requested: Any) -> Evaluation:
        """See `Evaluations`."""
        del variables, stop_requested  # those of all members
        return self._shared.evaluation(name, self._member)


class _MemberOutputs(Outputs):
    """Keeps the rows of metrics too, from which the population makes its log lines.

    Attributes:
      rows: (step, values) since it was emptied.
    """

    def __init__(self, *args):
        super().__init__(*args)
        self.rows: list[tuple[int, dict[str, float]]] = []

    def scalars(self, step, values, timings=None):
        """See `Outputs`."""
        super().scalars(step, values, timings)
        self.rows.append((step, values))


class Member:
    """One run of a population.

    Args:
      shared: what all members have together.
      number: its place in the step.
      config, workdir: of the run.
      state: as it was initialised.
      taken: see `loop.start`.
      folders: closes what is still open in the end.

    Attributes:
      name: of its folder.
      step, state: where it is, on the host, while it does not take part in the steps.
      error: why it was given up; '' if it was not.
      over: whether there is nothing left to do.
    """

    def __init__(self, shared: Shared, number: int, config: ConfigDict, workdir: Path, state: TrainState,
                 taken: dict[str, Any] | None, folders: contextlib.ExitStack):
        self._shared, self._number, self.name = shared, number, workdir.name
        self._training = dataclasses.replace(shared.training, config=config)
        self._open = folders.enter_context(contextlib.ExitStack())
        with speaking(self.name):
            self.outputs = self._open.enter_context(_MemberOutputs(config, shared.training.parallel, workdir))
            self.state, self.resumed = loop.start(self._training, state, taken, self.outputs, workdir)
        self.step = self.resumed.get('step', 0)
        self.error, self.over = '', False

    def begin(self) -> None:
        """Opens its files, once the population counts its steps, unless the run is finished already."""
        shared = self._shared
        self.window = MemberWindow(shared.training.layout, self.step, self.resumed.get('window'), shared.returned,
                                   self._number)
        self.boundary = Boundary(self._training, _MemberEvaluations(shared, self._number), self.resumed,
                                 shared.progress, shared.stop, self.outputs, self.window)
        with speaking(self.name):
            if not loop.begin(self._training, self.step, self.state, self.boundary, self.outputs):
                self.close()

    def part(self, state: TrainState) -> TrainState:
        """Returns its own part of the state of all members, on the host."""
        return jax.tree.map(lambda leaf: leaf[self._number], state)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within it only this member is at work: what is not finite ends it, and not the others."""
        try:
            with loop.explained(self._training, self.outputs), speaking(self.name):
                yield
        except UserError as error:
            if not isinstance(error.__cause__, NonFiniteError):
                raise
            self.error = str(error)
            logging.warning('%s: %s; the others go on', self.name, error)
            self.close()

    def close(self) -> None:
        """Ends it."""
        self.over = True
        with contextlib.suppress(NonFiniteError):  # of a save under way; a member that is not over raises it before
            self._open.close()


@contextlib.contextmanager
def speaking(name: str) -> Iterator[None]:
    """Within it log lines are of one member: warnings begin with its name, and the population sums up the others."""
    def heard(record: logging.LogRecord) -> bool:
        record.msg = f"{name.replace('%', '%%') if record.args else name}: {record.msg}"
        return record.levelno >= logging.WARNING
    logger = logging.getLogger()
    logger.addFilter(heard)
    try:
        yield
    finally:
        logger.removeFilter(heard)
