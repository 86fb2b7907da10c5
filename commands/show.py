"""`launch.py show`: prints the resolved config."""

from typing import Any

from . import command


class Show(command.Command):
    """See the top of this file."""
    help = 'print the resolved config'
    takes_overrides = True

    def add_arguments(self, parser):
        """See `Command`."""
        command.add_config(parser)

    def run(self, args, overrides):
        """See `Command`."""
        from ..training import config as config_lib
        return show(config_lib.load(args.config, overrides))


def show(config: Any) -> int:
    """Prints the resolved config as overrides that would give it again."""
    def lines(section, prefix: str):
        for key in section:
            value = section.get(key)
            if hasattr(value, 'items'):
                yield from lines(value, f'{prefix}{key}.')
            else:
                yield f'{prefix}{key} = {value!r}'
    print('\n'.join(lines(config, '')))
    return 0
