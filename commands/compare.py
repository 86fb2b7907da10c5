"""`launch.py compare`: many runs in one table, the best first."""

import logging
import shutil
import sys

from ..common.errors import UserError, file_error, printable
from . import command

_MOST_NOTES = 8


class Compare(command.Command):
    """See the top of this file."""
    help = 'compare runs: what differs in their configs, how far they are, their metrics'
    prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('folders', nargs='+', metavar='FOLDER', help='of runs, of sweeps, or holding several')
        parser.add_argument('--metric', action='append', default=[], metavar='NAME[,NAME]',
                            help='what to show, such as test/accuracy; the first is sorted by')
        parser.add_argument('--mode', choices=('max', 'min'), default='', help='which is best; as the config says')
        parser.add_argument('--output', type=command.path, metavar='FILE', help='.csv, .md or .html instead')

    def run(self, args, overrides):
        """See `Command`."""
        kind = args.output.suffix.lower() if args.output else ''
        if args.output is not None and kind not in ('.csv', '.md', '.html', '.htm'):
            raise UserError(f'{printable(str(args.output))}: end --output with .csv, .md or .html')
        from ..reporting import comparison, comparison_text, seed_groups
        metrics = [name for names in args.metric for name in names.split(',') if name]
        compared = comparison.compare(args.folders, metrics, args.mode)
        for note in compared.notes[:_MOST_NOTES]:
            logging.warning('%s', printable(note))
        if len(compared.notes) > _MOST_NOTES:
            logging.warning('and %s more such lines', f'{len(compared.notes) - _MOST_NOTES:,}')
        if args.output is None:
            width = shutil.get_terminal_size((10**6, 0)).columns if not sys.stdout.isatty() else \
                shutil.get_terminal_size().columns
            print(comparison_text.console_text(compared, seed_groups.seed_groups(compared), width))
            return 0
        if kind == '.csv':
            text = comparison_text.csv_of(compared)
        elif kind == '.md':
            text = comparison_text.markdown_text(compared, seed_groups.seed_groups(compared))
        else:
            from ..reporting.comparison_page import render
            from ..tuning.importance import importances
            text = render(compared, importances)
        from ..common.files import write_text
        try:
            write_text(args.output, text)
        except OSError as error:
            raise file_error(args.output, f'cannot be written: {error.strerror}; name another --output') from error
        print(args.output)
        return 0
