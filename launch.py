#!/usr/bin/env python3
"""The one entry point: train, evaluate, predict, show, list. `python launch.py --help` tells the rest."""

import argparse
import logging
import os
import sys
import traceback
from pathlib import Path

from training import process
from training.errors import UserError

COMMANDS = ('train', 'evaluate', 'predict', 'show', 'list')
PACKAGES = ('absl', 'clu', 'dm_pix', 'flax', 'jax', 'ml_collections', 'numpy', 'optax', 'orbax', 'PIL')  # all needed


def main(argv: list[str] | None = None) -> int:
    """Runs one command and returns the exit code: 0, 2 for a user's mistake, 128 + signal when asked to stop."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0].startswith('-') and argv[0] not in ('-h', '--help'):
        argv.insert(0, 'train')
    stream = sys.stderr if argv[0] == 'predict' else sys.stdout  # predictions are data, for a pipe
    logging.basicConfig(level=logging.INFO, format='%(message)s', stream=stream, force=True)
    for name in ('absl', 'jax', 'orbax', 'tensorflow', 'matplotlib', 'etils'):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # what fails in them reaches us as an exception
    try:
        return run(argv)
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


def run(argv: list[str]) -> int:
    """Parses the command line and calls the command."""
    args, overrides = parse(argv)
    if args.command == 'list':
        from training import commands
        return commands.list_experiments()
    if args.command in ('train', 'show'):
        from training import config as config_lib
        config = config_lib.load(args.config, overrides)
        if args.command == 'show':
            from training import commands
            return commands.show(config)
    process.prepare(cpu_devices=args.cpu_devices, coordinator=args.coordinator, num_processes=args.num_processes,
                    process_id=args.process_id)
    if args.command == 'train':
        if args.process_id > 0 or process.rank() > 0:
            logging.getLogger().setLevel(logging.WARNING)  # one console is enough
        from training.loop import train
        return train(config, args.workdir or Path('runs') / config.experiment.replace(':', '-'))
    from training import commands
    if args.command == 'evaluate':
        return commands.evaluate(args.workdir, step=args.step, names=args.sets, overrides=overrides)
    from training.prediction import predict_files
    return predict_files(args.workdir, args.inputs, step=args.step, top_k=args.top_k,
                         invert=args.invert, output=args.output, form=args.format)


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed arguments and the --config.field=value overrides."""
    parser = _Parser(prog='launch.py', description='Train, evaluate and use the experiments of this repository.',
                     epilog='Any field of a config can be overridden: --config.optimizer.learning_rate=0.03. '
                            "'launch.py list' shows the experiments, 'launch.py show --config X' all fields of one.")
    commands = parser.add_subparsers(dest='command', required=True, metavar='{train,evaluate,predict,show,list}')
    train = commands.add_parser('train', help='train or resume (the default command)')
    train.add_argument('--workdir', type=Path, help='folder of the run; runs/<experiment> by default')
    show = commands.add_parser('show', help='print the resolved config')
    for command in (train, show):
        command.add_argument('--config', required=True, metavar='FILE[:VARIANT]', help='an experiment file')
    evaluate = commands.add_parser('evaluate', help='score a checkpoint')
    evaluate.add_argument('--sets', nargs='+', default=(), help='which evaluation sets; all of the config by default')
    predict = commands.add_parser('predict', help='classify or segment pictures')
    predict.add_argument('inputs', nargs='+', help='pictures or folders of pictures')
    predict.add_argument('--top_k', type=int, default=3, help='classes per picture')
    predict.add_argument('--invert', action='store_true', help='predict the negative: for dark digits on light paper')
    predict.add_argument('--output', type=Path, help='write to this .csv, .json or .txt file, or masks to this folder')
    predict.add_argument('--format', choices=('table', 'csv', 'json'), default='table')
    for command in (evaluate, predict):
        command.add_argument('--workdir', type=Path, required=True, help='folder of a run')
        command.add_argument('--step', default='best', help="'best', 'last' or a number")
    for command in (train, evaluate, predict):
        command.add_argument('--cpu_devices', type=int, default=0, help='pretend to have so many CPU devices')
        command.add_argument('--coordinator', default='', help='host:port of process 0, outside Slurm and Open MPI')
        command.add_argument('--num_processes', type=int, default=0)
        command.add_argument('--process_id', type=int, default=-1)
    commands.add_parser('list', help='list the experiments with their measured results')

    overrides, rest = [], []
    words = iter(argv)
    for word in words:
        if word.startswith('--config.'):
            if '=' not in word:
                value = next(words, '--')
                if value.startswith('--'):
                    raise UserError(f'{word} needs a value')
                word = f'{word}={value}'
            overrides.append(word.removeprefix('--config.'))
        else:
            rest.append(word)
    check_words(rest, commands.choices)
    args = parser.parse_args(rest)
    if overrides and args.command not in ('train', 'show', 'evaluate'):
        raise UserError(f'{args.command} takes no --config.{overrides[0]}')
    return args, overrides


def check_words(words: list[str], commands: dict[str, '_Parser']) -> None:
    """Raises UserError that names the nearest command or option, which argparse does not."""
    if words[0].startswith('-'):
        return
    from training.config import nearest
    if words[0] not in commands:
        raise UserError(f'no command {words[0]!r}; {nearest(words[0], COMMANDS)}')
    known = commands[words[0]].options
    for word in words[1:]:
        name = word.partition('=')[0]
        if name.startswith('--') and not any(option.startswith(name) for option in known):
            raise UserError(f'{words[0]} has no option {name}; {nearest(name, known)}')


class _Parser(argparse.ArgumentParser):
    """argparse with one-line errors; remembers its options."""

    def __init__(self, **settings):
        self.options: list[str] = []
        super().__init__(**settings)

    def add_argument(self, *names, **settings):
        self.options += [name for name in names if name.startswith('--')]
        return super().add_argument(*names, **settings)

    def error(self, message: str):
        raise UserError(f'{message}; see {self.prog} --help')


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
        sys.stdout.flush()
        process.goodbye()
        os._exit(code)
    return code


if __name__ == '__main__':
    sys.exit(main())
