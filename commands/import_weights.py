"""`launch.py import`: turns weights trained elsewhere into a checkpoint."""


from . import command


class ImportWeights(command.Command):
    """See the top of this file."""
    help = 'turn weights trained elsewhere into a checkpoint'

    def add_arguments(self, parser):
        """See `Command`."""
        parser.add_argument('--from', dest='source', required=True,
                            help="where they are from: 'torchvision' or 'lpips'")
        parser.add_argument('--arch', required=True, help="torchvision's name of the architecture, such as resnet50")
        parser.add_argument('--weights', type=command.path, required=True,
                            help='a .safetensors, .pth or .npz; for lpips its .tar.gz')
        parser.add_argument('--output', type=command.path, required=True, help='folder for the checkpoint')
        parser.add_argument('--class_names', type=command.path,
                            help='.txt with a name per line, .json with a list or as imagenet_class_index.json')
        parser.add_argument('--mean', type=float, nargs=3, help="of ImageNet's pixels in [0, 1] by default")
        parser.add_argument('--std', type=float, nargs=3)
        parser.add_argument('--size', type=int, nargs=2, metavar=('HEIGHT', 'WIDTH'), help='224 224 by default')

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import process
        process.prepare()
        from ..conversion.importing import import_weights
        return import_weights(args.source, args.arch, args.weights, args.output, class_names=args.class_names,
                              mean=args.mean, std=args.std, size=args.size)
