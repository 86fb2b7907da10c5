#!/usr/bin/env python3
"""The one entry point, from training to finding similar images. `python launch.py --help` tells the rest."""

import importlib.util
import logging
import os
import sys
import traceback
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
from practicum.common.console import quiet_libraries
from practicum.common.errors import UserError

PACKAGES = ('absl', 'clu', 'dm_pix', 'flax', 'jax', 'ml_collections', 'numpy', 'optax', 'orbax', 'PIL', 'safetensors')


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 2 for a user's mistake, 128 + signal when asked to stop."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0].startswith('-') and argv[0] not in ('-h', '--help'):
        argv.insert(0, 'train')
    prints_data = argv[0] in COMMANDS and COMMANDS[argv[0]].prints_data
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=sys.stderr if prints_data else sys.stdout,
                        force=True)
    quiet_libraries()
    try:
        args, overrides = parse(argv)
        return COMMANDS[args.command].run(args, overrides)
    except UserError as error:
        print(f'error: {error}', file=sys.stderr, flush=True)
        return leave_together(2)
    except KeyboardInterrupt:
        print('interrupted', file=sys.stderr, flush=True)
        return leave_together(130)
    except BrokenPipeError:  # `launch.py list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name in PACKAGES:  # others are bugs
            print(f"error: {error.name} is not installed: run 'make venv' once and start with "
                  '.venv/bin/python launch.py ...', file=sys.stderr, flush=True)
            return 2
        if not several_processes():
            raise
        if is_lost_peer(error):
            os._exit(1)  # without goodbye: the last words say what happened
        traceback.print_exc()
        return leave_together(1)


def several_processes() -> bool:
    """Whether this process is one of several of a run."""
    jax = sys.modules.get('jax')
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def is_lost_peer(error: Exception) -> bool:
    """Whether an exception is what a collective raises when another process has gone."""
    text = str(error)
    return any(mark in text for mark in ('Gloo', 'NCCL', 'Connection closed by peer', 'coordination service',
                                         'DEADLINE_EXCEEDED', 'UNAVAILABLE'))


def leave_together(code: int) -> int:
    """Returns the exit code; one of several processes ends at once instead, since waiting for the others would hang."""
    if several_processes():
        from practicum.training import process
        sys.stdout.flush()
        process.dismiss_last_words()
        os._exit(code)
    return code


if __name__ == '__main__':
    sys.exit(main())
