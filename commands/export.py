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
        parser.add_argument('--output', type=command.path, required=True, metavar='MODEL.zip',
                            help='the file: .zip, for JAX, or .onnx, for ONNX Runtime')
        parser.add_argument('--format', choices=('zip', 'onnx'), help='the same, as a name')
        parser.add_argument('--int8', type=command.path, metavar='FOLDER',
                            help='make an .onnx of 8-bit integers, calibrated on these training images')
        parser.add_argument('--labelled', type=command.path, metavar='FOLDER',
                            help='one folder of images for each class, to measure the accuracy before and after --int8')
        parser.add_argument('--platforms', nargs='+', default=(), metavar='NAME',
                            help="that it is to run on: 'cpu', 'cuda', 'rocm', 'tpu'; cpu and cuda by default")
        parser.add_argument('--batches', nargs='+', type=int, default=(), metavar='N',
                            help='the only batch sizes it is to take; any by default')
        for name, (kind, text) in _OF_TEXTS.items():
            parser.add_argument(f'--{name}', type=kind, help=f'of a language model: {text}')

    def run(self, args, overrides):
        """See `Command`."""
        kind = args.format or args.output.suffix[1:]
        if args.format and args.output.suffix != f'.{args.format}':
            raise UserError(f'--format {args.format} and --output {args.output} contradict each other: the suffix of '
                            f'one is .{args.format}')
        if kind != 'onnx' and (args.int8 or args.labelled):
            raise UserError('--int8 and --labelled are for ONNX: --output MODEL.onnx')
        if kind == 'onnx' and (args.platforms or args.batches):
            raise UserError('--platforms and --batches are for a .zip: an .onnx takes batches of any size')
        for override in overrides:
            if not override.startswith(('task.', 'precision=')):
                raise UserError(f'--config.{override}: an export takes fields of the task, such as '
                                '--config.task.beam_size=1, and precision; the rest is what the run was trained with')
        from ..training import process
        process.prepare()
        from ..deployment.export import export_run
        from ..deployment.onnx_export import export_onnx
        from ..inference.run import Run
        writing = {name: getattr(args, name) for name in _OF_TEXTS if getattr(args, name) is not None}
        if kind == 'onnx':
            run = Run(args.workdir, args.step, overrides=['precision=float32', *overrides])
        else:
            run = Run(args.workdir, args.step, overrides=overrides)
        for name in writing if run.feature != 'text' else ():
            raise UserError(f'--{name} is for language models; the task of {args.workdir} is {run.config.task.name}')
        if kind == 'onnx':
            export_onnx(run, args.output, calibration=args.int8, labelled=args.labelled)
        else:
            export_run(run, args.output, platforms=args.platforms or ('cpu', 'cuda'), sizes=args.batches, **writing)
        return 0
