"""What a command is, and the options that several of them share."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path


class Command:
    """One command of launch.py.

    Attributes:
      help: one line for `launch.py --help`.
      takes_overrides: whether --config.field=value means something to it.
      prints_data: whether what it prints is for a pipe; its log lines then go to stderr.
    """
    help = ''
    takes_overrides = False
    prints_data = False

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Adds its options."""

    def run(self, args: argparse.Namespace, overrides: Sequence[str]) -> int:
        """Runs it with parsed options and 'field=value' overrides; returns the exit code."""
        raise NotImplementedError


def path(text: str) -> Path:
    """Returns a path from the command line; the shell leaves the ~ of '--workdir=~/runs' alone."""
    return Path(os.path.expanduser(text))


def add_config(parser: argparse.ArgumentParser) -> None:
    """Adds --config."""
    parser.add_argument('--config', required=True, metavar='FILE[:VARIANT]', help='an experiment file')


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Adds --workdir and --step of a trained run."""
    parser.add_argument('--workdir', type=path, required=True, help='folder of a run')
    parser.add_argument('--step', default='best', help="'best', 'last' or a number")


def add_processes(parser: argparse.ArgumentParser) -> None:
    """Adds what says which devices and processes take part."""
    parser.add_argument('--cpu_devices', type=int, default=0, help='pretend to have so many CPU devices')
    parser.add_argument('--coordinator', default='', help='host:port of process 0, outside Slurm and Open MPI')
    parser.add_argument('--num_processes', type=int, default=0)
    parser.add_argument('--process_id', type=int, default=-1)


def add_tta(parser: argparse.ArgumentParser) -> None:
    """Adds --tta."""
    parser.add_argument('--tta', choices=('none', 'flip', 'ten_crop'), help='look at several views of each image')


def prepare(args: argparse.Namespace, *, training: bool = False) -> None:
    """Prepares the process as `add_processes` said. Call it before anything imports JAX."""
    from ..training import process
    process.prepare(cpu_devices=args.cpu_devices, coordinator=args.coordinator, num_processes=args.num_processes,
                    process_id=args.process_id, training=training)
