"""Practicum: deep-learning experiments in JAX, from Python.

    import practicum
    practicum.train('digits_lenet', 'runs/digits', overrides=['total=5 epochs'])
    run = practicum.load('runs/digits')
    run.predict('digit.png')

What a user can mend is raised as `practicum.UserError`, in one line. Importing this imports nothing else; docs/how-to/
use-from-python.md has the rest.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from .inference.run import Run

__all__ = ['UserError', 'config', 'load', 'train']


def load(workdir: 'str | Path', step: 'str | int' = 'best', *, overrides: 'Sequence[str]' = ()) -> 'Run':
    """Returns a trained run, ready to predict, evaluate or generate.

    Args:
      workdir: of the run.
      step: 'best' (the last where no metric ranks them), 'last' or a number.
      overrides: changes to its config, such as 'task.beam_size=5'.

    Raises:
      UserError: no such checkpoint, a damaged one, or an override that does not fit.
    """
    _prepare()
    from .inference.run import Run
    return Run(workdir, step, overrides=_several(overrides))


def config(experiment: 'str | Path', overrides: 'Sequence[str]' = ()) -> 'ConfigDict':
    """Returns the locked config of an experiment, whose fields can be changed.

    Args:
      experiment: a file, 'my/experiment.py' or 'my/experiment.py:variant', or the name of one that comes with
        Practicum, 'digits_lenet'.
      overrides: 'optimizer.learning_rate=0.03' and so on.

    Raises:
      UserError: no such file, variant or field, or a value of the wrong type.
    """
    from .training import config as config_lib
    return config_lib.load(str(Path(experiment).expanduser()), _several(overrides))


def train(experiment: 'str | Path | ConfigDict', workdir: 'str | Path', overrides: 'Sequence[str]' = ()
          ) -> 'dict[str, Any] | list[dict[str, Any]]':
    """Trains a run or, with population=8, eight at once; or resumes it, as `launch.py train` does.

    Args:
      experiment: as for `config`, or what it returned.
      workdir: the run's folder; made if it is not there.
      overrides: 'total=5 epochs' and so on.

    Returns:
      What is in <workdir>/result.json: 'metrics', 'step', 'best' and more; of a population a list, by seed.

    Raises:
      UserError: config, data or workdir do not fit, or the loss is not finite any more.
      KeyboardInterrupt: training was asked to stop, and has saved: the same call resumes.
    """
    import copy
    import json
    import logging
    import sys

    from .training import config as config_lib
    workdir = Path(workdir).expanduser()
    if isinstance(experiment, (str, Path)):
        chosen = config(experiment, overrides)
    else:
        name = experiment.get('experiment') or workdir.name
        chosen = config_lib.complete(copy.deepcopy(experiment), name, _several(overrides))
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stdout)  # unless the user has chosen
    _prepare(training=True)
    from .training import population
    from .training.results import RESULT_FILE
    if code := population.train(chosen, workdir):
        raise KeyboardInterrupt(f'asked to stop (exit code {code}); {workdir} was saved, the same call resumes')
    folders = [workdir] if chosen.population == 1 else population.members(chosen, workdir)
    results = [json.loads((folder / RESULT_FILE).read_text()) for folder in folders]
    return results[0] if chosen.population == 1 else results


def _several(overrides: 'str | Sequence[str]') -> list[str]:
    """Returns overrides as a list without '--config.', which only the command line needs."""
    overrides = [overrides] if isinstance(overrides, str) else overrides
    return [override.removeprefix('--config.') for override in overrides]


def _prepare(*, training: bool = False) -> None:
    from .common.console import quiet_libraries
    from .training import process
    quiet_libraries()
    process.prepare(training=training, join=False)
