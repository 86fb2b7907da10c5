"""`launch.py list`: the experiments with their measured results."""

import ast
import re
from pathlib import Path
from typing import Any

from . import command


class ListExperiments(command.Command):
    """See the top of this file."""
    help = 'list the experiments with their measured results'

    def run(self, args, overrides):
        """See `Command`."""
        return list_experiments()


def list_experiments() -> int:
    """Prints every experiment and variant with its one-line description and what was measured."""
    from ..training import config as config_lib
    for path in config_lib.experiment_files():
        try:
            header = read_header(path)
        except (OSError, SyntaxError, ValueError) as error:  # one broken file does not hide the others
            print(f'{path.relative_to(config_lib.ROOT)}\n    cannot be read: {error}')
            continue
        print(f"{path.relative_to(config_lib.ROOT)}\n    {header['description']}")
        for line in header['measured']:
            print(f'    {line}')
        for name, text in header['variants'].items():
            print(f'  :{name}\n      {text}')
    return 0


def read_header(path: Path) -> dict[str, Any]:
    """Reads an experiment's docstrings without running it.

    Returns:
      'description': first line; 'measured': the lines under 'Measured'; 'variants': name -> first line.
    """
    from ..training import config as config_lib
    tree = ast.parse(path.read_bytes())
    text = ast.get_docstring(tree) or ''
    measured = re.search(r'^Measured[^\n]*\n((?:[ ]+\S.*\n?)*)', text, re.MULTILINE)
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    return {
        'description': text.split('\n')[0],
        'measured': [line.strip() for line in measured.group(1).splitlines()] if measured else [],
        'variants': {name: (ast.get_docstring(functions[name]) or '').split('\n')[0]
                     for name in config_lib.variants(path)},
    }
