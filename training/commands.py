"""The commands of launch.py other than training: evaluate, predict, show, list."""

import ast
import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from training import config as config_lib
from training.errors import UserError

_DECIDED = tuple(f'text.{field}' for field in ('tokens', 'lowercase', 'min_count', 'max_size', 'vocabulary_from'))
_SHOWN_ROWS = 40  # tables up to this length are printed, all are written


def evaluate(workdir: Path, *, step: str = 'best', names: Sequence[str] = (), overrides: Sequence[str] = ()) -> int:
    """Scores a run's checkpoint on evaluation sets, prints the metrics and writes <workdir>/evaluation*.

    Args:
      workdir: of the run.
      step: 'best', 'last' or a number.
      names: which of config.evaluation.sets; all final and periodic ones by default.
      overrides: changes to the run's config, such as 'data.data_dir=/data'.
    """
    import flax

    import tasks
    from training import checkpoints, components, evaluation, report
    from training.parallel import Parallel
    from training.snapshot import write_json
    checkpoint = checkpoints.read(workdir, step)
    config = config_lib.from_dict(checkpoint.meta['config'])
    config.parallel.devices = 0  # those of this machine, not of the one it was trained on
    config.cached_features.endpoint = ''  # once through the whole model costs no more
    for override in overrides:
        if override.partition('=')[0] in _DECIDED:
            raise UserError(f'--config.{override}: the vocabulary is in the checkpoint')
        config_lib.apply_override(config, override)
    parallel = Parallel(config.parallel.mode, config.parallel.devices)
    meta = checkpoint.meta['data']
    task = tasks.build(config.task, meta)
    names = tuple(names) or tuple(dict.fromkeys((*config.evaluation.final, *config.evaluation.periodic)))
    if not names:
        raise UserError(f'{config.experiment} has no evaluation sets')
    evaluations = components.Evaluations(config, parallel, task, meta, names)
    variables = parallel.replicate(checkpoint.variables)
    metrics: dict[str, float] = {}
    results: dict[str, evaluation.Evaluation] = {}
    for name in names:
        try:
            results[name] = evaluation.evaluate(evaluations, name, variables)
        except flax.errors.FlaxError as error:
            if not overrides:
                raise
            reason = str(error).partition(' (https:')[0]
            raise UserError(f'the checkpoint does not fit the overrides: {reason}') from error
        metrics |= results[name].scalars(f'{name}/')
    if parallel.is_writer:
        logging.info('%s, step %s', config.experiment, f'{checkpoint.step:,}')
        for name, value in metrics.items():
            logging.info('  %-28s %s', name, report.format_metric(name, value))
        for name, found in results.items():
            for key, rows in task.tables(found.metrics).items():
                if len(rows) <= _SHOWN_ROWS:
                    logging.info('\n%s %s\n%s', name, key.replace('_', ' '), report.format_table(rows))
        try:
            for name, found in results.items():
                report.write_evaluation(workdir, f'evaluation_{name}', checkpoint.step, task, found)
            write_json(workdir / 'evaluation.json', {'experiment': config.experiment, 'step': checkpoint.step,
                                                     'overrides': list(overrides), 'metrics': metrics})
        except OSError as error:  # somebody else's run may be scored too
            logging.warning('evaluation.json is not written to %s: %s', workdir, error.strerror)
    return 0


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


def list_experiments() -> int:
    """Prints every experiment and variant with its one-line description and what was measured."""
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
