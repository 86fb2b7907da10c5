"""Trains the LSTM language model of lstm_torch.py on batches that benchmarks/lstm_perplexity.py wrote, on the CPU.

  python lstm_perplexity_torch.py FOLDER --threads 2

FOLDER holds plan.json and, for the training and every evaluation set, <set>_tokens.npy and <set>_targets.npy, int32
[batches, rows, steps], and <set>_begin.npy, float32 [batches, rows]; the training set is one epoch, which is gone
through again and again, and learning_rates.npy has one number per step. Prints a JSON line per evaluation; how far it
is goes to standard error.
"""

import argparse
import json
import math
import sys
import time
from pathlib import Path

import lstm_torch
import numpy as np
import torch

PROGRESS_SECONDS = 10


class Windows:
    """The batches of one set, read from files as they are needed."""

    def __init__(self, folder, name):
        self._arrays = [np.load(folder / f'{name}_{part}.npy', mmap_mode='r')
                        for part in ('tokens', 'targets', 'begin')]

    def __len__(self):
        return len(self._arrays[0])

    def __getitem__(self, number):
        tokens, targets, begin = (torch.from_numpy(np.array(array[number])) for array in self._arrays)
        return tokens.long(), targets.long(), begin


class Progress:
    """Says every few seconds how far the training is and when it will be done."""

    def __init__(self, total):
        self._total, self._begin = total, time.monotonic()
        self._said = self._begin

    def __call__(self, step, loss):
        now = time.monotonic()
        if now - self._said < PROGRESS_SECONDS:
            return
        self._said = now
        left = (now - self._begin) / step * (self._total - step)
        print(f'step {step:,} of {self._total:,} ({100 * step / self._total:.1f} %), loss {float(loss):.3f}, '
              f'{left / 60:.1f} min to go', file=sys.stderr, flush=True)


@torch.inference_mode()
def perplexity(model, windows):
    """exp of the mean negative log-likelihood over all tokens of a set, in float64."""
    model.eval()
    total, count, carry = 0.0, 0, None
    for number in range(len(windows)):
        tokens, targets, begin = windows[number]
        loss, carry = model.loss(tokens, targets, begin, carry)
        scored = int((targets != lstm_torch.PAD).sum())
        if scored:
            total, count = total + float(loss) * scored, count + scored
    model.train()
    return math.exp(total / count)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', type=Path)
    parser.add_argument('--threads', type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    plan = json.loads((args.folder / 'plan.json').read_text())
    torch.manual_seed(plan['seed'])
    model = lstm_torch.LanguageModel(**plan['model'])
    optimizer = torch.optim.SGD(lstm_torch.learning(model), lr=1.0, fused=True)
    rates = np.load(args.folder / 'learning_rates.npy')
    train = Windows(args.folder, 'train')
    sets = {name: Windows(args.folder, name) for name in {*plan['periodic'], *plan['final']}}
    total = len(rates)
    progress = Progress(total)
    print(json.dumps({'framework': f'torch {torch.__version__}', 'threads': args.threads,
                      'parameters': sum(parameter.numel() for parameter in lstm_torch.learning(model)),
                      'steps': total}), flush=True)
    carry, losses, trained, began = None, [], 0.0, time.perf_counter()
    for step, rate in enumerate(rates.tolist(), start=1):
        optimizer.param_groups[0]['lr'] = rate
        loss, carry = model.loss(*train[(step - 1) % len(train)], carry)
        lstm_torch.descend(loss, optimizer, plan['clip_norm'])
        losses.append(float(loss))  # a tensor that is kept would pin the memory of the logits before it
        progress(step, losses[-1])
        if step % (plan['evaluate_every'] or total) and step < total:
            continue
        trained += time.perf_counter() - began
        row = {'epoch': step / len(train), 'step': step, 'learning_rate': rate,
               'train/perplexity': math.exp(sum(losses) / len(losses))}
        for name in plan['periodic'] + (plan['final'] if step == total else []):
            row[f'{name}/perplexity'] = perplexity(model, sets[name])
        row['seconds of training'] = trained
        print(json.dumps({key: round(value, 4) for key, value in row.items()}), flush=True)
        losses, began = [], time.perf_counter()


if __name__ == '__main__':
    main()
