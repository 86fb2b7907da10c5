"""docs/how-to/segment-your-own-images.md, done as it is written: its experiment file, its folders, its commands."""

import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

HOW_TO = Path(__file__).resolve().parent.parent / 'docs' / 'how-to' / 'segment-your-own-images.md'
SMALL = ('--config.total=20 steps', '--config.image.size=(32, 32)', '--config.model.features=(4, 8)',
         '--config.optimizer.learning_rate=0.02', '--config.evaluation.every=10 steps',
         '--config.checkpoint.every=10 steps', '--config.tensorboard=False')


def commands() -> list[list[str]]:
    """What follows launch.py in each command of the how-to."""
    return [shlex.split(line)[2:] for line in HOW_TO.read_text().splitlines()
            if line.startswith('.venv/bin/python launch.py')]


def draw_disc(size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on a dark ground with noise, and its mask of 0 and 1."""
    row, column = rng.uniform(0.3 * size, 0.7 * size, 2)
    rows, columns = np.mgrid[:size, :size]
    mask = (np.hypot(rows - row, columns - column) < rng.uniform(0.15, 0.3) * size).astype(np.uint8)
    return np.clip(40 + 150 * mask + rng.normal(0, 10, mask.shape), 0, 255).astype(np.uint8), mask


@pytest.fixture(scope='module')
def workplace(tmp_path_factory) -> Path:
    """A folder with what the how-to speaks of: experiments/outlines.py, outlines/ and new/."""
    root, rng = tmp_path_factory.mktemp('own_masks'), np.random.default_rng(0)
    for folder in ('experiments', 'outlines/images', 'outlines/masks', 'new'):
        (root / folder).mkdir(parents=True)
    experiment, = re.findall(r'```python\n(.*?)```', HOW_TO.read_text(), re.DOTALL)
    (root / 'experiments' / 'outlines.py').write_text(experiment)
    (root / 'outlines' / 'classes.txt').write_text('background\ndisc\n')
    for i in range(24):
        image, mask = draw_disc(64, rng)
        Image.fromarray(image).save(root / 'outlines' / 'images' / f'{i:02}.jpg')
        Image.fromarray(mask).save(root / 'outlines' / 'masks' / f'{i:02}.png')
    image, mask = draw_disc(90, rng)
    Image.fromarray(image).save(root / 'new' / 'one.png')
    np.save(root / 'truth.npy', mask)
    return root


@pytest.mark.thorough
def test_the_how_to_works_as_written(workplace, call_launch, monkeypatch):
    monkeypatch.chdir(workplace)
    train, predict = commands()
    result = call_launch(*train, *SMALL)
    assert result.code == 0, result.err
    run = workplace / 'runs' / 'outlines'
    assert {path.name for path in run.iterdir()} >= {
        'result.json', 'learning_curves.png', 'test_examples.json', 'validation_examples.json',
        'test_worst_examples.png'}
    outcome = json.loads((run / 'result.json').read_text())
    assert outcome['step'] == 20 and outcome['best']['metric'] == 'validation/dice'
    assert outcome['metrics']['test/dice'] > 0.5  # it has learnt something

    cases = json.loads((run / 'test_examples.json').read_text())['examples']
    found = cases + json.loads((run / 'validation_examples.json').read_text())['examples']
    files = [case['file'] for case in found]
    assert len(cases) == 4 and len(set(files)) == 7  # 24 images: 85 % and 70 % are 20 and 17
    assert all(re.fullmatch(r'images/\d\d\.jpg', file) for file in files)
    dice = [case['dice']['disc'] for case in cases]
    assert np.mean(dice) == pytest.approx(outcome['metrics']['test/dice'], abs=1e-4)

    result = call_launch(*predict)
    assert result.code == 0, result.err
    segmented = workplace / 'segmented'
    assert {path.name for path in segmented.iterdir()} == {
        'one-mask.png', 'one-overlay.png', 'one-disc-contour.txt', 'predictions.json'}
    mask, truth = np.asarray(Image.open(segmented / 'one-mask.png')), np.load(workplace / 'truth.npy')
    assert mask.shape == (90, 90) and set(np.unique(mask)) == {0, 1}
    assert 2 * (mask & truth).sum() / (mask.sum() + truth.sum()) > 0.5
    rows, columns = np.nonzero(truth)
    contour = np.loadtxt(segmented / 'one-disc-contour.txt')
    assert contour.ndim == 2 and np.abs(contour.mean(0) - (columns.mean(), rows.mean())).max() < 15
