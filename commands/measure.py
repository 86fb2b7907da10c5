"""`launch.py measure`: what exported models cost where they are to run, by batch size."""

import logging
import shutil
import sys

from ..common.errors import UserError
from . import command


class Measure(command.Command):
    """See the top of this file."""
    help = 'measure exported models: latency, throughput, processor time, accuracy'
    takes_overrides = True
    prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('models', nargs='*', type=command.path, metavar='MODEL', help='.zip or .onnx')
        parser.add_argument('--batches', nargs='+', type=int, default=(1, 2, 4, 8, 16, 32), metavar='N')
        parser.add_argument('--seconds', type=float, default=2.0, help='for each model and batch size; 2 by default')
        parser.add_argument('--labelled', type=command.path, metavar='FOLDER',
                            help='with a folder of images for each class: measures accuracy')
        parser.add_argument('--output', type=command.path, metavar='FILE',
                            help='.csv, .md, .png, or a folder for all three; a .json is written beside')
        parser.add_argument('--workdir', type=command.path, help='a run that is measured, too: what JAX makes of it')
        parser.add_argument('--step', default='best', help="of the run: 'best', 'last' or a number")
        parser.add_argument('--precision', nargs='+', default=(), metavar='NAME',
                            help="of the run, one or both of float32 and bfloat16; its own by default")

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import process
        process.prepare()
        from ..deployment import measure, measurements
        from ..reporting import tables
        if args.step != 'best' and not args.workdir:
            raise UserError(f'--step {args.step} is of a --workdir: a file has been made of one step')
        if args.output is not None:
            measurements.check_output(args.output)
        about = measurements.surroundings(batches=args.batches, seconds=args.seconds,
                                          labelled=str(args.labelled) if args.labelled else None)
        rows = measure.measure(args.models, args.batches, workdir=args.workdir, step=args.step,
                               precisions=args.precision, overrides=overrides, seconds=args.seconds,
                               labelled=args.labelled)
        width = (shutil.get_terminal_size() if sys.stdout.isatty() else shutil.get_terminal_size((10**6, 0))).columns
        shown, dropped = tables.fit(measurements.columns(rows), width)
        print(tables.aligned(shown))
        if dropped:
            logging.info('no room for %s: a wider terminal, or --output', ', '.join(dropped))
        logging.info('%s', measurements.describe(about))
        if args.output is not None:
            for file in measurements.write(rows, about, args.output):
                logging.info('%s', file)
        return 0
