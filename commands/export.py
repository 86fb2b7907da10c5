"""`launch.py export`: a run as one file that runs without this project."""

from ..common.errors import UserError
from . import command

_OF_TEXTS = {
    'length': (int, 'tokens to write, 100 by default'),
    'temperature': (float, '1 by default; 0: the likeliest'),
    'top_k': (int, 'draw from so many tokens; 0: from all'),
    'top_p': (float, 'draw from the likeliest tokens of so much probability together'),
}


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
        for name, (kind, text) in _OF_TEXTS.items():
            parser.add_argument(f'--{name}', type=kind, help=f'of a language model: {text}')

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import process
        process.prepare()
        from ..deployment.export import export_run
        from ..inference.run import Run
        run = Run(args.workdir, args.step, overrides=overrides)
        writing = {name: getattr(args, name) for name in _OF_TEXTS if getattr(args, name) is not None}
        for name in writing if run.feature != 'text' else ():
            raise UserError(f'--{name} is for language models; the task of {args.workdir} is {run.config.task.name}')
        export_run(run, args.output, platforms=args.platforms, sizes=args.batches, **writing)
        return 0
