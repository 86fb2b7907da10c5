"""`launch.py prepare`: converts the data of an experiment to array_record, few large files with random access."""

from pathlib import Path
from typing import Any

from . import command


class Prepare(command.Command):
    """See the top of this file."""
    help = 'convert the images of a config to array_record'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        command.add_config(parser)
        parser.add_argument('--output', type=command.path, required=True, help='folder of data sets, a tfds data_dir')
        parser.add_argument('--name', required=True, help='of the new data set')
        parser.add_argument('--splits', nargs='+', default=(), help='those that the config names by default')
        parser.add_argument('--shard_mb', type=int, default=256, help='size of a file, about')

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import config as config_lib
        return prepare(config_lib.load(args.config, overrides), args.output, args.name, splits=args.splits,
                       shard_mb=args.shard_mb)


def prepare(config: Any, output: Path, name: str, *, splits: tuple[str, ...] = (), shard_mb: int = 256) -> int:
    """Converts the data of a config and says how to read them."""
    from ..input_pipeline.record_files import convert
    from ..input_pipeline.splits import whole_splits
    names = splits or whole_splits([config.data.train, *(chosen.split for chosen in config.evaluation.sets.values())])
    convert(config.data, config.image, names, output, name, shard_mb=shard_mb)
    print(f'--config.data.source=tfds --config.data.name={name} --config.data.data_dir={output}')
    return 0
