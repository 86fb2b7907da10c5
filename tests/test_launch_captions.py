"""Captioning as users launch it: train, evaluate, predict, report."""

import json
from pathlib import Path

import numpy as np
import pytest

import launch
from practicum.training import checkpoints
from tests.conftest import ROOT, _own_logging
from tests.tiny_captions import write_folder

CONFIG = ROOT / 'tests' / 'tiny_captions.py'


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp('captions') / 'colours')


@pytest.fixture(scope='module')
def run(folder, tmp_path_factory) -> Path:
    """The workdir of a finished run. Tests only read it."""
    workdir = tmp_path_factory.mktemp('run') / 'captioner'
    with _own_logging():
        assert launch.main(['--config', str(CONFIG), f'--config.data.name={folder}', '--workdir', str(workdir),
                            '--config.total=120 steps', '--config.evaluation.every=40 steps']) == 0
    return workdir


def test_a_captioner_learns_to_name_colours(run):
    result = json.loads((run / 'result.json').read_text())
    assert result['metrics']['test/exact'] == 1.0
    assert result['metrics']['test/bleu4'] > 0.99 and result['metrics']['test/loss'] < 1.0
    assert result['metrics']['test/perplexity'] == pytest.approx(np.exp(result['metrics']['test/loss']))


def test_a_run_leaves_captions_beside_their_references(run):
    cases = json.loads((run / 'test_examples.json').read_text())
    assert len(cases['examples']) == 4
    for case in cases['examples']:
        number = int(Path(case['file']).stem)
        assert ('red', 'green', 'blue')[number % 3] in case['caption'].split()
        assert len(case['captions']) == 2
    assert (run / 'test_captions.png').is_file() and (run / 'test_worst_captions.png').is_file()
    rows = [json.loads(line) for line in (run / 'samples.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows if row['set'] == 'validation'] == [40, 80, 120]
    assert all(sample['text'] and len(sample['references']) == 2 for row in rows[-1:] for sample in row['samples'])


def test_the_vocabulary_travels_in_the_checkpoint(run):
    entries = checkpoints.read(run, 'last').meta['data']['vocabulary']['entries']
    assert set(entries[4:]) == {'a', 'picture', 'that', 'is', 'it', 'all', 'of', 'red', 'green', 'blue'}


def test_evaluate_repeats_what_training_said(run, call_launch):
    said = json.loads((run / 'result.json').read_text())['metrics']
    result = call_launch('evaluate', '--workdir', run, '--step', 'last', '--sets', 'test')
    assert result.code == 0, result.err
    found = json.loads((run / 'evaluation.json').read_text())['metrics']
    assert found == pytest.approx({name: said[name] for name in found}, rel=1e-4, abs=1e-5)


def test_predict_writes_a_caption_for_each_image(run, folder, call_launch, tmp_path):
    output = tmp_path / 'captions.csv'
    red, green, blue = (folder / 'images' / f'{i}.png' for i in range(3))
    result = call_launch('predict', '--workdir', run, '--step', 'last', red, green, '--output', output)
    assert result.code == 0, result.err
    lines = output.read_text().splitlines()
    assert lines[0] == 'file,caption'
    assert ' red' in lines[1] and ' green' in lines[2]
    greedy = call_launch('predict', '--workdir', run, '--step', 'last', blue, '--config.task.beam_size=1')
    assert greedy.code == 0 and ' blue' in greedy.out


def test_the_report_shows_captions(run, call_launch, tmp_path):
    result = call_launch('report', '--workdir', run, '--output', tmp_path / 'report.html')
    assert result.code == 0, result.err
    page = (tmp_path / 'report.html').read_text()
    assert 'that is' in page and page.count('data:image/') >= 2


@pytest.mark.thorough
def test_cached_features_are_the_same_as_looking_again(folder, tmp_path, call_launch):
    """A frozen body without dropout: heads trained on cached features end in the same parameters."""
    found = {}
    for endpoint in ('', 'features'):
        workdir = tmp_path / (endpoint or 'whole')
        result = call_launch('--config', CONFIG, f'--config.data.name={folder}', '--workdir', workdir,
                             "--config.optimizer.freeze=('body/.*',)", '--config.model.body.batch_norm=False',
                             f'--config.cached_features.endpoint={endpoint}')
        assert result.code == 0, result.err
        found[endpoint] = checkpoints.read(workdir, 'last').variables['params']
        metrics = json.loads((workdir / 'result.json').read_text())['metrics']
        assert np.isfinite(metrics['test/cider'])
    for name in ('logits', 'image'):
        np.testing.assert_allclose(found[''][name]['kernel'], found['features'][name]['kernel'],
                                   rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize('overrides, words', [
    (['--config.model.endpoint=blok1'], ['blok1', 'block1']),
    (['--config.task.name=classification'], ['class']),
    (['--config.model.body.name=small_cn'], ['config.model.body.name', 'small_cnn']),
    (['--config.task.beam_size=0'], ['config.task.beam_size']),
    (['--config.text.max_length=0'], ['config.text.max_length']),
    (['--config.text.max_size=4'], ['config.text.max_size']),
    (['--config.text.tokens=word'], ['config.text.tokens', 'words']),
    (['--config.text.vocabulary_from=nowhere'], ['nowhere']),
    (['--config.evaluation.tta=flip'], ['none']),
])
def test_mistakes_are_one_line(folder, tmp_path, call_launch, overrides, words):
    result = call_launch('--config', CONFIG, f'--config.data.name={folder}', '--workdir', tmp_path / 'run', *overrides)
    assert result.code == 2
    assert len(result.err.splitlines()) == 1 and result.err.startswith('error: ')
    assert all(word in result.err for word in words), result.err


def test_a_run_on_text_is_not_asked_about_images(run, call_launch):
    result = call_launch('generate', '--workdir', run, '--prompt', 'it is')
    assert result.code == 2 and 'launch.py predict' in result.err and len(result.err.splitlines()) == 1
