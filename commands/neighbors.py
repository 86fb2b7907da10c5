"""`launch.py neighbors`: the images of an index that are most similar to others."""

from pathlib import Path

from . import command


class Neighbors(command.Command):
    """See the top of this file."""
    help = 'find the images of an index that are most similar to others'
    prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('inputs', nargs='+', help='images or folders of images')
        parser.add_argument('--index', type=command.path, default=Path('index.npz'),
                            help='what embed wrote; index.npz by default')
        parser.add_argument('--top_k', type=int, default=5, help='neighbours of each image')
        parser.add_argument('--output', type=command.path,
                            help='contact sheet; neighbors.png by default where a table is '
                                                        'printed, none with --format csv or json')
        parser.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
        parser.add_argument('--workdir', type=command.path, help='where the run of the index is now, if it has moved')

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import process
        process.prepare()
        from ..inference import retrieval
        output = args.output or (Path('neighbors.png') if args.format == 'table' else None)
        return retrieval.neighbors(args.inputs, args.index, top_k=args.top_k, output=output, form=args.format,
                                   workdir=args.workdir)
