"""`launch.py embed`: features of all images of a folder, to search in."""

from pathlib import Path

from . import command


class Embed(command.Command):
    """See the top of this file."""
    help = 'write the features of all images of a folder'

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('folder', type=command.path, help='images; folders in it are classes')
        parser.add_argument('--features', default='', metavar='ENDPOINT',
                            help="of the model; an autoencoder's code, else the last before the logits, by default")
        parser.add_argument('--pool', choices=('mean', 'max', 'flatten'), default='mean',
                            help='what becomes of the pixels of a feature map')
        parser.add_argument('--output', type=command.path, default=Path('index.npz'), help='index.npz by default')
        command.add_checkpoint(parser)

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import process
        process.prepare()
        from ..inference import retrieval
        return retrieval.embed(args.workdir, args.folder, step=args.step, endpoint=args.features, pool=args.pool,
                               output=args.output)
