"""`launch.py evaluate`: scores a checkpoint."""

import logging
from collections.abc import Sequence
from pathlib import Path

from . import command

_SHOWN_ROWS = 40  # tables up to this length are printed, all are written


class Evaluate(command.Command):
    """See the top of this file."""
    help = 'score a checkpoint'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('--sets', nargs='+', default=(), help='which evaluation sets; all of the config by default')
        command.add_tta(parser)
        command.add_checkpoint(parser)
        command.add_processes(parser)

    def run(self, args, overrides):
        """See `Command`."""
        command.prepare(args)
        tta = [f'evaluation.tta={args.tta}'] if args.tta else []
        return evaluate(args.workdir, step=args.step, names=args.sets, overrides=[*overrides, *tta])


def evaluate(workdir: Path, *, step: str = 'best', names: Sequence[str] = (), overrides: Sequence[str] = ()) -> int:
    """Scores a run's checkpoint on evaluation sets, prints the metrics and writes <workdir>/evaluation*.

    Args:
      workdir: of the run.
      step: 'best', 'last' or a number.
      names: which of config.evaluation.sets; all final and periodic ones by default.
      overrides: changes to the run's config, such as 'data.data_dir=/data'.
    """
    from ..common.console import format_metric
    from ..common.files import write_json
    from ..inference.run import Run
    from ..training import process, results
    from ..training import rows as rows_lib
    run = Run(workdir, step, overrides=overrides)
    evaluations = run.evaluate(names)
    if process.rank() > 0:  # one process prints and writes
        return 0
    metrics = {key: value for name, found in evaluations.items() for key, value in found.scalars(f'{name}/').items()}
    logging.info('%s, %s', run.config.experiment, run.chosen)
    for name, value in metrics.items():
        logging.info('  %-28s %s', name, format_metric(name, value))
    for name, found in evaluations.items():
        for key, rows in run.task.tables(found.metrics).items():
            if len(rows) <= _SHOWN_ROWS:
                logging.info('\n%s %s\n%s', name, key.replace('_', ' '), results.format_table(rows))
    try:
        for name, found in evaluations.items():
            results.write_evaluation(workdir, f'evaluation_{name}', run.step, run.task, found)
        content = {'experiment': run.config.experiment, 'step': run.step, 'overrides': list(overrides),
                   'metrics': metrics}
        write_json(workdir / 'evaluation.json', rows_lib.to_json(content))
    except OSError as error:  # somebody else's run may be scored too
        logging.warning('evaluation.json is not written to %s: %s', workdir, error.strerror)
    return 0
