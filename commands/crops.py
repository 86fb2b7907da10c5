"""`launch.py crops`: windows of images with boxes, in folders from which a classifier learns."""

from . import command


class Crops(command.Command):
    """See the top of this file."""
    help = 'cut objects and background out of images with boxes, for a classifier'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        command.add_config(parser)
        parser.add_argument('--output', type=command.path, required=True, help='new folder: <set>/<class>/*.jpg')
        parser.add_argument('--side', type=int, default=256, help='of a crop, in pixels')
        parser.add_argument('--per_object', type=int, default=8, help='windows of each object, at most')
        parser.add_argument('--background', type=int, default=16, help='windows of each image without object, at most')
        parser.add_argument('--smallest', type=float, default=0.3,
                            help="side of a window, as a share of the image's shorter side")
        parser.add_argument('--seed', type=int, default=0)

    def run(self, args, overrides):
        """See `Command`."""
        from ..input_pipeline.box_crops import write_crops
        from ..training import components
        from ..training import config as config_lib
        config = config_lib.load(args.config, overrides)
        components.check_fields(config)
        sets = (*config.evaluation.periodic, *config.evaluation.final)
        splits = {'train': config.data.train, **{name: config.evaluation.sets[name].split for name in sets}}
        counts = write_crops(config.data, config.image, splits, args.output, side=args.side,
                             per_object=args.per_object, background=args.background, smallest=args.smallest,
                             seed=args.seed)
        for name, classes in counts.items():
            print(f'{name}: ' + ', '.join(f'{count:,} {label}' for label, count in classes.items()))
        print(f'--config.data.source=folder --config.data.name={args.output}')
        return 0
