"""Folders of runs that were not trained, for comparisons of them."""

import json

from practicum.training.defaults import base
from tests.reporting.pages import make_run

DEFAULTS = json.loads(json.dumps(base().to_dict()))


def config_of(fields):
    """The default config with fields changed, {'optimizer.learning_rate': 0.1}."""
    config = json.loads(json.dumps(DEFAULTS)) | {'experiment': 'tiny'}
    for name, value in fields.items():
        *path, last = name.split('.')
        part = config
        for key in path:
            part = part[key]
        part[last] = value
    return config


def result_of(metrics, step=20, wall_seconds=65.0):
    """What is in result.json."""
    return {'experiment': 'tiny', 'seed': 0, 'step': step, 'wall_seconds': wall_seconds, 'examples_per_second': 1e3,
            'metrics': metrics, 'best': None}


def rows_of(accuracies, every=10):
    """Rows of metrics.jsonl: each evaluation, and before it a row of training steps."""
    rows = []
    for i, accuracy in enumerate(accuracies, 1):
        timings = {'steps_per_second': 5.0, 'wall_seconds': 2.0 * i}
        rows += [{'step': every * i, 'train/loss': 1 / i, 'timings': timings},
                 {'step': every * i, 'validation/accuracy': accuracy, 'validation/loss': 1 - accuracy,
                  'timings': {'wall_seconds': 2.0 * i + 1}}]
    return rows


def finished_run(folder, accuracies=(0.5, 0.9), metrics=None, **fields):
    """A run that reached its end; __ in the name of a field is a dot."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    last = {'validation/accuracy': accuracies[-1], 'validation/loss': 1 - accuracies[-1]} if accuracies else {}
    return make_run(folder, config__json=config_of({name.replace('__', '.'): value for name, value in fields.items()}),
                    metrics__jsonl=rows_of(accuracies),
                    result__json=result_of(metrics or last, step=10 * len(accuracies)))


def stopped_run(folder, accuracies=(0.5,), **fields):
    """A run without a result, in whose last row a kill came."""
    finished_run(folder, accuracies or (0.0,), **fields)
    (folder / 'result.json').unlink()
    text = ''.join(json.dumps(row) + '\n' for row in rows_of(accuracies))
    (folder / 'metrics.jsonl').write_text(f'{text}{{"step": 99, "valid')
    return folder


def trial(folder, state, params=None, error='', value=None):
    """trial.json of a sweep's trial."""
    return make_run(folder, trial__json={'number': 0, 'state': state, 'params': params or {}, 'value': value,
                                         'error': error})
