#!/usr/bin/env python3
"""The one entry point, from training to finding similar images. `python launch.py --help` tells the rest."""

import importlib.util
import sys
from pathlib import Path

if not __package__ and 'practicum' not in sys.modules:
    # Run from a checkout: the folder this file lies in is the package, whatever it is called and wherever it is.
    _folder = Path(__file__).resolve().parent
    _spec = importlib.util.spec_from_file_location('practicum', _folder / '__init__.py',
                                                   submodule_search_locations=[str(_folder)])
    sys.modules['practicum'] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(sys.modules['practicum'])

from practicum.commands import COMMANDS
from practicum.commands.arguments import parse
from practicum.common import console
from practicum.common.errors import UserError
from practicum.training import process

PACKAGES = ('absl', 'clu', 'dm_pix', 'flax', 'jax', 'ml_collections', 'numpy', 'optax', 'orbax', 'PIL', 'safetensors')


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 2 for a user's mistake, 128 + signal when asked to stop."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0].startswith('-') and argv[0] not in ('-h', '--help'):
        argv.insert(0, 'train')
    prints_data = argv[0] in COMMANDS and COMMANDS[argv[0]].prints_data
    console.log_to(sys.stderr if prints_data else sys.stdout)
    console.quiet_libraries()
    try:
        args, overrides = parse(argv)
        code = 0
        with console.checked_output():
            code = COMMANDS[args.command].run(args, overrides)
        return code
    except (UserError, console.LostOutput) as error:
        return process.leave(_fail(str(error)))
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr, flush=True)
        return process.leave(130)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:  # others are bugs
            return _fail(f"{error.name} is not installed: run 'make venv' once and start with "
                         '.venv/bin/python launch.py ...')
        code = process.leave_after(error)
        if code is None:
            raise
        return code


def _fail(line: str) -> int:
    print(f'error: {line}', file=sys.stderr, flush=True)
    return 2


if __name__ == '__main__':
    sys.exit(main())
