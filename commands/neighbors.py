"""`launch.py neighbors`: the images of an index that are most similar to others, or words near others."""

from pathlib import Path

from ..common.errors import UserError
from . import command


class Neighbors(command.Command):
    """See the top of this file."""
    help = 'find the images of an index that are most similar to others, or the words nearest to others'
    prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('inputs', nargs='*', help='images or folders of images')
        parser.add_argument('--words', nargs='+', metavar='WORD',
                            help="of a run that has vectors of words, --workdir: words, or sums 'king - man + woman'")
        parser.add_argument('--index', type=command.path, help='what embed wrote; index.npz by default')
        parser.add_argument('--top_k', type=int, default=5, help='neighbours of each image or word')
        parser.add_argument('--output', type=command.path,
                            help='contact sheet; neighbors.png by default where a table is '
                                                        'printed, none with --format csv or json')
        parser.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
        parser.add_argument('--workdir', type=command.path,
                            help='with --words: folder of the run; else where the run of the index is now, if it has '
                                 'moved')

    def run(self, args, overrides):
        """See `Command`."""
        if bool(args.words) == bool(args.inputs):
            raise UserError('neighbors takes images or --words, and not both; see launch.py neighbors --help')
        if args.words and not args.workdir:
            raise UserError('--words needs --workdir, the folder of a run that has learned vectors of words')
        if args.words and args.index:
            raise UserError('--index is of images: leave it out, words are those of --workdir')
        if args.words and args.output:
            raise UserError('--output is a contact sheet of images: leave it out, words are printed')
        from ..training import process
        process.prepare()
        if args.words:
            from ..inference.run import Run
            from ..inference.words import print_nearest
            return print_nearest(Run(args.workdir), args.words, top_k=args.top_k, form=args.format)
        from ..inference import retrieval
        output = args.output or (Path('neighbors.png') if args.format == 'table' else None)
        return retrieval.neighbors(args.inputs, args.index or Path('index.npz'), top_k=args.top_k, output=output,
                                   form=args.format, workdir=args.workdir)
