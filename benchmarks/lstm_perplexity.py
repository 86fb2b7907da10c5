"""Perplexity of PyTorch's LSTM language model, trained as one of our experiments is trained.

    python benchmarks/lstm_perplexity.py --baseline_python PYTHON --config brown_lstm:small --config.data.name=brown
    python launch.py --config brown_lstm:small --config.data.name=brown

PYTHON is an interpreter of an environment with benchmarks/requirements.txt. The first line builds the experiment's
vocabulary, batches, learning rates and evaluation streams with our code and trains the same network of nn.LSTM layers
on exactly those (baselines/lstm_perplexity_torch.py); initial weights and dropout masks alone are drawn otherwise.
Prints JSON lines, one per evaluation, in which seconds of training leave evaluations out; how far it is goes to
standard error. The second line is ours; its result.json and metrics.jsonl have the same numbers.
tests/models/test_lstm_torch_parity.py shows that both train the same network in the same way.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`
from practicum.training import process

process.prepare()

import numpy as np

from benchmarks import surroundings  # noqa: E402
from practicum.common.errors import UserError
from practicum.training import components, evaluation
from practicum.training import config as config_lib

PARTS = ('tokens', 'targets', 'begin')  # of a batch


def write_plan(config: Any, folder: Path) -> dict[str, Any]:
    """Writes everything that PyTorch needs to train as the experiment does; see baselines/lstm_perplexity_torch.py.

    Returns:
      What plan.json holds, and how many steps an epoch has.

    Raises:
      UserError: the experiment is none that the baseline can train.
    """
    _check(config)
    training = components.build_training(config)
    names = tuple(dict.fromkeys((*config.evaluation.periodic, *config.evaluation.final)))
    evaluations = evaluation.Evaluations(config, training.parallel, training.task, training.info, names)
    epoch = training.batches.examples // config.batch_size
    again = training.batches(epoch)
    if any((values != again[name]).any() for name, values in training.batches(0).items()):
        raise AssertionError('the second epoch does not begin like the first')
    _write_batches(folder, 'train', training.batches, epoch)
    for name in names:
        _, batches = evaluations.batches(name)
        _write_batches(folder, name, batches, len(batches))
    rates = [float(training.schedule(step)) for step in range(training.total)]
    np.save(folder / 'learning_rates.npy', rates)
    model = training.model
    plan = {
        'model': {field: getattr(model, field) for field in ('vocabulary_size', 'hidden', 'layers', 'embedding', 'tied',
                                                             'dropout', 'init_scale')},
        'clip_norm': config.optimizer.clip_norm, 'seed': config.seed, 'evaluate_every': training.evaluate_every,
        'periodic': list(config.evaluation.periodic),
        'final': [name for name in config.evaluation.final if name not in config.evaluation.periodic]}
    (folder / 'plan.json').write_text(json.dumps(plan))
    return plan | {'steps per epoch': epoch}


def _write_batches(folder: Path, name: str, batches: Any, count: int) -> None:
    found = [batches(number) for number in range(count)]
    for part in PARTS:
        np.save(folder / f'{name}_{part}.npy', np.stack([batch[part] for batch in found]))


def _check(config: Any) -> None:
    """Raises UserError for whatever the baseline would do otherwise."""
    optimizer = config.optimizer
    if config.task.name != 'language_model' or config.model.name != 'lstm':
        raise UserError(f'--config {config.experiment}: the baseline trains language models of LSTM layers alone')
    if config.model.get('inputs', 'embedding') != 'embedding':
        raise UserError("config.model.inputs: the baseline takes 'embedding' alone")
    if (optimizer.name, optimizer.momentum, optimizer.weight_decay) != ('sgd', 0.0, 0.0):
        raise UserError('config.optimizer: the baseline takes plain sgd alone, without momentum and weight_decay')
    if optimizer.accumulate > 1 or optimizer.freeze or optimizer.learning_rate_scales or config.ema_decay:
        raise UserError('config.optimizer: the baseline knows neither accumulate, freeze and learning_rate_scales nor '
                        'config.ema_decay')


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     allow_abbrev=False)
    parser.add_argument('--config', default='brown_lstm:small')
    parser.add_argument('--baseline_python', required=True)
    parser.add_argument('--threads', type=int, default=2, help='of PyTorch')
    args, rest = parser.parse_known_args()
    overrides = [text.removeprefix('--config.') for text in rest]
    if not all(text.startswith('--config.') for text in rest):
        parser.error(f"unknown arguments: {' '.join(rest)}")
    try:
        config = config_lib.load(args.config, overrides)
        with tempfile.TemporaryDirectory() as folder:
            plan = write_plan(config, Path(folder))
            found = surroundings.describe(args.baseline_python)
            print(json.dumps(found | {'experiment': config.experiment} | plan), flush=True)
            script = ROOT / 'benchmarks' / 'baselines' / 'lstm_perplexity_torch.py'
            done = subprocess.run([args.baseline_python, script, folder, '--threads', str(args.threads)])
    except UserError as error:
        print(f'error: {error}', file=sys.stderr)
        sys.exit(2)
    sys.exit(done.returncode)


if __name__ == '__main__':
    main()
