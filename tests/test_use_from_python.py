"""docs/how-to/use-from-python.md: the code of it runs as written."""

import re

import numpy as np
import pytest
from PIL import Image

import practicum
from tests.conftest import ROOT

HOW_TO = (ROOT / 'docs' / 'how-to' / 'use-from-python.md').read_text()
BLOCKS = re.findall(r'```python\n(.*?)```', HOW_TO, re.DOTALL)


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Trains the suite's tiny run in place of digits_lenet, in an empty folder."""
    load = practicum.config

    def config(experiment, overrides=()):
        assert load(experiment, overrides).experiment == 'digits_lenet'  # exists, and takes these fields
        return load(ROOT / 'tests' / 'tiny.py', [*overrides, 'total=4 steps'])
    monkeypatch.setattr(practicum, 'config', config)
    monkeypatch.chdir(tmp_path)


def test_training_and_predicting(quick):
    digit = np.zeros((20, 20), np.uint8)
    Image.fromarray(digit).save('digit.png')
    names = {'array': digit}
    for block in BLOCKS[:2]:
        exec(block, names)
    assert names['logits'].shape == (1, 10) and len(names['rows'][0]['classes']) == 3
    assert names['test'].metrics['confusion'].shape == (10, 10)
    assert practicum.load('runs/digits_seed1').config.optimizer.learning_rate == 3e-4


def test_the_attributes_are_there(trained_run):
    run = practicum.load(trained_run)
    table = HOW_TO.partition('## What a run holds')[2].partition('##')[0]
    cells = [line.split('|')[1] for line in table.splitlines() if line.startswith('| `')]
    names = re.findall(r'`\.(\w+)', ''.join(cells))
    assert len(names) >= 9 and all(hasattr(run, name) for name in names)
    assert BLOCKS[2].count('.generate(') == 1 and hasattr(run, 'generate')
