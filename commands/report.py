"""`launch.py report`: what a run found as one HTML file."""

import os

from . import command


class Report(command.Command):
    """See the top of this file."""
    help = 'write what a run found as one html file'

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('--workdir', type=command.path, required=True, help='folder of a run')
        parser.add_argument('--output', type=command.path, help='<workdir>/report.html by default')

    def run(self, args, overrides):
        """See `Command`."""
        os.environ['JAX_PLATFORMS'] = 'cpu'  # a training may have the GPU
        from ..reporting.page import write_report
        print(write_report(args.workdir, args.output))
        return 0
