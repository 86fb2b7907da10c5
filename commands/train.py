"""`launch.py train`, the default command: trains a run, or resumes it."""

import logging
from pathlib import Path

from . import command


class Train(command.Command):
    """See the top of this file."""
    help = 'train or resume (the default command)'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('--workdir', type=command.path, help='folder of the run; runs/<experiment> by default')
        command.add_config(parser)
        command.add_processes(parser)

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import config as config_lib
        config = config_lib.load(args.config, overrides)
        command.prepare(args, training=True)
        from ..training import process
        if args.process_id > 0 or process.rank() > 0:
            logging.getLogger().setLevel(logging.WARNING)  # one console is enough
        from ..training.population import train
        return train(config, args.workdir or Path('runs') / config.experiment.replace(':', '-'))
