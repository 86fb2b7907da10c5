"""`launch.py explain`: what a network sees in images, drawn."""

from . import command


class Explain(command.Command):
    """See the top of this file."""
    help = 'draw filters, feature maps, and where in an image a network sees a class'
    prints_data = True

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('inputs', nargs='*', help='images or folders of images; filters need none')
        parser.add_argument('--output', type=command.path,
                            help='a .png, an .html, or a folder for all there is; <workdir>/explanation by default')
        parser.add_argument('--endpoint', default='', help='of the network: its filters, feature maps and channels; '
                            'by default the first filters, maps of all endpoints, and what the last convolution sees; '
                            'of an autoencoder the code')
        parser.add_argument('--class', dest='class_name', metavar='NAME',
                            help='what to look for; the likeliest of each image by default')
        parser.add_argument('--patch', type=int, default=0, metavar='PIXELS',
                            help='side of the squares that are hidden; a sixth of the image by default')
        parser.add_argument('--maximize', action='store_true',
                            help='make images that channels and classes respond to most')
        parser.add_argument('--units', type=int, nargs='+', default=(), metavar='CHANNEL',
                            help='for --maximize; by default those that respond most to the images, without images the '
                            'first')
        parser.add_argument('--seed', type=int, help='of the images of --maximize; 0 by default')
        command.add_checkpoint(parser)
        command.add_processes(parser)

    def run(self, args, overrides):
        """See `Command`."""
        command.prepare(args)
        from ..inference.explanation_files import explain_files
        from ..inference.run import Run
        from ..reporting.explanation_page import write_page
        return explain_files(Run(args.workdir, args.step), args.inputs, args.output, write_page=write_page,
                             endpoint=args.endpoint, class_name=args.class_name, patch=args.patch,
                             maximize=args.maximize, units=args.units, seed=args.seed)
