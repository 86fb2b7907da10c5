"""The command line: mistakes in it become one line that names the nearest command or option."""

import argparse
import re

from ..common.errors import UserError, nearest
from . import COMMANDS


def parse(argv: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the parsed arguments and the --config.field=value overrides."""
    parser = _Parser(prog='launch.py', description='Train, evaluate and use the experiments of this repository.',
                     epilog='Any field of a config can be overridden: --config.optimizer.learning_rate=0.03. '
                            "'launch.py list' shows the experiments, 'launch.py show --config X' all fields of one.")
    parsers = parser.add_subparsers(dest='command', required=True, metavar='{' + ','.join(COMMANDS) + '}')
    for name, command in COMMANDS.items():
        command.add_arguments(parsers.add_parser(name, help=command.help))
    rest, overrides = _split_overrides(argv)
    _check_words(rest, parsers.choices)
    try:
        args = parser.parse_args(rest)
    except UserError as error:
        raise UserError(f'{error}{_hint_of_numbers(rest)}') from None
    if overrides and not COMMANDS[args.command].takes_overrides:
        raise UserError(f'{args.command} takes no --config.{overrides[0]}')
    return args, overrides


def _split_overrides(argv: list[str]) -> tuple[list[str], list[str]]:
    rest, overrides = [], []
    words = iter(argv)
    for word in words:
        if not word.startswith('--config.'):
            rest.append(word)
            continue
        if '=' not in word:
            value = next(words, '--')
            if value.startswith('--'):
                raise UserError(f'{word} needs a value')
            word = f'{word}={value}'
        overrides.append(word.removeprefix('--config.'))
    return rest, overrides


def _hint_of_numbers(words: list[str]) -> str:
    """Returns what to say of examples such as -0.5,1, in which argparse sees an option."""
    if words[0] != 'predict' or '--' in words:
        return ''
    found = [word for before, word in zip(words, words[1:])
             if re.fullmatch(r'-[\d.]+[\d.,e+-]*', word) and not before.startswith('--')]
    return f' ({found[0]} is taken for an option: put -- before the numbers)' if found else ''


def _check_words(words: list[str], parsers: dict[str, '_Parser']) -> None:
    """Raises UserError that names the nearest command or option, which argparse does not."""
    if words[0].startswith('-'):
        return
    if words[0] not in parsers:
        raise UserError(f'no command {words[0]!r}; {nearest(words[0], list(COMMANDS))}')
    known = parsers[words[0]].options
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
