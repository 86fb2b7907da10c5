"""`launch.py train`, the default command: trains a run, or resumes it."""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import command

if TYPE_CHECKING:
    from ml_collections import ConfigDict


class Train(command.Command):
    """See the top of this file."""
    help = 'train or resume (the default command)'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('--workdir', type=command.path, help='folder of the run; runs/<experiment> by default')
        parser.add_argument('--members', type=command.path, metavar='FILE',
                            help='train several runs in one step: JSON, {folder in --workdir: ["field=value", ...]}')
        command.add_config(parser)
        command.add_processes(parser)

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import config as config_lib
        config = config_lib.load(args.config, overrides)
        members = _read_members(args, overrides)
        command.prepare(args, training=True)
        from ..training import process
        if args.process_id > 0 or process.rank() > 0:
            logging.getLogger().setLevel(logging.WARNING)  # one console is enough
        from ..training import population
        if members:
            return population.train_population(list(members.values()), list(members))
        return population.train(config, args.workdir or Path('runs') / config.experiment.replace(':', '-'))


def _read_members(args: argparse.Namespace, overrides: Sequence[str]) -> 'dict[Path, ConfigDict]':
    """Returns the folders and configs of the runs that --members names; {} without it."""
    from ..common.errors import UserError
    from ..training import config as config_lib
    if not args.members:
        return {}
    if not args.workdir:
        raise UserError('--members needs --workdir, in which the folders of its runs are')
    try:
        found = json.loads(args.members.read_text(encoding='utf-8'))
        return {args.workdir / name: config_lib.load(args.config, [*overrides, *map(str, own)])
                for name, own in found.items()}
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f'--members {args.members}: it is a JSON file, {{folder: ["field=value", ...]}}') from error
