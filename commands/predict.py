"""`launch.py predict`: classes, masks or captions of image files."""


from ..common.errors import UserError
from . import command


class Predict(command.Command):
    """See the top of this file."""
    help = 'classify, segment or caption images'
    takes_overrides = prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('inputs', nargs='+', help='images or folders of images')
        parser.add_argument('--top_k', type=int, default=3, help='classes per image')
        parser.add_argument('--invert', action='store_true',
                            help='predict the negative: for dark digits on light paper')
        parser.add_argument('--output', type=command.path,
                            help='write to this .csv, .json or .txt file, or masks to this folder')
        parser.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
        command.add_tta(parser)
        command.add_checkpoint(parser)
        command.add_processes(parser)

    def run(self, args, overrides):
        """See `Command`."""
        for override in overrides:
            if not override.startswith('task.') or override.startswith('task.name='):
                raise UserError(f'--config.{override}: that is for the checkpoint to say; predict takes fields of '
                                'config.task, such as --config.task.decisions')
        command.prepare(args)
        from ..inference.prediction import predict_files
        from ..inference.run import Run
        run = Run(args.workdir, args.step, overrides=overrides)
        return predict_files(run, args.inputs, top_k=args.top_k, invert=args.invert, output=args.output,
                             form=args.format, tta=args.tta or 'none')
