"""Options of `predict`: several views of each image, and another task on the same outputs."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.inference.run import Run


def percents(result):
    """[images, classes] in the order of the classes."""
    assert result.code == 0, result.err
    rows = [dict(zip(row['classes'], row['percent'])) for row in json.loads(result.out)]
    return np.array([[row[name] for name in sorted(row)] for row in rows])


def test_flipping_gives_the_mean_over_a_image_and_its_mirror_image(call_launch, trained_run, digit_files, tmp_path):
    for path in digit_files.iterdir():
        Image.fromarray(np.asarray(Image.open(path))[:, ::-1]).save(tmp_path / path.name)
    args = ('--workdir', trained_run, '--top_k', 10, '--format', 'json')
    plain, mirrored = (percents(call_launch('predict', folder, *args)) for folder in (digit_files, tmp_path))
    both = percents(call_launch('predict', digit_files, *args, '--tta', 'flip'))
    np.testing.assert_allclose(both, (plain + mirrored) / 2, atol=1e-3)
    assert np.abs(both - plain).max() > 1  # mirrored digits are others
    np.testing.assert_array_equal(percents(call_launch('predict', digit_files, *args, '--tta', 'none')), plain)


def test_crops_are_taken_from_larger_images(trained_run):
    run = Run(trained_run)
    assert run.network('ten_crop').size == (9, 9) and run.network().size == (8, 8)
    image = np.full((1, 9, 9, 1), 77, np.uint8)  # of which all crops are the same
    row, = run.predict(image, top_k=10, tta='ten_crop')
    plain, = run.predict(image[:, :8, :8], top_k=10)
    assert row['classes'] == plain['classes'] and row['percent'] == pytest.approx(plain['percent'], abs=1e-3)


def test_views_share_the_room_of_a_batch(trained_run):
    run = Run(trained_run)
    sizes = {tta: run.network(tta).batch_size for tta in ('none', 'ten_crop')}
    assert sizes['none'] == 64 and 1 <= sizes['ten_crop'] <= 64


def test_predicting_with_decisions_on_top_of_a_trained_run(call_launch, trained_run, digit_files):
    decisions = "(('low', ('[0-4]',)), ('high', ('[5-9]',)))"
    args = ('predict', digit_files, '--workdir', trained_run, '--top_k', 10, '--format', 'json')
    result = call_launch(*args, f'--config.task.decisions={decisions}')
    assert result.code == 0, result.err
    low = percents(result)[:, :5].sum(axis=1)
    assert [row['decision'] for row in json.loads(result.out)] == ['low' if p > 50 else 'high' for p in low]
    assert 'decision' not in json.loads(call_launch(*args).out)[0]


@pytest.mark.parametrize('args, parts', [
    (('--config.task.decision=1',), ('config.task.decision', 'did you mean decisions?')),
    (('--config.task.name=regression',), ('task.name', 'config.task')),
    (('--config.image.size=(9, 9)',), ('image.size', 'config.task')),
    (('--tta', 'flop'), ('--tta', 'flip')),
])
def test_what_the_checkpoint_decides_cannot_be_overridden(args, parts, call_launch, trained_run, digit_files):
    result = call_launch('predict', digit_files, '--workdir', trained_run, *args)
    line, = result.err.splitlines()
    assert result.code == 2 and line.startswith('error: ') and all(part in line for part in parts), line


def test_unknown_views_are_refused(trained_run):
    with pytest.raises(UserError, match='did you mean flip'):
        Run(trained_run).network('flipp')


def test_evaluate_takes_views_by_a_short_name(call_launch, trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / 'run')  # the other tests' run stays as it is
    found = []
    for option in ('--tta=flip', '--config.evaluation.tta=flip', '--tta=none'):
        assert call_launch('evaluate', '--workdir', run, '--sets', 'test', option).code == 0
        found.append(json.loads((run / 'evaluation.json').read_text()))
    assert found[0] == found[1] and found[0]['metrics'] != found[2]['metrics']
