"""`launch.py export`: a run as one file that runs without this project."""

from . import command


class Export(command.Command):
    """See the top of this file."""
    help = 'write a run as one file that runs anywhere'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        command.add_checkpoint(parser)
        parser.add_argument('--output', type=command.path, required=True, metavar='MODEL.zip')
        parser.add_argument('--platforms', nargs='+', default=('cpu', 'cuda'), metavar='NAME',
                            help="that it is to run on: 'cpu', 'cuda', 'rocm', 'tpu'; cpu and cuda by default")
        parser.add_argument('--batches', nargs='+', type=int, default=(), metavar='N',
                            help='the only batch sizes it is to take; any by default')

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import process
        process.prepare()
        from ..deployment.export import export_run
        from ..inference.run import Run
        run = Run(args.workdir, args.step, overrides=overrides)
        export_run(run, args.output, platforms=args.platforms, sizes=args.batches)
        return 0
