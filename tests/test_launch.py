"""The command line as a user meets it: train, evaluate, predict, show, list, and what they leave behind."""

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import launch
from practicum.input_pipeline import sources
from practicum.training import config as config_lib
from tests.tiny import tiny_config

TINY = str(Path(__file__).with_name('tiny.py'))


def test_train_writes_everything_about_a_run(run_launch, tmp_path):
    """In a real process, on two devices, with TensorBoard."""
    workdir = tmp_path / 'run'
    result = run_launch('--config', TINY, '--workdir', workdir, '--cpu_devices', 2, '--config.tensorboard', 'True',
                        '--config.batch_size=32', '--config.figures', 'True')
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    assert '2 x cpu' in result.stdout and 'test/accuracy' in result.stdout and str(workdir) in result.stdout
    assert {path.name for path in workdir.iterdir()} >= {
        'checkpoints', 'config.json', 'environment.json', 'metrics.jsonl', 'result.json',
        'learning_curves.png', 'test_confusion_matrix.png', 'validation_confusion_matrix.png'}
    assert {path.name for path in (workdir / 'checkpoints').iterdir()} >= {'8', '12'}

    config = json.loads((workdir / 'config.json').read_text())
    assert config['experiment'] == 'tiny' and config['batch_size'] == 32 and config['optimizer']['name'] == 'adam'
    start, = json.loads((workdir / 'environment.json').read_text())
    assert start['devices'] == ['cpu', 'cpu'] and start['packages']['jax'] and '--cpu_devices 2' in start['command']

    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    assert [row['step'] for row in rows if 'train/loss' in row] == [3, 6, 9, 12]
    assert [row['step'] for row in rows if 'validation/accuracy' in row] == [4, 8, 12]
    assert [row['step'] for row in rows if 'test/accuracy' in row] == [12]
    assert {'train/learning_rate', 'train/gradient_norm', 'train/accuracy', 'timings'} <= set(rows[0])

    outcome = json.loads((workdir / 'result.json').read_text())
    assert set(outcome) == {'experiment', 'seed', 'step', 'wall_seconds', 'examples_per_second', 'metrics', 'best',
                            'total_steps', 'parameters', 'dataset'}
    assert outcome['experiment'] == 'tiny' and outcome['seed'] == 0 and outcome['step'] == 12
    assert set(outcome['metrics']) == {f'{s}/{m}' for s in ('validation', 'test')
                                       for m in ('loss', 'accuracy', 'top5_accuracy', 'auc', 'calibration_error')}
    assert outcome['metrics']['test/loss'] == rows[-1]['test/loss']
    assert outcome['best']['metric'] == 'validation/accuracy' and outcome['best']['step'] in (4, 8, 12)
    assert outcome['wall_seconds'] > 0 and outcome['examples_per_second'] > 0

    events = b''.join(path.read_bytes() for path in workdir.glob('events.out.tfevents.*'))
    for tag in (b'train/loss', b'validation/accuracy', b'test/accuracy', b'test/confusion_matrix',
                b'timing/steps_per_second', b'optimizer.learning_rate'):
        assert tag in events
    for picture in workdir.glob('*.png'):
        assert min(Image.open(picture).size) > 200


def test_evaluate_gives_the_numbers_of_training(call_launch, trained_run, tmp_path):
    trained_run = shutil.copytree(trained_run, tmp_path / 'run')
    result = call_launch('evaluate', '--workdir', trained_run, '--step', 'last')
    assert result.code == 0
    found = json.loads((trained_run / 'evaluation.json').read_text())
    assert found['step'] == 48
    assert found['metrics'] == pytest.approx(json.loads((trained_run / 'result.json').read_text())['metrics'], rel=1e-6)
    assert re.search(r'test/accuracy +\d+\.\d\d %', result.out)


def test_evaluate_does_not_depend_on_the_batch_size(call_launch, trained_run, tmp_path):
    trained_run = shutil.copytree(trained_run, tmp_path / 'run')
    assert call_launch('evaluate', '--workdir', trained_run, '--step', 'last', '--sets', 'test',
                       '--config.evaluation.batch_size=7').code == 0
    found = json.loads((trained_run / 'evaluation.json').read_text())['metrics']
    expected = json.loads((trained_run / 'result.json').read_text())['metrics']
    auc = expected.pop('test/auc')
    assert found.pop('test/auc') == pytest.approx(auc, abs=1e-5)  # half a pair: rounding may make two scores equal
    assert found == pytest.approx({name: expected[name] for name in expected if name.startswith('test/')}, rel=1e-6)


def test_evaluate_prints_where_it_may_not_write(call_launch, trained_run, tmp_path):
    """Somebody else's run can be scored too."""
    shutil.copytree(trained_run / 'checkpoints', tmp_path / 'checkpoints')
    (tmp_path / 'evaluation.json').mkdir()  # what root, too, cannot replace by a file
    result = call_launch('evaluate', '--workdir', tmp_path)
    assert result.code == 0, result.err
    assert 'test/accuracy' in result.out and 'evaluation.json' in result.out


def test_predict_prints_classes_with_percent(call_launch, trained_run, digit_files):
    result = call_launch('predict', '--workdir', trained_run, digit_files)
    assert result.code == 0 and re.fullmatch(r'step 48 \(best\) of .*/run\n', result.err), result.err
    lines = result.out.splitlines()
    assert len(lines) == 8
    for i, line in enumerate(lines):
        assert re.fullmatch(rf'{re.escape(str(digit_files))}/{i}\.png  (\d : \d+\.\d\d %(   |$)){{3}}', line), line


def test_predict_gives_the_same_in_every_form(call_launch, trained_run, digit_files, tmp_path):
    args = ('predict', '--workdir', trained_run, digit_files, '--top_k', 10)
    from_json = json.loads(call_launch(*args, '--format', 'json').out)
    from_csv = list(csv.DictReader(io.StringIO(call_launch(*args, '--format', 'csv').out)))
    assert len(from_json) == len(from_csv) == 8
    for a, b in zip(from_json, from_csv):
        assert a['file'] == b['file']
        assert a['classes'] == [b[f'class_{i}'] for i in range(1, 11)] and sorted(a['classes']) == list('0123456789')
        assert a['percent'] == pytest.approx([float(b[f'percent_{i}']) for i in range(1, 11)], abs=0.0051)
        assert sum(a['percent']) == pytest.approx(100, abs=1e-3) and a['percent'] == sorted(a['percent'], reverse=True)
    result = call_launch(*args, '--output', tmp_path / 'new' / 'out.json')
    assert json.loads((tmp_path / 'new' / 'out.json').read_text()) == from_json
    assert str(tmp_path / 'new' / 'out.json') in result.out + result.err and result.code == 0
    assert call_launch(*args, '--output', tmp_path / 'out.csv').code == 0
    assert list(csv.DictReader((tmp_path / 'out.csv').open())) == from_csv


def test_predict_agrees_with_evaluate(call_launch, trained_run, tmp_path):
    """The images a user hands over take the same way to the model as those of the test set."""
    config = tiny_config()
    source = sources.open_split(config.data, config.image, 'test')
    examples = source.read(np.arange(len(source)))
    for i, picture in enumerate(examples['image']):
        Image.fromarray(picture[..., 0]).save(tmp_path / f'{i:04}.png')
    result = call_launch('predict', '--workdir', trained_run, tmp_path, '--step', 'last', '--format', 'json')
    rows = json.loads(result.out)
    correct = np.mean([row['classes'][0] == str(label) for row, label in zip(rows, examples['label'])])
    accuracy = json.loads((trained_run / 'result.json').read_text())['metrics']['test/accuracy']
    assert correct == pytest.approx(accuracy, abs=1e-6)
    assert accuracy > 0.3  # it has learnt something, so agreement is no accident


def test_invert_predicts_the_negative(call_launch, trained_run, digit_files, tmp_path):
    for path in digit_files.iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(tmp_path / path.name)
    plain = json.loads(call_launch('predict', '--workdir', trained_run, digit_files, '--format', 'json').out)
    dark = json.loads(call_launch('predict', '--workdir', trained_run, tmp_path, '--invert', '--format', 'json').out)
    for a, b in zip(plain, dark):
        assert a['classes'] == b['classes'] and a['percent'] == pytest.approx(b['percent'], abs=1e-3)


def test_any_image_is_predicted(call_launch, trained_run, digit_files, tmp_path):
    """16 bits, palette, CMYK, transparency, animation, any size and shape; equal content gives equal predictions."""
    digit = np.asarray(Image.open(digit_files / '0.png'))
    grey = Image.fromarray(digit)
    Image.fromarray(digit.astype(np.uint16) * 257).save(tmp_path / '16bit.png')
    palette = Image.fromarray(digit)
    palette.putpalette([i for i in range(256) for _ in range(3)])
    palette.save(tmp_path / 'palette.png')
    grey.convert('RGBA').save(tmp_path / 'alpha.png')
    grey.save(tmp_path / 'frames.gif', save_all=True, append_images=[Image.fromarray(255 - digit)])
    grey.convert('CMYK').save(tmp_path / 'cmyk.tif')
    same = ['16bit.png', 'palette.png', 'alpha.png', 'frames.gif', 'cmyk.tif']
    grey.resize((200, 31)).save(tmp_path / 'wide.jpg')
    grey.resize((1, 1)).save(tmp_path / 'dot.bmp')
    grey.convert('RGB').resize((640, 480)).save(tmp_path / 'large.webp')
    args = ('predict', '--workdir', trained_run, '--format', 'json', '--top_k', 1)
    result = call_launch(*args, tmp_path)
    assert result.code == 0, result.err
    rows = {Path(row['file']).name: row for row in json.loads(result.out)}
    assert len(rows) == 8
    expected, = json.loads(call_launch(*args, digit_files / '0.png').out)
    for name in same:
        assert rows[name]['classes'] == expected['classes']
        assert rows[name]['percent'] == pytest.approx(expected['percent'], abs=1.0), name


def test_predict_needs_the_checkpoint_alone(run_launch, trained_run, digit_files, tmp_path):
    """In another folder, without data set, without caches, with another number of devices."""
    result = run_launch('predict', '--workdir', trained_run, digit_files, '--format', 'json', '--cpu_devices', 1, env={
        'TFDS_DATA_DIR': str(tmp_path / 'nowhere'), 'PRACTICUM_CACHE': str(tmp_path / 'cache'), 'HOME': str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)) == 8
    assert not (tmp_path / 'nowhere').exists()


def test_resuming_with_another_config_says_what_changed(call_launch, tmp_path):
    args = ('--config', TINY, '--workdir', tmp_path, '--config.total=4 steps')
    first = call_launch(*args)
    assert first.code == 0 and 'differs' not in first.out
    result = call_launch(*args, '--config.total=8 steps', '--config.optimizer.learning_rate=0.5')
    assert result.code == 0
    for text in ('resuming at step 4', "total: '4 steps' -> '8 steps'", 'optimizer.learning_rate: 0.001 -> 0.5'):
        assert text in result.out
    assert json.loads((tmp_path / 'config.json').read_text())['total'] == '8 steps'
    assert json.loads((tmp_path / 'result.json').read_text())['step'] == 8
    assert len(json.loads((tmp_path / 'environment.json').read_text())) == 2


def test_a_finished_run_started_again_shows_its_result_and_changes_nothing(call_launch, tmp_path):
    args = ('--config', TINY, '--workdir', tmp_path, '--config.total=4 steps')
    assert call_launch(*args).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    again = call_launch(*args)
    assert again.code == 0 and 'test/accuracy' in again.out and 'finished' in again.out and 'differs' not in again.out
    other = call_launch(*args, '--config.seed=1')  # whose result this is not
    assert other.code == 0 and 'seed: 0 -> 1' in other.out
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


def test_show_prints_every_field_and_trains_nothing(call_launch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call_launch('show', '--config', 'digits_lenet', '--config.optimizer.learning_rate=0.03')
    assert result.code == 0 and result.err == ''
    for line in ('optimizer.learning_rate = 0.03', "model.name = 'lenet'", 'seed = 0', 'data.data_dir = None'):
        assert line in result.out.splitlines()
    assert not list(tmp_path.iterdir())


def test_what_show_prints_can_be_given_as_overrides(call_launch):
    shown = call_launch('show', '--config', TINY).out
    overrides = [f"--config.{line.replace(' = ', '=', 1)}" for line in shown.splitlines()
                 if not line.startswith('experiment = ')]
    assert call_launch('show', '--config', TINY, *overrides).out == shown


def test_list_names_every_experiment_and_variant(call_launch):
    result = call_launch('list')
    assert result.code == 0 and result.err == ''
    for path in config_lib.experiment_files():
        assert f'experiments/{path.name}' in result.out
        for variant in config_lib.variants(path):
            assert f'  :{variant}\n' in result.out


def test_list_can_be_cut_short(run_launch):
    """`launch.py list | head -1` ends without a complaint."""
    done = subprocess.run(f'{sys.executable} {launch.__file__} list | head -1', shell=True, capture_output=True,
                          text=True, timeout=60)
    assert done.stdout.startswith('experiments/') and done.stderr == ''


@pytest.mark.parametrize('words', [('list',), ('show', '--config', TINY),
                                   ('--config', TINY, '--workdir', '{tmp}/run', '--config.total=4 steps')])
def test_a_full_standard_output_is_one_line(words, run_launch, tmp_path):
    with open('/dev/full', 'w') as full:
        done = subprocess.run([sys.executable, launch.__file__, *(word.format(tmp=tmp_path) for word in words)],
                              stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == 'error: standard output cannot be written to: No space left on device\n'


def test_training_whose_reader_has_gone_ends_with_one_line(tmp_path):
    command = f'{sys.executable} {launch.__file__} --config {TINY} --workdir {tmp_path}/run | true'
    done = subprocess.run(['bash', '-o', 'pipefail', '-c', command], capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stderr == 'error: standard output cannot be written to: Broken pipe\n'


def test_help_needs_no_device(call_launch):
    with pytest.raises(SystemExit) as leaving:
        call_launch('--help')
    assert leaving.value.code == 0


def test_an_experiment_goes_by_its_bare_name(call_launch, tmp_path, monkeypatch):
    """And its run goes to runs/<experiment> of the current folder."""
    monkeypatch.chdir(tmp_path)
    result = call_launch('--config', 'line', '--config.batch_size=8', '--config.tensorboard=False')
    assert result.code == 0
    assert (tmp_path / 'runs' / 'line' / 'result.json').is_file()
    outcome = json.loads((tmp_path / 'runs' / 'line' / 'result.json').read_text())
    assert outcome['experiment'] == 'line' and outcome['metrics']['train_points/loss'] < 1e-3
