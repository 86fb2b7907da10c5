"""What config.inspect asks to be shown of a training: histograms, a few parameters over time, the compiled program."""

from typing import Any

import jax

from ..common.errors import UserError
from . import histograms, loss_surface, program_summary
from .components import FEW_PARAMETERS, Training
from .outputs import Outputs
from .parallel import Place
from .step import TRAIN, TrainState
from .writers import HISTOGRAMS_FILE, PARAMETERS_FILE, read_rows


class Inspection:
    """Looks at a run before and after the steps where that is due. All processes make the same calls.

    Args:
      training: the parts of the run.
      state: as it was initialised.

    Raises:
      UserError: config.inspect does not fit the model.
    """

    def __init__(self, training: Training, state: TrainState):
        self._training, self._fields = training, training.config.inspect
        self._histograms_every, self._parameters_every = training.histograms_every, training.parameters_every
        if self._parameters_every and not training.learned(state):
            raise UserError(f'config.inspect.parameters_every is for models of at most {FEW_PARAMETERS} parameters, '
                            "this one has more: leave it '', or set config.inspect.histograms_every")
        self._gradients: dict[str, Any] | None = None
        if self._histograms_every:
            self._count_gradients = training.parallel.compile(histograms.gradient_counter(training.gradients),
                                                              inputs=TRAIN['inputs'], outputs=Place.SHARED)
            self._count_weights = jax.jit(histograms.counted)  # of arrays that are whole, or that XLA has divided

    def begin(self, step: int, state: TrainState, outputs: Outputs) -> None:
        """Looks at a run before its first step, or the first since it was resumed."""
        self._outputs = outputs
        if self._fields.program:
            outputs.program(step, program_summary.summarize(self._training, state))
        if self._parameters_every and not step:
            outputs.parameters(step, self._training.learned(state))

    def before(self, step: int, state: TrainState, batch: Any) -> None:
        """Looks at what the next step begins with; `step` of them are done."""
        if self._histograms_every and self._counts(step + 1):
            self._gradients = self._training.parallel.fetch(self._count_gradients(state, batch))

    def after(self, step: int, state: TrainState) -> None:
        """Looks at what a step left."""
        training = self._training
        if self._gradients is not None:
            weights = training.parallel.fetch(self._count_weights(state.params))
            found = histograms.to_histograms('weights', state.params, weights)
            found |= histograms.to_histograms('gradients', state.params, self._gradients)
            self._gradients = None
            self._outputs.histograms(step, found)
        if self._parameters_every and (step % self._parameters_every == 0 or step == training.total):
            self._outputs.parameters(step, training.learned(state))

    def finish(self, step: int, state: TrainState) -> None:
        """Draws what was seen of a run that is over."""
        outputs, training = self._outputs, self._training
        if self._histograms_every:
            outputs.picture(step, 'histograms', lambda workdir: histograms.draw_histograms(
                read_rows(workdir, HISTOGRAMS_FILE)))
        if self._parameters_every and len(learned := training.learned(state)) == 2:
            losses = loss_surface.losses_of(training, state)
            outputs.picture(step, 'loss_surface', lambda workdir: loss_surface.draw(
                losses, sorted(learned), read_rows(workdir, PARAMETERS_FILE)))

    def _counts(self, step: int) -> bool:
        """Whether histograms of this step are due: the first one, and every so many."""
        return step == 1 or step % self._histograms_every == 0


def build(training: Training, state: TrainState) -> Inspection | None:
    """Returns what config.inspect asks for; None if that is nothing."""
    if training.histograms_every or training.parameters_every or training.config.inspect.program:
        return Inspection(training, state)
    return None
