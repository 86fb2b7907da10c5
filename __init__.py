"""Practicum: deep-learning experiments in JAX, from Python.

    import practicum
    practicum.train('digits_lenet', 'runs/digits', overrides=['total=5 epochs'])
    run = practicum.load('runs/digits')
    run.predict('digit.png')

What a user can mend is raised as `practicum.UserError`, in one line. Importing this imports nothing else; docs/how-to/
use-from-python.md has the rest.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common.errors import UserError

if TYPE_CHECKING:
    from ml_collections import ConfigDict

    from .deployment.runtime import Model
    from .inference.run import Run

__all__ = ['UserError', 'compare', 'config', 'explain', 'export', 'load', 'load_model', 'look', 'sweep', 'train']


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


def export(workdir: 'str | Path', output: 'str | Path', step: 'str | int' = 'best', *, overrides: 'Sequence[str]' = (),
           **options: Any) -> 'dict[str, Any]':
    """Writes a trained run as one file that runs without this project, as `launch.py export` does.

    Args:
      workdir, step, overrides: as for `load`.
      output: the file.
      options: 'platforms', 'sizes' and so on, see deployment/export.py.

    Returns:
      What the file says of itself.

    Raises:
      UserError: a run that cannot be exported, or the file cannot be written.
    """
    run = load(workdir, step, overrides=overrides)
    from .deployment.export import export_run
    return export_run(run, Path(output).expanduser(), **options)


def explain(workdir: 'str | Path', images: 'str | Path | Sequence[str | Path]' = (), output: 'str | Path' = '',
            step: 'str | int' = 'best', **options: 'Any') -> int:
    """Writes what a network sees as pictures, as `launch.py explain` does; `load(workdir).explain` has the arrays.

    Args:
      workdir, step: as for `load`.
      images: files and folders of images.
      output: a .png, an .html, or a folder for all there is; '' for <workdir>/explanation.
      options: 'endpoint', 'class_name', 'maximize' and so on, see inference/explanation_files.py.

    Returns:
      2 if some images could not be read, which are named on standard error; else 0.

    Raises:
      UserError: whatever does not fit, before anything is written.
    """
    run = load(workdir, step)
    from .inference.explanation_files import explain_files
    from .reporting.explanation_page import write_page
    several = [images] if isinstance(images, (str, Path)) else images
    return explain_files(run, list(map(str, several)), Path(output).expanduser() if output else None,
                         write_page=write_page, **options)


def load_model(path: 'str | Path', *, largest: int = 64, verify: bool = True) -> 'Model':
    """Returns an exported model, ready to predict: `load_model('model.zip').predict('digit.png')`.

    Args:
      path: of the file.
      largest: batches are divided into parts of at most so many.
      verify: whether its examples must give here what they gave where it was made.

    Raises:
      UserError: no such file, not an exported model, a damaged one, or one for another platform.
    """
    _prepare()
    from .deployment.runtime import Model
    return Model(path, largest=largest, verify=verify)


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


def sweep(experiment: 'str | Path', workdir: 'str | Path', overrides: 'Sequence[str]' = (), *,
          search: 'Mapping[str, str] | None' = None, trials: 'int | None' = None, seeds: 'int | None' = None,
          metric: str = '', mode: str = '', sampler: str = 'tpe', pruner: str = 'asha', seed: int = 0,
          storage: str = '', heartbeat: float = 60.0) -> 'dict[str, Any]':
    """Searches the best configuration of an experiment, as `launch.py sweep` does; or goes on, or joins.

    Args:
      experiment: as for `config`.
      workdir: the sweep's folder, which gets a run for every trial; made if it is not there.
      overrides: the same for all trials.
      search: field -> 'low:high', 'log:low:high', 'low:high:step' or 'one,another'; None: the experiment's own.
      trials: in all, those that are done included; None: 30, or the whole grid.
      seeds: with how many the best configuration is trained, to be scored on config.evaluation.final; None: 1.
      metric: '<set>/<metric>'; '': config.checkpoint.best_metric.
      mode: 'max' or 'min'; '': as config.checkpoint.best_mode says, or the metric's name.
      sampler: 'tpe', 'random' or 'grid'.
      pruner: 'asha', 'median' or 'none'.
      seed: of the sampler.
      storage: URL of a PostgreSQL database; '': a file in the folder.
      heartbeat: seconds; a worker that is silent for three of them is lost.

    Returns:
      What is in <workdir>/best.json: 'trial', 'params', 'seeds' and 'metrics'; {} with seeds=0.

    Raises:
      UserError: whatever does not fit, before the first trial; or all trials fail.
      KeyboardInterrupt: the worker was asked to stop: the same call goes on.
    """
    import json
    import logging
    import sys

    from .tuning import definition
    from .tuning import sweep as sweeps
    workdir = Path(workdir).expanduser()
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stdout)  # unless the user has chosen
    new = definition.define(
        str(Path(experiment).expanduser()), _several(overrides), search=search, metric=metric, mode=mode,
        sampler=sampler, pruner=pruner, trials=trials, seeds=1 if seeds is None else seeds, seed=seed, storage=storage,
        heartbeat=heartbeat)
    if code := sweeps.work(workdir, sweeps.begin(workdir, new, trials, seeds)):
        raise KeyboardInterrupt(f'asked to stop (exit code {code}); the same call goes on')
    path = workdir / sweeps.BEST_FILE
    return json.loads(path.read_text()) if path.is_file() else {}


def look(experiment: 'str | Path | ConfigDict', output: 'str | Path' = 'look.html', overrides: 'Sequence[str]' = (), *,
         set_name: str = 'train', class_name: str = '') -> 'dict[str, Any]':
    """Writes what is in the data of an experiment as a page, as `launch.py look` does.

    Args:
      experiment: as for `config`, or what it returned.
      output: the page, .html; its numbers lie beside it as .json.
      overrides: 'data.name=my/images' and so on.
      set_name: 'train' or one of config.evaluation.sets, of which examples are shown.
      class_name: examples of this class alone; of captions and texts, with this word.

    Returns:
      The numbers: 'sets', 'findings', 'repeats' and more.

    Raises:
      UserError: no such set or class, data that cannot be opened, or the files cannot be written.
    """
    import copy

    from .training import config as config_lib
    if isinstance(experiment, (str, Path)):
        chosen = config(experiment, overrides)
    else:
        chosen = config_lib.complete(copy.deepcopy(experiment), experiment.get('experiment') or 'experiment',
                                     _several(overrides))
    _prepare()
    from .reporting.look.look import as_json, look
    return as_json(look(chosen, Path(output).expanduser(), set_name, class_name))


def compare(folders: 'str | Path | Sequence[str | Path]', metrics: 'Sequence[str]' = (), mode: str = ''
            ) -> 'list[dict[str, Any]]':
    """Returns runs side by side, as `launch.py compare` does; they may be going on.

    Args:
      folders: of runs, of sweeps, folders that hold several, or patterns: ['runs/*', 'sweeps/x'].
      metrics: the first is what to sort by, such as 'test/accuracy'; by default that of the sweep, or of the config.
      mode: 'max' or 'min', which is best; '': as the sweep or the config says.

    Returns:
      A dict for each run, the best first, all with the same keys: 'run', 'state', 'step', 'wall_seconds', 'error', the
      config fields in which the runs differ, and their metrics. JSON types; None for what a run does not have.

    Raises:
      UserError: something named is not there, holds no run, or no run has such a metric.
    """
    import logging

    from .common.errors import printable
    from .reporting.comparison import compare
    found = compare([folders] if isinstance(folders, (str, Path)) else folders,
                    [metrics] if isinstance(metrics, str) else metrics, mode)
    for note in found.notes:
        logging.warning('%s', printable(note))
    return found.rows()


def _several(overrides: 'str | Sequence[str]') -> list[str]:
    """Returns overrides as a list without '--config.', which only the command line needs."""
    overrides = [overrides] if isinstance(overrides, str) else overrides
    return [override.removeprefix('--config.') for override in overrides]


def _prepare(*, training: bool = False) -> None:
    from .common.console import quiet_libraries
    from .training import process
    quiet_libraries()
    process.prepare(training=training, join=False)
