"""`launch.py predict`: classes, masks, boxes or captions of image files, answers to questions about stories."""

import importlib
from pathlib import Path

from ..common.errors import UserError
from . import command

_OF_HEAT_MAPS = {
    'class': {'metavar': 'NAME', 'help': 'what to look for; the likeliest by default'},
    'scale': {'type': float, 'nargs': '+', 'metavar': 'FACTOR', 'help': 'resize images by it, or by each of several'},
    'threshold': {'type': float, 'help': 'probability of a box, 0.5 by default'},
    'windows': {'action': 'store_true', 'default': None, 'help': 'classify one window after the other: slow'},
    'stride': {'type': int, 'help': "pixels between windows; the network's own by default"},
}

# What a model looks at that is no image -> the module of inference/ that predicts it, its function, and what it does.
_OTHERS = {
    'tokens': ('text_prediction', 'predict_texts', 'reads texts'),
    'story': ('story_answers', 'predict_stories', 'answers questions about stories'),
}
_OF_NUMBERS = ('numbers', 'predict_numbers', 'was trained on numbers')  # features of any name


class Predict(command.Command):
    """See the top of this file."""
    help = 'classify, segment or caption images, detect objects in them, classify or translate texts, answer questions'
    takes_overrides = prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('inputs', nargs='+', help='images or folders of images, or one .csv that lists paths or '
                            'addresses of images; of a run on sounds .wav files in their place; of one on texts texts, '
                            'files with a text on each line, or one .csv; of one on stories files of them; of one on '
                            'numbers rows of them')
        parser.add_argument('--column', metavar='NAME', help='of a .csv: the column of paths or addresses, or of texts')
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
        listed = [text for text in args.inputs if text.lower().endswith('.csv')]
        if listed and len(args.inputs) > 1:
            raise UserError(f'{listed[0]} is a table: give it alone')
        if args.column is not None and not listed:
            raise UserError(f'--column {args.column} is for a .csv')
        for name in ('heat_map', 'tile', 'boxes') if listed else ():
            if getattr(args, name):
                raise UserError(f'--{name} writes files for each image: give the images themselves, not a list')
        command.prepare(args)
        from ..inference.image_list import predict_list
        from ..inference.prediction import predict_files
        from ..inference.run import Run
        run = Run(args.workdir, args.step, overrides=overrides)
        if run.takes_sounds and args.invert:
            raise UserError(f'--invert is for images; {args.workdir} was trained on sounds')
        if run.feature not in ('image', 'text', 'centre') and not run.takes_sounds:
            module, name, reads = _OTHERS.get(run.feature, _OF_NUMBERS)
            more = {'column': args.column} if run.feature == 'tokens' and args.column else {}
            for option in ('heat_map', 'invert', 'tta', 'tile', 'boxes', 'column'):
                if option not in more and getattr(args, option):
                    raise UserError(f'--{option} is for images; {run.config.experiment} in {args.workdir} {reads}')
            predict = getattr(importlib.import_module(f'..inference.{module}', __package__), name)
            return predict(run, args.inputs, top_k=args.top_k, output=args.output, form=args.format, **more)
        if args.heat_map:
            from ..inference.heat_map_files import predict_heat_maps
            renamed = {'class': 'class_name', 'scale': 'scales'}
            return predict_heat_maps(run, args.inputs, invert=args.invert, output=args.output, form=args.format,
                                     **{renamed.get(name, name): value for name, value in given.items()})
        if listed:
            return predict_list(run, Path(listed[0]), column=args.column, top_k=args.top_k, invert=args.invert,
                                output=args.output, form=args.format, tta=args.tta or 'none')
        return predict_files(run, args.inputs, top_k=args.top_k, invert=args.invert, output=args.output,
                             form=args.format, tta=args.tta or 'none', tile=args.tile or 0, boxes=args.boxes)
