"""The command line when the user errs: one line that says what, where and what to do, and nothing half-written."""

import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.input_pipeline import prepared_data
from practicum.training.checkpoints import Checkpoints

TINY = str(Path(__file__).with_name('tiny.py'))


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
    'unknown field of a model': ('model.name=line', 'config.model.', 'line has no such field'),
    'value of another type for a model': ('model.name=lenet', 'config.model.hidden', '(16,)', 'lenet takes int'),
    'words for the numbers of a model': ("model.hidden=('a',)", 'config.model.hidden', 'tuple[int, ...]'),
    'negative width of a model': ('model.hidden=(-16,)', 'config.model.hidden'),
    'dropout out of range': ('model.dropout=1.5', 'dropout is 1.5'),
    'unknown optimizer': ('optimizer.name=adamm', 'config.optimizer.name', 'did you mean adam'),
    'unknown schedule': ('schedule.name=cosin', 'config.schedule.name', 'did you mean cosine?'),
    'unknown task': ('task.name=clasification', 'config.task.name', 'did you mean classification?'),
    'unknown source': ('data.source=tfd', 'config.data.source', 'did you mean tfds?'),
    'unknown split': ('data.train=trian', 'digits', 'did you mean train?'),
    'unknown part of a split': ('data.train=train[', 'train[', 'train[:10%]'),
    'empty part of a split': ('data.train=train[:0%]', 'train[:0%]', 'empty'),
    'unknown evaluation set': ("evaluation.final=('tset',)", 'tset', 'validation'),
    'best metric of no set': ('checkpoint.best_metric=tset/accuracy', 'did you mean validation/accuracy?'),
    'best metric that is none': ('checkpoint.best_metric=validation/acuracy', 'did you mean validation/accuracy?'),
    'best metric without periodic sets': ('evaluation.periodic=()', 'config.checkpoint.best_metric', 'there are none'),
    'unknown precision': ('precision=bfloat', 'config.precision', 'did you mean bfloat16?'),
    'unknown way of parallelism': ('parallel.mode=pjit', 'config.parallel.mode', 'jit'),
    # values
    'negative learning rate': ('optimizer.learning_rate=-0.1', 'config.optimizer.learning_rate = -0.1'),
    'batch that devices cannot share': ('batch_size=12', 'batch_size = 12', '8 device', '16'),
    'empty batch': ('batch_size=0', 'batch_size = 0'),
    'micro-batches that do not fit': ('optimizer.accumulate=3', '3 micro-batches'),
    'no micro-batches': ('optimizer.accumulate=0', 'config.optimizer.accumulate'),
    'more devices than there are': ('parallel.devices=99', 'config.parallel.devices = 99', '8 cpu device'),
    'negative number of workers': ('data.workers=-1', 'config.data.workers'),
    'nothing to keep': ('checkpoint.keep=0', 'config.checkpoint.keep'),
    'evaluation without a batch': ('evaluation.batch_size=0', 'config.evaluation.batch_size'),
    'negative seed': ('seed=-1', 'config.seed'),
    'averages that never move': ('ema_decay=1.0', 'config.ema_decay'),
    'too many channels': ('image.channels=2', 'config.image.channels'),
    'one number for a size': ('image.size=8', 'config.image.size'),
    'more pixels than memory': ('image.size=(1000000, 1000000)', 'config.image.size = (1000000, 1000000)', 'GiB'),
    'a trace of negative length': ('profile.steps=-1', 'config.profile.steps = -1', 'at least 0'),
    'endless learning rate': ('optimizer.learning_rate=1e400', 'config.optimizer.learning_rate = inf', 'finite'),
    'fractions of pixels': ('image.size=(8.5, 8)', 'config.image.size'),
    'means for other channels': ('image.mean=(0.1, 0.2)', 'config.image.mean'),
    'words for a mean': ("image.mean=('grey',)", 'config.image.mean', 'grey'),
    'no spread': ('image.std=0.0', 'config.image.std'),
    'augmentation out of range': ('augment.shift=7.0', 'shift'),
    'label smoothing out of range': ('task.label_smoothing=1.0', 'config.task.label_smoothing'),
    'task that needs other data': ('task.name=regression', 'config.task.label_smoothing', 'regression'),
    # patterns
    'frozen parameters that are not there': ("optimizer.freeze=('dens1.*',)", 'freeze', 'dens1', 'did you mean dense1'),
    'everything frozen': ("optimizer.freeze=('.*',)", 'freeze', 'every parameter'),
    'no regular expression': ("optimizer.freeze=('(',)", "'('", 'regular expression'),
    'a number as a pattern': ('optimizer.freeze=(1,)', 'optimizer.freeze', 'regular expression'),
    'scales that are not there': ("optimizer.learning_rate_scales=(('head.*', 0.1),)", 'learning_rate_scales', 'head'),
    'a scale without its factor': ("optimizer.learning_rate_scales=('head',)", 'learning_rate_scales', 'factor'),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_a_wrong_override_is_one_line_and_writes_nothing(mistake, call_launch, tmp_path):
    override, *parts = MISTAKES[mistake]
    workdir = tmp_path / 'run'
    assert_one_line(call_launch('--config', TINY, '--workdir', workdir, f'--config.{override}'), *parts)
    assert not workdir.exists()


@pytest.mark.parametrize('line, parts', [
    ("config.optimizer.lerning_rate = 1.0", ('lerning_rate', 'did you mean optimizer.learning_rate?')),
    ("config.batchsize = 16", ('batchsize', 'did you mean batch_size?')),
    ("config.schedule = {'name': 'cosine'}", ('config.schedule.', 'missing', 'one by one')),
    ("config.optimizer = None", ('config.optimizer', 'learning_rate')),
    ("config.task = {'name': 'classification', 'smoothing': 0.1}", ('config.task.smoothing', 'label_smoothing')),
    ("config.task = {'name': 'regression'}", ('config.checkpoint.best_metric', 'did you mean validation/loss?')),
    ("config.task, config.checkpoint.best_metric = {'name': 'regression'}, ''",
     ('config.model.name', 'mlp', 'num_classes', 'task')),
    ("config.model = {'name': 'mlp', 'num_classes': 10}; config.task = {'name': 'regression'}; "
     "config.checkpoint.best_metric = ''",
     ('config.task.name', "'y'", 'image, label')),
    ("config.model = {'name': 'lenet', 'hiden': 16}", ('config.model.hiden', 'did you mean hidden?')),
    ("config.model = {'name': 'lenet', 'features': (32,)}", ('config.model.features', 'tuple[int, int]')),
    ("config.model = {'name': 'lenet'}", ('2x2 pixels', 'VALID', 'larger images')),
    ("config.model = {'name': 'lenet', 'padding': 'FULL'}", ("'FULL'", "'SAME' or 'VALID'")),
    ("config.evaluation.sets.test = {'spilt': 'test', 'invert': False}", ('evaluation.sets.test', 'spilt', 'split')),
    ("config.evaluation.sets.mine = {'invert': True}", ('config.evaluation.sets.mine', "needs 'split'")),
    ("config.evaluation.sets.mine = {'split': 'test', 'corrupt': {'jpg': 3}}", ('mine', 'did you mean corrupt.jpeg?')),
])
def test_a_mistake_in_an_experiment_file_is_one_line_and_writes_nothing(line, parts, call_launch, tmp_path):
    """A typo there is as little ignored as on the command line."""
    experiment = tmp_path / 'mine.py'
    experiment.write_text('from tests.tiny import get_config as tiny\n\n\ndef get_config():\n    config = tiny()\n'
                          f'    {line}\n    return config\n')
    result = call_launch('--config', experiment, '--workdir', tmp_path / 'run')
    assert_one_line(result, *parts)
    assert not (tmp_path / 'run').exists()


def test_weight_decay_on_nothing_is_one_line(call_launch, tmp_path):
    result = call_launch('--config', TINY, '--workdir', tmp_path / 'run', '--config.optimizer.weight_decay=0.1',
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
    (('--config', TINY, '--cpu_devices', '-2'), ('--cpu_devices -2',)),
    (('show', '--config', TINY, '--config.sead=1'), ('did you mean seed?',)),
    (('evaluate',), ('--workdir',)),
    (('predict', '--workdir', 'x'), ('inputs',)),
    (('predict', '--workdir', 'x', 'a.png', '--config.seed=1'), ('--config.seed',)),
])
def test_a_wrong_command_line_is_one_line(args, parts, call_launch):
    assert_one_line(call_launch(*args), *parts)


def test_mistakes_are_one_line_in_a_real_process(run_launch, tmp_path):
    """No library adds a line of its own, before or after."""
    result = run_launch('--config', TINY, '--workdir', tmp_path / 'run', '--config.optimizer.freeze=nothing')
    assert_one_line(result, 'nothing')
    result = run_launch('--config', TINY, '--workdir', tmp_path / 'run', '--cpu_devices', 3)
    assert_one_line(result, '3 device', '18')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('command', [('evaluate',), ('predict', 'image.png')])
def test_a_workdir_without_checkpoints_is_one_line(command, call_launch, tmp_path):
    assert_one_line(call_launch(*command, '--workdir', tmp_path / 'missing'), 'missing', 'no checkpoints')
    assert not (tmp_path / 'missing').exists()
    (tmp_path / 'empty' / 'checkpoints').mkdir(parents=True)
    assert_one_line(call_launch(*command, '--workdir', tmp_path / 'empty'), 'empty', 'no checkpoint')


def test_a_step_that_is_not_there_is_one_line(call_launch, trained_run):
    assert_one_line(call_launch('evaluate', '--workdir', trained_run, '--step', '7'), 'no step 7', '48')
    assert_one_line(call_launch('evaluate', '--workdir', trained_run, '--step', 'newest'), 'newest', "'best'")
    assert_one_line(call_launch('evaluate', '--workdir', trained_run, '--sets', 'tset'), 'tset', 'validation')


def test_unprepared_data_without_permission_to_download(call_launch, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError('nobody allowed a connection')
    monkeypatch.setattr(prepared_data.socket, 'create_connection', refuse)
    result = call_launch('--config', 'mnist_lenet', '--workdir', tmp_path / 'run',
                         f'--config.data.data_dir={tmp_path}/tfds')
    assert_one_line(result, 'mnist', f'{tmp_path}/tfds', '--config.data.data_dir', 'TFDS_DATA_DIR',
                    '--config.data.download=True')
    assert not list(tmp_path.iterdir())


def test_unprepared_data_without_network(call_launch, tmp_path, monkeypatch):
    """tfds itself would retry for more than three minutes."""
    def refuse(*_, **__):
        raise OSError('Network is unreachable')
    monkeypatch.setattr(prepared_data.socket, 'create_connection', refuse)
    for name in ('https_proxy', 'HTTPS_PROXY', 'http_proxy', 'HTTP_PROXY'):
        monkeypatch.delenv(name, raising=False)
    result = call_launch('--config', 'mnist_lenet', '--workdir', tmp_path / 'run', '--config.data.download=True',
                         f'--config.data.data_dir={tmp_path}/tfds')
    assert_one_line(result, 'mnist', f'{tmp_path}/tfds', 'no network', 'tfds build mnist')
    assert not list(tmp_path.iterdir())


def test_data_that_cannot_be_prepared(call_launch, tmp_path):
    (tmp_path / 'file').touch()
    args = ('--config', TINY, '--workdir', tmp_path / 'run')
    result = call_launch(*args, f'--config.data.data_dir={tmp_path}/file/tfds')
    assert_one_line(result, 'digits', f'{tmp_path}/file/tfds')
    assert_one_line(call_launch(*args, '--config.data.name='), 'config.data.name')
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize('half', [('--coordinator', 'localhost:1234'), ('--num_processes', 2), ('--process_id', 0),
                                  ('--coordinator', 'localhost:1234', '--process_id', 0)])
def test_half_a_cluster_is_one_line(half, call_launch, tmp_path):
    result = call_launch('--config', TINY, '--workdir', tmp_path / 'run', *half)
    assert_one_line(result, '--coordinator', '--num_processes', '--process_id')
    assert not (tmp_path / 'run').exists()


def test_a_process_beyond_the_cluster_is_one_line(call_launch, tmp_path):
    result = call_launch('--config', TINY, '--workdir', tmp_path / 'run', '--coordinator', 'localhost:1234',
                         '--num_processes', 2, '--process_id', 2)
    assert_one_line(result, '--process_id 2', '--num_processes 2')


def test_a_second_writer_is_one_line_and_the_first_goes_on(call_launch, tmp_path):
    workdir = tmp_path / 'run'
    with Checkpoints(workdir, writable=True):
        before = sorted(workdir.rglob('*'))
        assert_one_line(call_launch('--config', TINY, '--workdir', workdir), 'another process', str(workdir))
        assert sorted(workdir.rglob('*')) == before
    assert call_launch('--config', TINY, '--workdir', workdir, '--config.total=4 steps').code == 0


def test_a_workdir_that_cannot_be_written_is_one_line(call_launch, tmp_path):
    (tmp_path / 'file').write_text('mine')
    for workdir in (tmp_path / 'file', tmp_path / 'file' / 'run'):
        assert_one_line(call_launch('--config', TINY, '--workdir', workdir), str(workdir))
    assert (tmp_path / 'file').read_text() == 'mine'


@pytest.mark.parametrize('overrides, parts', [
    (('init_from.workdir=/nowhere/run',), ('/nowhere/run', 'no checkpoints')),
    (('init_from.step=newest',), ("no step 'newest'", "'best', 'last' or a number")),
    (('init_from.step=7',), ('no step 7', '48')),
    (('model.hidden=(24,)',), ('dense1/bias', '(24,)', '(16,)', 'init_from.skip')),
    (("init_from.skip=('params/head.*',)",), ('init_from.skip', 'head')),
    (("init_from.rename=(('encoder', 'dense1'),)",), ('init_from.rename', 'encoder')),
    (("init_from.rename=('encoder',)",), ('init_from.rename', 'replacement')),
    (("init_from.rename=(('dense1', r'\\2'),)",), ('init_from.rename', 'dense1')),
    (("init_from.include=('(',)",), ('init_from.include', 'regular expression')),
])
def test_weights_that_cannot_be_taken_over_are_one_line(overrides, parts, call_launch, trained_run, tmp_path):
    workdir = tmp_path / 'run'
    args = [f'--config.{override}' for override in (f'init_from.workdir={trained_run}', *overrides)]
    assert_one_line(call_launch('--config', TINY, '--workdir', workdir, *args), *parts)
    assert_never_started(workdir)


def test_check_looks_at_the_weights_to_begin_with_too(call_launch, trained_run):
    """Of every variation that begins with others."""
    begin = f'init_from.workdir={trained_run}'
    check = ('check', '--config', TINY, f'--config.{begin}')
    done = call_launch(*check, '--variations', '[["seed=1"], ["seed=2"]]')
    assert done.code == 0 and done.out.count('0 left at init') == 1, done.err
    assert_one_line(call_launch(*check, '--variations', '[["seed=1"], ["init_from.step=7"]]'), 'no step 7')
    assert_one_line(call_launch(*check[:3], '--config.init_from.workdir=/nowhere/run'), 'no checkpoints')


def assert_never_started(workdir: Path) -> None:
    """At most the lock and an empty folder for checkpoints."""
    left = {str(path.relative_to(workdir)) for path in workdir.rglob('*')}
    assert left <= {'.lock', 'checkpoints'}


def test_resuming_with_another_model_is_one_line_and_keeps_the_run(call_launch, tmp_path):
    args = ('--config', TINY, '--workdir', tmp_path, '--config.total=4 steps')
    assert call_launch(*args).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    assert_one_line(call_launch(*args, '--config.model.hidden=(24,)'), 'dense1/', '(24,)', '(16,)')
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


def test_another_batch_size_is_one_line_and_keeps_the_run(call_launch, tmp_path):
    """Steps count batches: of another size they would be at another place of the data, or beyond its end."""
    args = ('--config', TINY, '--workdir', tmp_path, '--config.total=4 steps')
    assert call_launch(*args).code == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()}
    for total in ('4 steps', '1 epochs'):
        result = call_launch(*args, '--config.batch_size=32', f'--config.total={total}')
        assert_one_line(result, 'config.batch_size = 32', 'batches of 16', f'--config.init_from.workdir={tmp_path}')
    assert {path: path.read_bytes() for path in tmp_path.rglob('*') if path.is_file()} == before


def test_a_tilde_is_the_home_folder(call_launch, trained_run, tmp_path, monkeypatch):
    """The shell leaves the one of --workdir=~/run alone."""
    shutil.copytree(trained_run, tmp_path / 'home' / 'run')
    (tmp_path / 'here').mkdir()
    monkeypatch.chdir(tmp_path / 'here')
    monkeypatch.setenv('HOME', str(tmp_path / 'home'))
    assert call_launch('evaluate', '--workdir=~/run', '--sets', 'test').code == 0
    assert not list((tmp_path / 'here').iterdir())


@pytest.mark.parametrize('command', [('evaluate',), ('predict', 'a.png')])
def test_a_name_too_long_for_a_folder_is_one_line(command, call_launch):
    assert_one_line(call_launch(*command, '--workdir', 'x' * 300), 'xxx')


# --- images ---

def spoil(folder: Path) -> list[Path]:
    """Makes files that are no images; returns them."""
    whole = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(whole, 'PNG')
    contents = {'empty.png': b'', 'text.png': b'not an image\n', 'cut.png': whole.getvalue()[:200],
                'zeros.jpg': bytes(1000)}
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def test_unreadable_images_are_named_and_the_others_predicted(call_launch, trained_run, digit_files, tmp_path):
    bad = spoil(tmp_path)
    output = tmp_path / 'out.csv'
    result = call_launch('predict', '--workdir', trained_run, bad[0], digit_files / '0.png', *bad[1:],
                         digit_files / '1.png', tmp_path / 'missing.png', '--output', output)
    assert result.code == 2
    lines = result.err.splitlines()
    assert len(lines) == 5 and all(line.startswith('error: ') for line in lines), result.err
    for path in (*bad, tmp_path / 'missing.png'):
        assert f'error: {path}: ' in result.err
    rows = list(csv.DictReader(output.open()))
    assert [row['file'] for row in rows] == [str(digit_files / '0.png'), str(digit_files / '1.png')]


def test_errors_do_not_mix_with_predictions_on_stdout(call_launch, trained_run, digit_files, tmp_path):
    (tmp_path / 'empty.png').touch()
    result = call_launch('predict', '--workdir', trained_run, digit_files / '0.png', tmp_path / 'empty.png',
                         '--format', 'json')
    assert [row['file'] for row in json.loads(result.out)] == [str(digit_files / '0.png')]
    step, line = result.err.splitlines()
    assert result.code == 2 and step.startswith('step ') and line.startswith('error: ') and '0 bytes' in line


def test_nothing_readable_writes_no_file(call_launch, trained_run, tmp_path):
    (tmp_path / 'text.png').write_text('not an image')
    result = call_launch('predict', '--workdir', trained_run, tmp_path / 'text.png', '--output', tmp_path / 'out.csv')
    assert_one_line(result, 'text.png')
    assert result.out == ''
    assert not (tmp_path / 'out.csv').exists()


@pytest.mark.parametrize('args, parts', [
    (('--top_k', '0'), ('--top_k',)),
    (('--top_k', '-1'), ('--top_k',)),
    (('--output', '/dev/null/out.csv'), ('/dev/null/out.csv',)),
    (('--step', '7'), ('no step 7',)),
    (('--format', 'xml'), ('--format', 'csv')),
    (('--output', 'p.xlsx'), ('p.xlsx', '.csv', '.json')),
    (('--output', 'p'), ('--output p:', '.csv')),
    (('--output', 'p.txt', '--format', 'csv'), ('p.txt', 'is for --format table; end it in .csv')),
    (('-0.5,1',), ('-0.5,1 is taken for an option', 'put -- before')),
])
def test_wrong_arguments_of_predict_are_one_line(args, parts, call_launch, trained_run, digit_files):
    assert_one_line(call_launch('predict', '--workdir', trained_run, digit_files / '0.png', *args), *parts)


def test_a_folder_without_images_is_one_line(call_launch, trained_run, tmp_path):
    assert_one_line(call_launch('predict', '--workdir', trained_run, tmp_path), str(tmp_path), 'no images')


def test_a_run_that_does_not_look_at_images_predicts_none(call_launch, digit_files, tmp_path):
    assert call_launch('--config', 'line', '--workdir', tmp_path, '--config.batch_size=8', '--config.total=2 steps',
                       '--config.tensorboard=False').code == 0
    assert_one_line(call_launch('predict', '--workdir', tmp_path, digit_files / '0.png'), '0.png', 'trained on numbers')


@pytest.mark.parametrize('override, parts', [
    ('model.hidden=(32,)', ('does not fit', '(64, 32)', '(64, 16)')),
    ('image.size=(16, 16)', ('does not fit', '(256, 16)', '(64, 16)')),
    ('image.size=(28,)', ('config.image.size = (28,)', '(height, width) in pixels')),
    ('evaluation.batch_size=0', ('config.evaluation.batch_size = 0', 'at least 1')),
    ('data.name=mnist', ('mnist is not prepared',)),
    ('parallel.devices=99', ('config.parallel.devices = 99',)),
    ('optimizer.lerning_rate=1', ('did you mean optimizer.learning_rate?',)),
])
def test_evaluating_with_overrides_that_do_not_fit_is_one_line(override, parts, call_launch, trained_run):
    assert_one_line(call_launch('evaluate', '--workdir', trained_run, f'--config.{override}'), *parts)


# --- images in folders as data ---

def write_classes(root: Path, *names: str, count: int = 10) -> Path:
    generator = np.random.default_rng(0)
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            Image.fromarray(generator.integers(0, 256, (12, 10), np.uint8)).save(root / name / f'{i}.png')
    return root


def folder(root: Path) -> tuple[str, ...]:
    return '--config.data.source=folder', f'--config.data.name={root}'


def test_a_folder_of_images_trains(call_launch, tmp_path):
    root = tmp_path / 'animals'
    for split in ('train', 'validation', 'test'):
        write_classes(root / split, 'cat', 'dog')
    args = ('--config', TINY, *folder(root), '--workdir', tmp_path / 'run', '--config.total=4 steps')
    assert call_launch(*args).code == 0
    result = call_launch('predict', '--workdir', tmp_path / 'run', root / 'test' / 'cat' / '0.png')
    assert result.code == 0 and ' cat : ' in result.out and ' dog : ' in result.out


@pytest.mark.parametrize('prepare, parts', [
    (lambda root: None, ('is not a folder',)),
    (lambda root: root.mkdir(), ('no class folders',)),
    (lambda root: write_classes(root, 'cat'), ('at least 2 classes', '1')),
    (lambda root: write_classes(root, 'cat', 'dog'), ('no folder validation', "'train[:80%]'")),
    (lambda root: write_classes(root / 'train', 'cat', 'dog'), ('no split', 'validation', 'train')),
    (lambda root: (write_classes(root, 'cat'), (root / 'dog').mkdir()), ('dog', 'no images')),
    (lambda root: (write_classes(root, 'cat', 'dog'), (root / 'dog' / '3.png').write_bytes(b'')), ('3.png', '0 bytes')),
])
def test_a_wrong_folder_of_images_is_one_line_and_writes_nothing(prepare, parts, call_launch, tmp_path):
    prepare(tmp_path / 'animals')
    result = call_launch('--config', TINY, *folder(tmp_path / 'animals'), '--workdir', tmp_path / 'run')
    assert_one_line(result, 'animals' if 'classes' not in parts[0] else '', *parts)
    assert not (tmp_path / 'run').exists()


def test_evaluating_on_other_classes_is_one_line(call_launch, trained_run, tmp_path):
    write_classes(tmp_path / 'animals' / 'test', 'cat', 'dog', count=2)
    result = call_launch('evaluate', '--workdir', trained_run, '--sets', 'test', *folder(tmp_path / 'animals'))
    assert_one_line(result, "'test'", '2 classes', 'cat', 'trained on 10')


def test_evaluating_on_as_many_other_classes_names_one_that_differs(call_launch, trained_run, tmp_path):
    write_classes(tmp_path / 'digits' / 'test', *(f'{i}' for i in range(9)), 'nine', count=1)
    result = call_launch('evaluate', '--workdir', trained_run, '--sets', 'test', *folder(tmp_path / 'digits'))
    assert_one_line(result, "'test'", "'nine'", "'9'")
