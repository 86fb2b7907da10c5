"""`launch.py predict`: classes, masks, boxes or captions of image files."""


from ..common.errors import UserError
from . import command

_OF_HEAT_MAPS = {
    'class': {'metavar': 'NAME', 'help': 'what to look for; the likeliest by default'},
    'scale': {'type': float, 'nargs': '+', 'metavar': 'FACTOR', 'help': 'resize images by it, or by each of several'},
    'threshold': {'type': float, 'help': 'probability of a box, 0.5 by default'},
    'windows': {'action': 'store_true', 'default': None, 'help': 'classify one window after the other: slow'},
    'stride': {'type': int, 'help': "pixels between windows; the network's own by default"},
}


class Predict(command.Command):
    """See the top of this file."""
    help = 'classify, segment or caption images, or detect objects in them'
    takes_overrides = prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('inputs', nargs='+', help='images or folders of images')
        parser.add_argument('--top_k', type=int, help='of a classifier: classes per image, 3 by default')
        parser.add_argument('--invert', action='store_true',
                            help='predict the negative: for dark digits on light paper')
        parser.add_argument('--output', type=command.path,
                            help='write to this .csv, .json or .txt file, or masks and heat maps to this folder')
        parser.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
        parser.add_argument('--heat_map', action='store_true',
                            help='of a classifier: where in the image a class is, as a heat map and boxes')
        parser.add_argument('--tile', type=int, metavar='PIXELS',
                            help='detect in parts of so many pixels a side, too: small objects in large images')
        parser.add_argument('--boxes', nargs='+', choices=('coco', 'csv', 'yolo', 'voc'), default=None,
                            help='formats that detected boxes are written in; coco and csv by default')
        for name, settings in _OF_HEAT_MAPS.items():
            parser.add_argument(f'--{name}', **settings)
        command.add_tta(parser)
        command.add_checkpoint(parser)
        command.add_processes(parser)

    def run(self, args, overrides):
        """See `Command`."""
        for override in overrides:
            if not override.startswith('task.') or override.startswith('task.name='):
                raise UserError(f'--config.{override}: that is for the checkpoint to say; predict takes fields of '
                                'config.task, such as --config.task.decisions')
        given = {name: getattr(args, name) for name in _OF_HEAT_MAPS if getattr(args, name) is not None}
        for name in given if not args.heat_map else ():
            raise UserError(f'--{name} is for --heat_map')
        for name in ('tta', 'top_k', 'tile', 'boxes') if args.heat_map else ():
            if (value := getattr(args, name)) is not None:
                raise UserError(f'--{name} {value}: a heat map takes none' if name != 'boxes' else
                                '--boxes is for detectors, not for --heat_map')
        if args.tile is not None and args.tile < 1:
            raise UserError(f'--tile {args.tile}: it is the side of a part in pixels, at least 1; leave it out to look '
                            'at whole images')
        command.prepare(args)
        from ..inference.prediction import predict_files
        from ..inference.run import Run
        run = Run(args.workdir, args.step, overrides=overrides)
        if args.heat_map:
            from ..inference.heat_map_files import predict_heat_maps
            renamed = {'class': 'class_name', 'scale': 'scales'}
            return predict_heat_maps(run, args.inputs, invert=args.invert, output=args.output, form=args.format,
                                     **{renamed.get(name, name): value for name, value in given.items()})
        return predict_files(run, args.inputs, top_k=args.top_k, invert=args.invert, output=args.output,
                             form=args.format, tta=args.tta or 'none', tile=args.tile or 0, boxes=args.boxes)
