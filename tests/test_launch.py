"""The command line as a user meets it: what a mistake prints and leaves behind, and what a good command gives."""

import csv
import io
import json
import logging
import os
import re
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import launch
from input_pipeline import tfds_source
from tests.tiny import tiny_config
from training.checkpoints import Checkpoints

TINY = str(Path(__file__).with_name('tiny.py'))


@pytest.fixture
def call(capsys):
    """Returns call(*args) -> code, out and err of launch.py, in this process."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*args):
        capsys.readouterr()
        code = launch.main([str(arg) for arg in args])
        out, err = capsys.readouterr()
        return SimpleNamespace(code=code, out=out, err=err)
    yield run
    root.handlers[:], root.level = handlers, level  # main() made its own, on the captured stdout


@pytest.fixture(scope='module')
def trained(tmp_path_factory) -> Path:
    """The workdir of a finished run. Tests read it only."""
    workdir = tmp_path_factory.mktemp('trained') / 'run'
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    assert launch.main(['--config', TINY, '--workdir', str(workdir), '--config.total=48 steps',
                        '--config.optimizer.learning_rate=0.01']) == 0
    root.handlers[:], root.level = handlers, level
    return workdir


@pytest.fixture(scope='module')
def digits(tmp_path_factory) -> Path:
    """A folder with the first eight test digits, 0.png ... 7.png."""
    folder = tmp_path_factory.mktemp('digits')
    config = tiny_config()
    from input_pipeline import sources
    pictures = sources.open_split(config.data, config.image, 'test').read(np.arange(8))['image']
    for i, picture in enumerate(pictures):
        Image.fromarray(picture[..., 0]).save(folder / f'{i}.png')
    return folder


def assert_one_line(result, *parts: str) -> None:
    """A user's mistake is exit code 2 and one line on stderr that says what, where and what to do."""
    code = result.returncode if hasattr(result, 'returncode') else result.code
    err = result.stderr if hasattr(result, 'stderr') else result.err
    assert code == 2, err
    assert err.startswith('error: ') and err.endswith('\n') and err.count('\n') == 1, err
    assert 'Traceback' not in err
    for part in parts:
        assert part in err, err


MISTAKES = {
    # fields and types
    'unknown field': ('optimizer.lerning_rate=0.1', 'lerning_rate', 'did you mean optimizer.learning_rate?'),
    'unknown section': ('optimiser.name=sgd', 'did you mean optimizer.name?'),
    'field below a field': ('seed.value=1', 'seed.value'),
    'no value': ('seed', 'config.seed'),
    'text for a whole number': ('batch_size=many', 'config.batch_size', 'whole number', 'many'),
    'fraction for a whole number': ('batch_size=16.5', 'config.batch_size', 'whole number'),
    'text for a number': ('optimizer.learning_rate=fast', 'config.optimizer.learning_rate', 'a number'),
    'text for a switch': ('tensorboard=maybe', 'config.tensorboard', 'True or False'),
    'value for a section': ('optimizer=adam', 'config.optimizer', 'section', 'learning_rate'),
    # durations
    'duration without unit': ('total=10', "config.total = '10'", 'epochs'),
    'duration in an unknown unit': ('total=10 weeks', '10 weeks', 'epochs'),
    'duration in words': ('checkpoint.every=often', 'config.checkpoint.every', 'often'),
    'negative duration': ('total=-1 epochs', 'config.total'),
    'endless duration': ('total=1e999 epochs', 'config.total'),
    'malformed number in a duration': ('evaluation.every=1_ epochs', 'config.evaluation.every'),
    'nothing to train': ('total=0 steps', 'config.total'),
    # names
    'unknown model': ('model.name=mpl', 'config.model.name', 'did you mean mlp?'),
    'unknown field of a model': ('model.name=lenet', 'config.model.', 'lenet'),
    'unknown optimizer': ('optimizer.name=adamm', 'config.optimizer.name', 'did you mean adam'),
    'unknown schedule': ('schedule.name=cosin', 'config.schedule.name', 'did you mean cosine?'),
    'unknown task': ('task.name=clasification', 'config.task.name', 'did you mean classification?'),
    'unknown source': ('data.source=tfd', 'config.data.source', 'did you mean tfds?'),
    'unknown split': ('data.train=trian', 'digits', 'did you mean train?'),
    'unknown part of a split': ('data.train=train[', 'train[', 'train[:10%]'),
    'empty part of a split': ('data.train=train[:0%]', 'train[:0%]', 'empty'),
    'unknown evaluation set': ("evaluation.final=('tset',)", 'tset', 'validation'),
    'best metric of no set': ('checkpoint.best_metric=tset/accuracy', 'config.checkpoint.best_metric'),
    'unknown precision': ('precision=bfloat', 'config.precision', 'did you mean bfloat16?'),
    'unknown way of parallelism': ('parallel.mode=pjit', 'config.parallel.mode', 'shard_map'),
    # values
    'negative learning rate': ('optimizer.learning_rate=-0.1', 'config.optimizer.learning_rate = -0.1'),
    'batch that devices cannot share': ('batch_size=12', 'batch_size = 12', '8 device', '16'),
    'empty batch': ('batch_size=0', 'batch_size = 0'),
    'micro-batches that do not fit': ('optimizer.accumulate=3', '3 micro-batches'),
    'no micro-batches': ('optimizer.accumulate=0', 'config.optimizer.accumulate'),
    'more devices than there are': ('parallel.devices=99', 'config.parallel.devices = 99', '8 cpu device'),
    'negative seed': ('seed=-1', 'config.seed'),
    'averages that never move': ('ema_decay=1.0', 'config.ema_decay'),
    'too many channels': ('image.channels=2', 'config.image.channels'),
    'one number for a size': ('image.size=8', 'config.image.size'),
    'fractions of pixels': ('image.size=(8.5, 8)', 'config.image.size'),
    'means for other channels': ('image.mean=(0.1, 0.2)', 'config.image.mean'),
    'no spread': ('image.std=0.0', 'config.image.std'),
    'augmentation out of range': ('augment.shift=7.0', 'shift'),
    'label smoothing out of range': ('task.label_smoothing=1.0', 'config.task.label_smoothing'),
    'task that needs other data': ('task.name=regression', 'regression', 'image'),
    # patterns
    'frozen parameters that are not there': ("optimizer.freeze=('dens1.*',)", 'freeze', 'dens1', 'did you mean dense1'),
    'everything frozen': ("optimizer.freeze=('.*',)", 'freeze', 'every parameter'),
    'no regular expression': ("optimizer.freeze=('(',)", "'('", 'regular expression'),
    'a number as a pattern': ('optimizer.freeze=(1,)', 'optimizer.freeze', 'regular expression'),
    'scales that are not there': ("optimizer.learning_rate_scales=(('head.*', 0.1),)", 'learning_rate_scales', 'head'),
    'a scale without its factor': ("optimizer.learning_rate_scales=('head',)", 'learning_rate_scales', 'factor'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_wrong_override_is_one_line_and_writes_nothing(mistake, call, tmp_path):
    override, *parts = MISTAKES[mistake]
    workdir = tmp_path / 'run'
    assert_one_line(call('--config', TINY, '--workdir', workdir, f'--config.{override}'), *parts)
    assert not workdir.exists()


def test_weight_decay_on_nothing_is_one_line(call, tmp_path):
    result = call('--config', TINY, '--workdir', tmp_path / 'run', '--config.optimizer.weight_decay=0.1',
                  "--config.optimizer.weight_decay_on=('kernel',)")
    assert_one_line(result, 'weight_decay_on', "'kernel'", 'did you mean')


@pytest.mark.parametrize('args, parts', [
    (('--config', 'experiments/digits_lenett.py'), ('experiments/digits_lenett.py', 'did you mean digits_lenet?')),
    (('--config', 'digits_lenett'), ('did you mean digits_lenet?',)),
    (('--config', 'experiments/base.py'), ('get_config',)),
    (('--config', 'experiments'), ('no config file',)),
    (('--config', TINY + ':tinny_config'), ("'tinny_config'", 'did you mean tiny_config?')),
    (('train',), ('--config',)),
    ((), ('--config', '--help')),
    (('trian', '--config', TINY), ('trian',)),
    (('--config', TINY, '--wrkdir', 'x'), ('--wrkdir',)),
    (('--config', TINY, '--cpu_devices', 'two'), ('--cpu_devices',)),
    (('show', '--config', TINY, '--config.sead=1'), ('did you mean seed?',)),
    (('evaluate',), ('--workdir',)),
    (('predict', '--workdir', 'x'), ('inputs',)),
    (('predict', '--workdir', 'x', 'a.png', '--config.seed=1'), ('--config.seed',)),
])
def test_a_wrong_command_line_is_one_line(args, parts, call):
    assert_one_line(call(*args), *parts)


def test_mistakes_are_one_line_in_a_real_process(run_launch, tmp_path):
    """No library adds a line of its own, before or after."""
    result = run_launch('--config', TINY, '--workdir', tmp_path / 'run', '--config.optimizer.freeze=nothing')
    assert_one_line(result, 'nothing')
    result = run_launch('--config', TINY, '--workdir', tmp_path / 'run', '--cpu_devices', 3)
    assert_one_line(result, '3 device', '18')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('command', [('evaluate',), ('predict', 'picture.png')])
def test_a_workdir_without_checkpoints_is_one_line(command, call, tmp_path):
    assert_one_line(call(*command, '--workdir', tmp_path / 'missing'), 'missing', 'no checkpoints')
    assert not (tmp_path / 'missing').exists()
    (tmp_path / 'empty' / 'checkpoints').mkdir(parents=True)
    assert_one_line(call(*command, '--workdir', tmp_path / 'empty'), 'empty', 'no checkpoint')


def test_a_step_that_is_not_there_is_one_line(call, trained):
    assert_one_line(call('evaluate', '--workdir', trained, '--step', '7'), 'no step 7', '48')
    assert_one_line(call('evaluate', '--workdir', trained, '--step', 'newest'), 'newest', "'best'")
    assert_one_line(call('evaluate', '--workdir', trained, '--sets', 'tset'), 'tset', 'validation')


def test_unprepared_data_without_permission_to_download(call, tmp_path):
    began = time.monotonic()
    result = call('--config', 'mnist_lenet', '--workdir', tmp_path / 'run', f'--config.data.data_dir={tmp_path}/tfds')
    assert_one_line(result, 'mnist', f'{tmp_path}/tfds', '--config.data.data_dir', 'TFDS_DATA_DIR',
                    '--config.data.download=True')
    assert time.monotonic() - began < 10
    assert not list(tmp_path.iterdir())


def test_unprepared_data_without_network(call, tmp_path, monkeypatch):
    """tfds itself would retry for more than three minutes."""
    def refuse(*_, **__):
        raise OSError('Network is unreachable')
    monkeypatch.setattr(tfds_source.socket, 'create_connection', refuse)
    for name in ('https_proxy', 'HTTPS_PROXY', 'http_proxy', 'HTTP_PROXY'):
        monkeypatch.delenv(name, raising=False)
    began = time.monotonic()
    result = call('--config', 'mnist_lenet', '--workdir', tmp_path / 'run', '--config.data.download=True',
                  f'--config.data.data_dir={tmp_path}/tfds')
    assert_one_line(result, 'mnist', f'{tmp_path}/tfds', 'no network', 'tfds build mnist')
    assert time.monotonic() - began < 10
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_prepared(call, tmp_path):
    (tmp_path / 'file').touch()
    result = call('--config', TINY, '--workdir', tmp_path / 'run', f'--config.data.data_dir={tmp_path}/file/tfds')
    assert_one_line(result, 'digits', f'{tmp_path}/file/tfds')
    assert_one_line(call('--config', TINY, '--workdir', tmp_path / 'run', '--config.data.name='), 'config.data.name')


@pytest.mark.parametrize('half', [('--coordinator', 'localhost:1234'), ('--num_processes', 2), ('--process_id', 0),
                                  ('--coordinator', 'localhost:1234', '--process_id', 0)])
def test_half_a_cluster_is_one_line(half, call, tmp_path):
    result = call('--config', TINY, '--workdir', tmp_path / 'run', *half)
    assert_one_line(result, '--coordinator', '--num_processes', '--process_id')
    assert not (tmp_path / 'run').exists()


def test_a_process_beyond_the_cluster_is_one_line(call, tmp_path):
    result = call('--config', TINY, '--workdir', tmp_path / 'run', '--coordinator', 'localhost:1234',
                  '--num_processes', 2, '--process_id', 2)
    assert_one_line(result, '--process_id 2', '--num_processes 2')


def test_a_second_writer_is_one_line_and_the_first_goes_on(call, tmp_path):
    workdir = tmp_path / 'run'
    with Checkpoints(workdir, writable=True):
        before = sorted(workdir.rglob('*'))
        assert_one_line(call('--config', TINY, '--workdir', workdir), 'another process', str(workdir))
        assert sorted(workdir.rglob('*')) == before
    assert call('--config', TINY, '--workdir', workdir, '--config.total=4 steps').code == 0


def test_a_workdir_that_cannot_be_written_is_one_line(call, tmp_path):
    (tmp_path / 'file').write_text('mine')
    for workdir in (tmp_path / 'file', tmp_path / 'file' / 'run'):
        assert_one_line(call('--config', TINY, '--workdir', workdir), str(workdir))
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.parametrize('overrides, parts', [
    (('init_from.workdir=/nowhere/run',), ('/nowhere/run', 'no checkpoints')),
    (('init_from.step=newest',), ('init_from.step', 'newest')),
    (('init_from.step=7',), ('no step 7', '48')),
    (('model.hidden=(24,)',), ('dense1/bias', '(24,)', '(16,)', 'init_from.skip')),
    (("init_from.skip=('params/head.*',)",), ('init_from.skip', 'head')),
    (("init_from.rename=(('encoder', 'dense1'),)",), ('init_from.rename', 'encoder')),
    (("init_from.rename=('encoder',)",), ('init_from.rename', 'replacement')),
    (("init_from.rename=(('dense1', r'\\2'),)",), ('init_from.rename', 'dense1')),
    (("init_from.include=('(',)",), ('init_from.include', 'regular expression')),
])
def test_weights_that_cannot_be_taken_over_are_one_line(overrides, parts, call, trained, tmp_path):
    workdir = tmp_path / 'run'
    args = [f'--config.{override}' for override in (f'init_from.workdir={trained}', *overrides)]
    assert_one_line(call('--config', TINY, '--workdir', workdir, *args), *parts)
    assert_never_started(workdir)


def assert_never_started(workdir: Path) -> None:
    """At most the lock and an empty folder for checkpoints."""
    left = {str(path.relative_to(workdir)) for path in workdir.rglob('*')}
    assert left <= {'.lock', 'checkpoints'}


# --- pictures ---

def spoil(folder: Path) -> list[Path]:
    """Makes files that are no pictures; returns them."""
    whole = io.BytesIO()
    Image.fromarray(np.arange(4096, dtype=np.uint8).reshape(64, 64)).save(whole, 'PNG')
    contents = {'empty.png': b'', 'text.png': b'not a picture\n', 'cut.png': whole.getvalue()[:200],
                'zeros.jpg': bytes(1000)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_unreadable_pictures_are_named_and_the_others_predicted(call, trained, digits, tmp_path):
    bad = spoil(tmp_path)
    output = tmp_path / 'out.csv'
    result = call('predict', '--workdir', trained, bad[0], digits / '0.png', *bad[1:], digits / '1.png',
                  tmp_path / 'missing.png', '--output', output)
    assert result.code == 2
    lines = result.err.splitlines()
    assert len(lines) == 5 and all(line.startswith('error: ') for line in lines), result.err
    for path, line in zip([tmp_path / 'missing.png', *bad], sorted(lines, key=lambda line: 'missing' not in line)):
        assert str(path) in result.err
    rows = list(csv.DictReader(output.open()))
    assert [row['file'] for row in rows] == [str(digits / '0.png'), str(digits / '1.png')]


def test_errors_do_not_mix_with_predictions_on_stdout(call, trained, digits, tmp_path):
    (tmp_path / 'empty.png').touch()
    result = call('predict', '--workdir', trained, digits / '0.png', tmp_path / 'empty.png', '--format', 'json')
    assert [row['file'] for row in json.loads(result.out)] == [str(digits / '0.png')]
    assert_one_line(result, 'empty.png', '0 bytes')


def test_nothing_readable_writes_no_file(call, trained, tmp_path):
    (tmp_path / 'text.png').write_text('not a picture')
    assert_one_line(call('predict', '--workdir', trained, tmp_path / 'text.png', '--output', tmp_path / 'out.csv'),
                    'text.png')
    assert not (tmp_path / 'out.csv').exists()


@pytest.mark.parametrize('args, parts', [
    (('--top_k', '0'), ('--top_k',)),
    (('--top_k', '-1'), ('--top_k',)),
    (('--output', '/dev/null/out.csv'), ('/dev/null/out.csv',)),
    (('--step', '7'), ('no step 7',)),
    (('--format', 'xml'), ('--format', 'csv')),
])
def test_wrong_arguments_of_predict_are_one_line(args, parts, call, trained, digits):
    assert_one_line(call('predict', '--workdir', trained, digits / '0.png', *args), *parts)


def test_a_folder_without_pictures_is_one_line(call, trained, tmp_path):
    assert_one_line(call('predict', '--workdir', trained, tmp_path), str(tmp_path), 'no images')


def test_a_run_that_does_not_look_at_pictures_predicts_none(call, digits, tmp_path):
    assert call('--config', 'line', '--workdir', tmp_path, '--config.batch_size=8', '--config.total=2 steps',
                '--config.tensorboard=False').code == 0
    assert_one_line(call('predict', '--workdir', tmp_path, digits / '0.png'), 'line', 'pictures')


# --- pictures in folders as data ---

def write_classes(root: Path, *names: str, count: int = 10) -> Path:
    generator = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(generator.integers(0, 256, (12, 10), np.uint8)).save(root / name / f'{i}.png')
    return root


def folder(root: Path) -> tuple[str, ...]:
    return '--config.data.source=folder', f'--config.data.name={root}'


def test_a_folder_of_pictures_trains(call, tmp_path):
    root = tmp_path / 'animals'
    for split in ('train', 'validation', 'test'):
        write_classes(root / split, 'cat', 'dog')
    assert call('--config', TINY, *folder(root), '--workdir', tmp_path / 'run', '--config.total=4 steps').code == 0
    result = call('predict', '--workdir', tmp_path / 'run', root / 'test' / 'cat' / '0.png')
    assert result.code == 0 and ' cat : ' in result.out and ' dog : ' in result.out


@pytest.mark.parametrize('prepare, parts', [
    (lambda root: None, ('is not a folder',)),
    (lambda root: root.mkdir(), ('no class folders',)),
    (lambda root: write_classes(root, 'cat'), ('at least 2 classes', '1')),
    (lambda root: write_classes(root, 'cat', 'dog'), ('no split', 'validation')),
    (lambda root: (write_classes(root, 'cat'), (root / 'dog').mkdir()), ('dog', 'no images')),
    (lambda root: (write_classes(root, 'cat', 'dog'), (root / 'dog' / '3.png').write_bytes(b'')), ('3.png', '0 bytes')),
])
def test_a_wrong_folder_of_pictures_is_one_line_and_writes_nothing(prepare, parts, call, tmp_path):
    prepare(tmp_path / 'animals')
    result = call('--config', TINY, *folder(tmp_path / 'animals'), '--workdir', tmp_path / 'run')
    assert_one_line(result, 'animals' if 'classes' not in parts[0] else '', *parts)
    assert not (tmp_path / 'run').exists()


def test_evaluating_on_other_classes_is_one_line(call, trained, tmp_path):
    write_classes(tmp_path / 'animals' / 'test', 'cat', 'dog', count=2)
    result = call('evaluate', '--workdir', trained, '--sets', 'test', *folder(tmp_path / 'animals'))
    assert_one_line(result, "'test'", '2 classes', 'cat', 'trained on 10')


def test_evaluating_on_as_many_other_classes_names_one_that_differs(call, trained, tmp_path):
    write_classes(tmp_path / 'digits' / 'test', *(f'{i}' for i in range(9)), 'nine', count=1)
    result = call('evaluate', '--workdir', trained, '--sets', 'test', *folder(tmp_path / 'digits'))
    assert_one_line(result, "'test'", "'nine'", "'9'")


# --- good paths ---

def test_train_writes_everything_about_a_run(run_launch, tmp_path):
    """In a real process, on two devices, with TensorBoard."""
    workdir = tmp_path / 'run'
    result = run_launch('--config', TINY, '--workdir', workdir, '--cpu_devices', 2, '--config.tensorboard', 'True',
                        '--config.batch_size=32')
    assert result.returncode == 0, result.stderr
    assert result.stderr == ''
    assert '2 x cpu' in result.stdout and 'test/accuracy' in result.stdout and str(workdir) in result.stdout
    assert {path.name for path in workdir.iterdir()} >= {
        'checkpoints', 'config.json', 'environment.json', 'metrics.jsonl', 'tensorboard', 'result.json',
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
    assert set(outcome) == {'experiment', 'seed', 'step', 'wall_seconds', 'examples_per_second', 'metrics', 'best'}
    assert outcome['experiment'] == 'tiny' and outcome['seed'] == 0 and outcome['step'] == 12
    assert set(outcome['metrics']) == {f'{s}/{m}' for s in ('validation', 'test') for m in ('loss', 'accuracy')}
    assert outcome['metrics']['test/loss'] == rows[-1]['test/loss']
    assert outcome['best']['metric'] == 'validation/accuracy' and outcome['best']['step'] in (4, 8, 12)
    assert outcome['wall_seconds'] > 0 and outcome['examples_per_second'] > 0

    events = b''.join(path.read_bytes() for path in (workdir / 'tensorboard').iterdir())
    for tag in (b'train/loss', b'validation/accuracy', b'test/accuracy', b'test/confusion_matrix'):
        assert tag in events
    for picture in workdir.glob('*.png'):
        assert min(Image.open(picture).size) > 200


def test_evaluate_gives_the_numbers_of_training(call, trained):
    result = call('evaluate', '--workdir', trained, '--step', 'last')
    assert result.code == 0
    found = json.loads((trained / 'evaluation.json').read_text())
    assert found['step'] == 48
    assert found['metrics'] == pytest.approx(json.loads((trained / 'result.json').read_text())['metrics'], rel=1e-6)
    assert re.search(r'test/accuracy +\d+\.\d\d %', result.out)


def test_evaluate_does_not_depend_on_the_batch_size(call, trained):
    assert call('evaluate', '--workdir', trained, '--step', 'last', '--sets', 'test',
                '--config.evaluation.batch_size=7').code == 0
    found = json.loads((trained / 'evaluation.json').read_text())['metrics']
    expected = json.loads((trained / 'result.json').read_text())['metrics']
    assert found == pytest.approx({name: expected[name] for name in ('test/loss', 'test/accuracy')}, rel=1e-6)


def test_evaluate_prints_where_it_may_not_write(call, trained, tmp_path):
    """Somebody else's run can be scored too."""
    import shutil
    shutil.copytree(trained / 'checkpoints', tmp_path / 'checkpoints')
    (tmp_path / 'evaluation.json').mkdir()  # what root, too, cannot replace by a file
    result = call('evaluate', '--workdir', tmp_path)
    assert result.code == 0, result.err
    assert 'test/accuracy' in result.out and 'evaluation.json' in result.out


def test_predict_prints_classes_with_percent(call, trained, digits):
    result = call('predict', '--workdir', trained, digits)
    assert result.code == 0 and result.err == ''
    lines = result.out.splitlines()
    assert len(lines) == 8
    for i, line in enumerate(lines):
        assert re.fullmatch(rf'{re.escape(str(digits))}/{i}\.png  (\d : \d+\.\d\d %(   |$)){{3}}', line), line


def test_predict_gives_the_same_in_every_form(call, trained, digits, tmp_path):
    args = ('predict', '--workdir', trained, digits, '--top_k', 10)
    from_json = json.loads(call(*args, '--format', 'json').out)
    from_csv = list(csv.DictReader(io.StringIO(call(*args, '--format', 'csv').out)))
    assert len(from_json) == len(from_csv) == 8
    for a, b in zip(from_json, from_csv):
        assert a['file'] == b['file']
        assert a['classes'] == [b[f'class_{i}'] for i in range(1, 11)] and sorted(a['classes']) == list('0123456789')
        assert a['percent'] == pytest.approx([float(b[f'percent_{i}']) for i in range(1, 11)], abs=0.0051)
        assert sum(a['percent']) == pytest.approx(100, abs=1e-3) and a['percent'] == sorted(a['percent'], reverse=True)
    result = call(*args, '--output', tmp_path / 'new' / 'out.json')
    assert json.loads((tmp_path / 'new' / 'out.json').read_text()) == from_json
    assert str(tmp_path / 'new' / 'out.json') in result.out + result.err and result.code == 0
    assert call(*args, '--output', tmp_path / 'out.csv').code == 0
    assert list(csv.DictReader((tmp_path / 'out.csv').open())) == from_csv


def test_predict_agrees_with_evaluate(call, trained, tmp_path):
    """The pictures a user hands over take the same way to the model as those of the test set."""
    from input_pipeline import sources
    config = tiny_config()
    source = sources.open_split(config.data, config.image, 'test')
    examples = source.read(np.arange(len(source)))
    for i, picture in enumerate(examples['image']):
        Image.fromarray(picture[..., 0]).save(tmp_path / f'{i:04}.png')
    rows = json.loads(call('predict', '--workdir', trained, tmp_path, '--step', 'last', '--format', 'json').out)
    correct = np.mean([row['classes'][0] == str(label) for row, label in zip(rows, examples['label'])])
    accuracy = json.loads((trained / 'result.json').read_text())['metrics']['test/accuracy']
    assert correct == pytest.approx(accuracy, abs=1e-6)
    assert accuracy > 0.3  # it has learnt something, so agreement is no accident


def test_invert_predicts_the_negative(call, trained, digits, tmp_path):
    for path in digits.iterdir():
        Image.fromarray(255 - np.asarray(Image.open(path))).save(tmp_path / path.name)
    plain = json.loads(call('predict', '--workdir', trained, digits, '--format', 'json').out)
    dark = json.loads(call('predict', '--workdir', trained, tmp_path, '--invert', '--format', 'json').out)
    for a, b in zip(plain, dark):
        assert a['classes'] == b['classes'] and a['percent'] == pytest.approx(b['percent'], abs=1e-3)


def test_any_picture_is_predicted(call, trained, digits, tmp_path):
    """16 bits, palette, CMYK, transparency, animation, any size and shape; equal content gives equal predictions."""
    digit = np.asarray(Image.open(digits / '0.png'))
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
    result = call('predict', '--workdir', trained, tmp_path, '--format', 'json', '--top_k', 1)
    assert result.code == 0, result.err
    rows = {Path(row['file']).name: row for row in json.loads(result.out)}
    assert len(rows) == 8
    expected, = json.loads(call('predict', '--workdir', trained, digits / '0.png', '--format', 'json', '--top_k', 1).out)
    for name in same:
        assert rows[name]['classes'] == expected['classes']
        assert rows[name]['percent'] == pytest.approx(expected['percent'], abs=1.0), name


def test_predict_needs_the_checkpoint_alone(run_launch, trained, digits, tmp_path):
    """In another folder, without data set, without caches, with another number of devices."""
    result = run_launch('predict', '--workdir', trained, digits, '--format', 'json', '--cpu_devices', 1, env={
        'TFDS_DATA_DIR': str(tmp_path / 'nowhere'), 'PRACTICUM_CACHE': str(tmp_path / 'cache'), 'HOME': str(tmp_path)})
    assert result.returncode == 0, result.stderr
    assert len(json.loads(result.stdout)) == 8
    assert not (tmp_path / 'nowhere').exists()


def test_resuming_with_another_config_says_what_changed(call, tmp_path):
    args = ('--config', TINY, '--workdir', tmp_path, '--config.total=4 steps')
    first = call(*args)
    assert first.code == 0 and 'differs' not in first.out
    again = call(*args)
    assert again.code == 0 and 'resuming at step 4' in again.out and 'differs' not in again.out
    result = call(*args, '--config.total=8 steps', '--config.optimizer.learning_rate=0.5')
    assert result.code == 0
    for text in ('resuming at step 4', "total: '4 steps' -> '8 steps'", 'optimizer.learning_rate: 0.001 -> 0.5'):
        assert text in result.out
    assert json.loads((tmp_path / 'config.json').read_text())['total'] == '8 steps'
    assert json.loads((tmp_path / 'result.json').read_text())['step'] == 8
    assert len(json.loads((tmp_path / 'environment.json').read_text())) == 3


def test_resuming_with_another_model_is_one_line_and_keeps_the_run(call, tmp_path):
    args = ('--config', TINY, '--workdir', tmp_path, '--config.total=4 steps')
    assert call(*args).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    assert_one_line(call(*args, '--config.model.hidden=(24,)'), 'dense1/', '(24,)', '(16,)')
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


def test_show_prints_every_field_and_trains_nothing(call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = call('show', '--config', 'digits_lenet', '--config.optimizer.learning_rate=0.03')
    assert result.code == 0 and result.err == ''
    for line in ('optimizer.learning_rate = 0.03', "model.name = 'lenet'", 'seed = 0', 'data.data_dir = None'):
        assert line in result.out.splitlines()
    assert not list(tmp_path.iterdir())


def test_what_show_prints_can_be_given_as_overrides(call):
    shown = call('show', '--config', TINY).out
    overrides = [f"--config.{line.replace(' = ', '=', 1)}" for line in shown.splitlines()
                 if not line.startswith('experiment = ')]
    assert call('show', '--config', TINY, *overrides).out == shown


def test_list_names_every_experiment_and_variant(call):
    from training import config as config_lib
    result = call('list')
    assert result.code == 0 and result.err == ''
    for path in config_lib.experiment_files():
        assert f'experiments/{path.name}' in result.out
        for variant in config_lib.variants(path):
            assert f'  :{variant}\n' in result.out


def test_list_can_be_cut_short(run_launch):
    """`launch.py list | head -1` ends without a complaint."""
    import subprocess
    import sys
    done = subprocess.run(f'{sys.executable} {launch.__file__} list | head -1', shell=True, capture_output=True,
                          text=True, timeout=60)
    assert done.stdout.startswith('experiments/') and done.stderr == ''


def test_help_needs_no_device(call):
    with pytest.raises(SystemExit) as leaving:
        call('--help')
    assert leaving.value.code == 0


def test_an_experiment_goes_by_its_bare_name(call, tmp_path, monkeypatch):
    """And its run goes to runs/<experiment> of the current folder."""
    monkeypatch.chdir(tmp_path)
    result = call('--config', 'line', '--config.batch_size=8', '--config.tensorboard=False')
    assert result.code == 0
    assert (tmp_path / 'runs' / 'line' / 'result.json').is_file()
    outcome = json.loads((tmp_path / 'runs' / 'line' / 'result.json').read_text())
    assert outcome['experiment'] == 'line' and outcome['metrics']['train_points/loss'] < 1e-3
