"""Starting from another run's weights: what is taken over is said path by path, and nothing happens in silence."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.training import components
from practicum.training.checkpoints import Checkpoints, flatten
from practicum.training.loop import train
from practicum.training.transfer import assign, init_from, init_unless_resuming
from tests.tiny import tiny_config


def arrays(**shapes):
    return {path.replace('__', '/'): np.full(shape, i, np.float32) for i, (path, shape) in enumerate(shapes.items(), 1)}


OURS = arrays(params__conv1__kernel=(3, 2), params__conv1__bias=(2,), params__logits__kernel=(2, 10),
              batch_stats__norm__mean=(2,))


# --- assign ---

def test_equal_names_are_loaded_and_the_report_has_every_path():
    theirs = {path: -value for path, value in OURS.items()} | arrays(params__old__kernel=(1,))
    mapped, report = assign(OURS, theirs)
    assert set(mapped) == set(OURS) and all(np.array_equal(mapped[path], -OURS[path]) for path in OURS)
    assert report.loaded == {path: path for path in OURS}
    assert report.initial == [] and report.unused == ['params/old/kernel']
    assert str(report).splitlines()[-1].strip() == '4 loaded, 0 left at init, 1 unused'
    for line in ('loaded   params/conv1/kernel', 'unused   params/old/kernel'):
        assert line in str(report)


def test_skip_leaves_at_the_initial_value():
    theirs = dict(OURS, **{'params/logits/kernel': np.zeros((2, 5), np.float32)})  # other classes: not looked at
    mapped, report = assign(OURS, theirs, skip=('params/logits/.*',))
    assert 'params/logits/kernel' not in mapped
    assert report.initial == ['params/logits/kernel'] == report.unused
    assert 'initial  params/logits/kernel' in str(report)


def test_include_takes_what_it_names_and_nothing_else():
    mapped, report = assign(OURS, dict(OURS), include=('params/conv1/.*',))
    assert set(mapped) == {'params/conv1/kernel', 'params/conv1/bias'}
    assert report.initial == ['batch_stats/norm/mean', 'params/logits/kernel']


def test_skip_wins_over_include():
    _, report = assign(OURS, dict(OURS), include=('params/.*',), skip=('.*/bias',))
    assert set(report.loaded) == {'params/conv1/kernel', 'params/logits/kernel'}


def test_a_dense_layer_becomes_a_convolution_where_all_sizes_agree():
    """Net surgery; the report says so, and any other shape stays an error."""
    kernel = np.arange(96, dtype=np.float32).reshape(24, 4)
    ours, theirs = arrays(params__fc6__kernel=(3, 2, 4, 4)), {'params/dense/kernel': kernel}
    mapped, report = assign(ours, theirs, rename=(('dense', 'fc6'),))
    np.testing.assert_array_equal(mapped['params/fc6/kernel'], kernel.reshape(3, 2, 4, 4))
    assert 'loaded   params/fc6/kernel  from params/dense/kernel  [24, 4] as [3, 2, 4, 4]' in str(report)
    assert theirs['params/dense/kernel'] is kernel
    for other in ((2, 2, 4, 4), (3, 2, 2, 8), (6, 4, 4)):
        with pytest.raises(UserError, match=r'fc6/kernel has shape .* and \(24, 4\) there; add it to init_from.skip'):
            assign(arrays(params__fc6__kernel=other), {'params/fc6/kernel': kernel})


def test_rename_maps_their_names_to_ours_in_order():
    theirs = {path.replace('conv1', 'encoder/block_0'): value for path, value in OURS.items()}
    mapped, report = assign(OURS, theirs, rename=(('encoder/', ''), (r'block_(\d)', 'conv1')))
    assert set(mapped) == set(OURS)
    assert report.loaded['params/conv1/kernel'] == 'params/encoder/block_0/kernel' and report.unused == []
    assert 'params/conv1/kernel  from params/encoder/block_0/kernel' in str(report)


@pytest.mark.parametrize('theirs, arguments, parts', [
    ({}, dict(include=('params/head/.*',)), ('init_from.include', 'params/head/.*')),
    ({}, dict(include=('conv1',)), ('init_from.include', 'conv1')),  # a regex is over the whole path
    ({}, dict(skip=('params/head/.*',)), ('init_from.skip', 'params/head/.*')),
    ({}, dict(skip=('.*',)), ('nothing to load',)),
    ({}, dict(rename=(('encoder', 'x'),)), ('init_from.rename', 'encoder', 'changes no name')),
    ({}, dict(rename=(('kernel|bias', 'x'),)), ('init_from.rename', 'same name')),
    ({}, dict(rename=('encoder',)), ('init_from.rename', 'encoder', 'pair')),
    ({}, dict(rename=(('conv1', r'\7'),)), ('init_from.rename', 'conv1')),
    ({}, dict(skip=('[',)), ('init_from.skip', 'regular expression')),
    ({'params/logits/kernel': np.zeros((2, 5))}, {}, ('params/logits/kernel', '(2, 10)', '(2, 5)', 'init_from.skip')),
    ({'params/logits/kernel': None}, {}, ('no params/logits/kernel', 'init_from.skip', 'rename')),
], ids=lambda value: None)
def test_what_does_not_fit_is_an_error_of_one_line(theirs, arguments, parts):
    theirs = {path: value for path, value in (OURS | theirs).items() if value is not None}
    with pytest.raises(UserError) as failure:
        assign(OURS, theirs, **arguments)
    assert '\n' not in str(failure.value)
    for part in parts:
        assert part in str(failure.value)


# --- from a run ---

@pytest.fixture(scope='module')
def teacher(tmp_path_factory):
    """The workdir of a run with moving averages, whose latest step is not its best."""
    workdir = tmp_path_factory.mktemp('teacher')
    assert train(tiny_config('ema_decay=0.5', 'total=8 steps', 'optimizer.learning_rate=0.05', 'augment.shift=0.0',
                             'model.dropout=0.0'), workdir) == 0
    return workdir


def read(workdir, which):
    with Checkpoints(workdir, writable=False) as checkpoints:
        return checkpoints.restore(which, items=('variables',)).arrays


def start(*overrides):
    """The variables of a new run before and after init_from."""
    config = tiny_config(*overrides)
    state = components.build_training(config).initial_state()
    return flatten(state.variables), flatten(init_from(config.init_from, state.variables, DatasetInfo()))


@pytest.mark.parametrize('which', ['last', '4', '8'])
def test_moving_averages_are_preferred(which, teacher):
    saved = read(teacher, int(which) if which.isdigit() else which)
    _, after = start(f'init_from.workdir={teacher}', f'init_from.step={which}')
    for path in ('dense1/kernel', 'dense1/bias', 'logits/kernel', 'logits/bias'):
        np.testing.assert_array_equal(after[f'params/{path}'], saved[f'ema/params/{path}'])
        assert not np.array_equal(after[f'params/{path}'], saved[f'params/{path}'])


def test_best_is_the_default(teacher):
    with Checkpoints(teacher, writable=False) as checkpoints:
        best = checkpoints.best_step()
    _, after = start(f'init_from.workdir={teacher}')
    np.testing.assert_array_equal(after['params/logits/kernel'], read(teacher, best)['ema/params/logits/kernel'])


def test_our_own_averages_begin_at_the_loaded_weights(teacher):
    _, after = start(f'init_from.workdir={teacher}', 'ema_decay=0.9')
    for path in ('dense1/kernel', 'logits/bias'):
        np.testing.assert_array_equal(after[f'ema/params/{path}'], after[f'params/{path}'])


def test_the_initial_value_is_that_of_this_run(teacher):
    before, after = start(f'init_from.workdir={teacher}', "init_from.skip=('params/logits/.*',)", 'seed=5')
    for name in ('kernel', 'bias'):
        np.testing.assert_array_equal(after[f'params/logits/{name}'], before[f'params/logits/{name}'])
        assert not np.array_equal(after[f'params/dense1/{name}'], before[f'params/dense1/{name}'])


def test_training_starts_from_the_weights_and_says_so(teacher, tmp_path, caplog):
    """With a learning rate of nearly nothing, what the new run saves is what it took over, and scores the same."""
    with caplog.at_level(logging.INFO):
        assert train(tiny_config(f'init_from.workdir={teacher}', 'init_from.step=last', 'total=1 steps', 'seed=3',
                                 'optimizer.name=sgd', 'optimizer.learning_rate=1e-30'), tmp_path) == 0
    assert f'init_from {teacher} step 8' in caplog.text and '4 loaded, 0 left at init, 0 unused' in caplog.text
    taken, saved = read(teacher, 'last'), read(tmp_path, 'last')
    for path in ('dense1/kernel', 'logits/kernel'):
        np.testing.assert_array_equal(saved[f'params/{path}'], taken[f'ema/params/{path}'])
    scores = [json.loads((workdir / 'result.json').read_text())['metrics'] for workdir in (teacher, tmp_path)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps() == [1]  # the steps are its own


def test_a_run_of_its_own_goes_before_init_from(teacher, tmp_path, caplog):
    assert train(tiny_config('total=2 steps', 'seed=3'), tmp_path) == 0
    own = read(tmp_path, 'last')
    with caplog.at_level(logging.INFO):
        assert train(tiny_config('total=3 steps', 'seed=3', f'init_from.workdir={teacher}', 'optimizer.name=adam',
                                 'optimizer.learning_rate=1e-30'), tmp_path) == 0
    assert 'resuming at step 2' in caplog.text and 'left at init' not in caplog.text
    assert 'no effect of config.init_from: this run goes on with its own weights' in caplog.text
    np.testing.assert_allclose(read(tmp_path, 'last')['params/dense1/kernel'], own['params/dense1/kernel'], rtol=1e-6)


def test_a_new_head_on_frozen_features(teacher, tmp_path):
    """The usual transfer: other classes, features taken over and frozen."""
    generator = np.random.default_rng(0)
    for split in ('train', 'validation', 'test'):
        for name in ('cat', 'dog', 'owl'):
            folder = tmp_path / 'animals' / split / name
            folder.mkdir(parents=True)
            for i in range(6):
                Image.fromarray(generator.integers(0, 256, (8, 8), np.uint8)).save(folder / f'{i}.png')
    assert train(tiny_config('data.source=folder', f'data.name={tmp_path}/animals', f'init_from.workdir={teacher}',
                             'init_from.step=last', "init_from.skip=('params/logits/.*',)",
                             "optimizer.freeze=('dense1/.*',)", 'total=4 steps'), tmp_path / 'run') == 0
    taken, saved = read(teacher, 'last'), read(tmp_path / 'run', 'last')
    assert saved['params/logits/kernel'].shape == (16, 3)
    np.testing.assert_array_equal(saved['params/dense1/kernel'], taken['ema/params/dense1/kernel'])


def test_nothing_is_taken_from_a_folder_without_checkpoints(tmp_path):
    with pytest.raises(UserError, match='no checkpoints'):
        start(f'init_from.workdir={tmp_path}/missing')
    (tmp_path / 'checkpoints').mkdir()
    with pytest.raises(UserError, match='no checkpoint'):
        start(f'init_from.workdir={tmp_path}')


def test_mistakes_are_found_before_the_workdir_is_made(teacher, tmp_path):
    config = tiny_config(f'init_from.workdir={teacher}', "init_from.skip=('nothing',)")
    variables = components.build_training(config).initial_state().variables
    with pytest.raises(UserError, match='init_from.skip'):
        init_unless_resuming(config.init_from, variables, DatasetInfo(), tmp_path / 'run')
    assert not (tmp_path / 'run').exists()
    taken = init_unless_resuming(tiny_config(f'init_from.workdir={teacher}').init_from, variables, DatasetInfo(),
                                 tmp_path / 'run')
    np.testing.assert_array_equal(taken['params']['logits']['bias'], start(f'init_from.workdir={teacher}')[1][
        'params/logits/bias'])
    assert init_unless_resuming(tiny_config().init_from, variables, DatasetInfo(), tmp_path / 'run') is None
    assert init_unless_resuming(config.init_from, variables, DatasetInfo(), teacher) is None  # it resumes
