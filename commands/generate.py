"""`launch.py generate`: goes on with a text."""

import json

from . import command


class Generate(command.Command):
    """See the top of this file."""
    help = 'go on with a text'
    prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('--prompt', nargs='+', default=[''], help='beginnings of texts; a new line by default')
        parser.add_argument('--length', type=int, default=50, help='words, or characters, to write')
        parser.add_argument('--samples', type=int, default=1, help='texts for each prompt')
        parser.add_argument('--temperature', type=float, default=1.0, help='0: always the most probable')
        parser.add_argument('--top_k', type=int, default=0, help='draw from the most probable so many; 0: all')
        parser.add_argument('--top_p', type=float, default=1.0, help='draw from the most probable with this mass')
        parser.add_argument('--beam_size', type=int, default=0,
                            help='search the most probable text instead of drawing')
        parser.add_argument('--seed', type=int, default=0)
        parser.add_argument('--format', choices=('text', 'json'), default='text')
        command.add_checkpoint(parser)

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import process
        process.prepare()
        from ..inference.run import Run
        rows = Run(args.workdir, args.step).generate(
            args.prompt, length=args.length, samples=args.samples, temperature=args.temperature, top_k=args.top_k,
            top_p=args.top_p, beam_size=args.beam_size, seed=args.seed)
        text = json.dumps(rows, indent=2) if args.format == 'json' else '\n\n'.join(row['text'] for row in rows)
        print(text.encode(errors='surrogateescape').decode(errors='backslashreplace'))  # a prompt may not be UTF-8
        return 0
