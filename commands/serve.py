"""`launch.py serve`: exported models behind HTTP, with a page to try them on."""

import math

from ..common.errors import UserError
from . import command


class Serve(command.Command):
    """See the top of this file."""
    help = 'serve exported models over HTTP, with a page to try them on'

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('models', nargs='+', type=command.path, metavar='MODEL.zip',
                            help='exported models, folders of versions of one, or folders of such folders')
        parser.add_argument('--host', default='127.0.0.1', help='address to listen on; 127.0.0.1 by default')
        parser.add_argument('--port', type=int, default=8000, help='8000 by default; 0 for a free one')
        parser.add_argument('--max_batch', type=int, default=32, metavar='N',
                            help='most examples computed together; 32 by default')
        parser.add_argument('--queue', type=int, default=128, metavar='N',
                            help='requests that may wait for a model; more are told to try again')
        parser.add_argument('--timeout', type=float, default=30, metavar='SECONDS', help='for an answer')
        parser.add_argument('--max_body', type=int, default=20_000_000, metavar='BYTES', help='of a request')
        parser.add_argument('--max_pixels', type=int, default=25_000_000, metavar='N', help='of an image')
        parser.add_argument('--versions', type=int, default=1, metavar='N',
                            help='of each model to serve, the newest; 1 by default')
        parser.add_argument('--look_every', type=float, default=2, metavar='SECONDS',
                            help='for new and changed files; 0: on SIGHUP alone')
        parser.add_argument('--token_file', type=command.path, metavar='FILE',
                            help='with the token that requests must bear; else $PRACTICUM_TOKEN, else none')
        parser.add_argument('--log', choices=('text', 'json'), default='text',
                            help="'json' has a line for every request, too")

    def run(self, args, overrides):
        """See `Command`."""
        for name in ('max_batch', 'queue', 'timeout', 'max_body', 'max_pixels', 'versions'):
            if not 0 < getattr(args, name) < math.inf:
                raise UserError(f'--{name} {getattr(args, name)}: it must be a number above 0')
        if not 0 <= args.look_every < math.inf:
            raise UserError(f'--look_every {args.look_every}: it must be a number, and not negative')
        from ..deployment import serving
        from ..training import process
        token = serving.read_token(args.token_file)
        process.prepare(join=False)
        from ..deployment.server import Limits
        limits = Limits(args.max_batch, args.queue, args.timeout, args.max_body, args.max_pixels)
        return serving.serve(args.models, host=args.host, port=args.port, limits=limits, versions=args.versions,
                             token=token, look_every=args.look_every, log=args.log)
