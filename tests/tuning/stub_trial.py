"""Stands for a trial's process where a test is about the worker: the same files and exit codes, in a tenth of a second.

    python stub_trial.py PID train --config FILE --workdir DIR --config.optimizer.learning_rate=0.01 ...

What a step gives depends on the learning rate, the seed and the number of the step alone, as in a real training.
"""

import ctypes
import fcntl
import hashlib
import json
import math
import os
import signal
import sys
import time
from pathlib import Path

EVALUATIONS = 9
SECONDS = float(os.environ.get('STUB_SECONDS', '0.01'))  # from one evaluation to the next
CHECK_SECONDS = float(os.environ.get('STUB_CHECK_SECONDS', '0'))
SAVE_SECONDS = float(os.environ.get('STUB_SAVE_SECONDS', '0'))
SCORE_SECONDS = float(os.environ.get('STUB_SCORE_SECONDS', '0'))


def main() -> int:
    worker, command, *words = sys.argv[1:]
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)
    if os.getppid() != int(worker):
        return 143
    if command == 'check':
        time.sleep(CHECK_SECONDS)
        return 0
    workdir = Path(words[words.index('--workdir') + 1])
    if command == 'evaluate':
        time.sleep(SCORE_SECONDS)
        return evaluate(workdir, words[words.index('--sets') + 1:])
    overrides = dict(word.removeprefix('--config.').split('=', 1) for word in words if word.startswith('--config.'))
    with (workdir / '.lock').open('w') as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f'error: another process is training in {workdir}: wait', file=sys.stderr)
            return 2
        return train(workdir, float(overrides['optimizer.learning_rate']), overrides.get('seed', '0'))


def metrics(learning_rate: float, seed: str, number: int, sets: tuple[str, ...] = ('validation',)) -> dict[str, float]:
    """Returns what an evaluation gives."""
    noise = int(hashlib.sha256(f'{learning_rate!r}/{seed}/{number}'.encode()).hexdigest()[:6], 16) / 0xffffff
    value = 0.9 - 0.1 * (math.log10(learning_rate) + 2) ** 2 - 0.3 / number + 0.02 * noise
    return {f'{name}/accuracy': value - 0.01 * (name != 'validation') for name in sets}


def train(workdir: Path, learning_rate: float, seed: str) -> int:
    result, saved, rows = workdir / 'result.json', workdir / 'saved', workdir / 'metrics.jsonl'
    if result.exists():
        return 0
    stop = []

    def asked(*_) -> None:
        stop.append(1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as a training that closes its files
    signal.signal(signal.SIGTERM, asked)
    step = int(saved.read_text()) if saved.exists() else 0
    with (workdir / 'starts').open('a') as file:
        file.write(f'{step}\n')
    kept = rows.read_text().splitlines(True)[:step] if rows.exists() else []
    (workdir / 'new').write_text(''.join(kept))
    (workdir / 'new').rename(rows)
    with rows.open('a') as file:
        while step < EVALUATIONS:
            if stop:
                save(saved, step)
                time.sleep(SAVE_SECONDS)
                return 143
            time.sleep(SECONDS)
            step += 1
            file.write(json.dumps({'step': step, **metrics(learning_rate, seed, step)}) + '\n')
            file.flush()
            if step % 3 == 0:
                save(saved, step)
    found = {'metrics': metrics(learning_rate, seed, EVALUATIONS), 'learning_rate': learning_rate, 'seed': seed}
    (workdir / 'new').write_text(json.dumps(found))
    (workdir / 'new').rename(result)
    return 0


def save(saved: Path, step: int) -> None:
    new = saved.with_name('saving')
    new.write_text(str(step))
    new.rename(saved)


def evaluate(workdir: Path, sets: list[str]) -> int:
    found = json.loads((workdir / 'result.json').read_text())
    with (workdir / 'scored').open('a') as file:
        file.write(f'{sets}\n')
    (workdir / 'evaluation.json').write_text(json.dumps(
        {'metrics': metrics(found['learning_rate'], found['seed'], EVALUATIONS, tuple(sets))}))
    return 0


if __name__ == '__main__':
    sys.exit(main())
