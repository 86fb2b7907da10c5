"""`launch.py look`: the data of an experiment as one html page."""

import os
from pathlib import Path

from . import command


class Look(command.Command):
    """See the top of this file."""
    help = 'show the data of an experiment as one html page: classes, examples, augmented ones, what is there twice'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        command.add_config(parser)
        parser.add_argument('--set', default='train', metavar='NAME', dest='set_name',
                            help="'train' or one of config.evaluation.sets, of which examples are shown")
        parser.add_argument('--class', default='', metavar='NAME', dest='class_name',
                            help='show examples of this class alone; of captions and texts, with this word')
        parser.add_argument('--output', type=command.path, default=Path('look.html'), metavar='FILE',
                            help='look.html by default; the numbers lie beside it as .json')
        parser.add_argument('--mean_image', type=command.path, metavar='FILE',
                            help='write the mean image of the set there, too: a .png, or its numbers as .npy')

    def run(self, args, overrides):
        """See `Command`."""
        os.environ['JAX_PLATFORMS'] = 'cpu'  # a training may have the GPU
        from ..reporting.look.look import console_lines, look
        from ..training import config as config_lib
        found = look(config_lib.load(args.config, overrides), args.output, args.set_name, args.class_name,
                     args.mean_image)
        print('\n'.join(console_lines(found)))
        print(args.output)
        if args.mean_image is not None:
            print(args.mean_image)
        return 0
