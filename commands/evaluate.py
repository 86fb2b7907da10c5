"""`launch.py evaluate`: scores a checkpoint."""

import logging
from collections.abc import Sequence
from pathlib import Path

from ..common.errors import UserError
from . import command

_DECIDED = tuple(f'text.{field}' for field in ('tokens', 'lowercase', 'min_count', 'max_size', 'vocabulary_from'))
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
    import flax

    from .. import tasks
    from ..common.console import format_metric
    from ..common.files import write_json
    from ..training import checkpoints, evaluation
    from ..training import config as config_lib
    from ..training import results as results_lib
    from ..training.parallel import Parallel
    checkpoint = checkpoints.read(workdir, step)
    config = config_lib.from_dict(checkpoint.meta['config'])
    config.parallel.devices = 0  # those of this machine, not of the one it was trained on
    config.cached_features.endpoint = ''  # once through the whole model costs no more
    for override in overrides:
        if override.partition('=')[0] in _DECIDED:
            raise UserError(f'--config.{override}: the vocabulary is in the checkpoint')
        config_lib.apply_override(config, override)
    parallel = Parallel(config.parallel.mode, config.parallel.devices)
    task = tasks.build(config.task, checkpoint.info)
    names = tuple(names) or tuple(dict.fromkeys((*config.evaluation.final, *config.evaluation.periodic)))
    if not names:
        raise UserError(f'{config.experiment} has no evaluation sets')
    evaluations = evaluation.Evaluations(config, parallel, task, checkpoint.info, names)
    variables = parallel.replicate(checkpoint.variables)
    metrics: dict[str, float] = {}
    results: dict[str, evaluation.Evaluation] = {}
    for name in names:
        try:
            results[name] = evaluation.evaluate(evaluations, name, variables)
        except flax.errors.FlaxError as error:
            if not overrides:
                raise
            reason = str(error).partition(' (https:')[0]
            raise UserError(f'the checkpoint does not fit the overrides: {reason}') from error
        metrics |= results[name].scalars(f'{name}/')
    if parallel.is_writer:
        logging.info('%s, step %s', config.experiment, f'{checkpoint.step:,}')
        for name, value in metrics.items():
            logging.info('  %-28s %s', name, format_metric(name, value))
        for name, found in results.items():
            for key, rows in task.tables(found.metrics).items():
                if len(rows) <= _SHOWN_ROWS:
                    logging.info('\n%s %s\n%s', name, key.replace('_', ' '), results_lib.format_table(rows))
        try:
            for name, found in results.items():
                results_lib.write_evaluation(workdir, f'evaluation_{name}', checkpoint.step, task, found)
            write_json(workdir / 'evaluation.json', {'experiment': config.experiment, 'step': checkpoint.step,
                                                     'overrides': list(overrides), 'metrics': metrics})
        except OSError as error:  # somebody else's run may be scored too
            logging.warning('evaluation.json is not written to %s: %s', workdir, error.strerror)
    return 0
