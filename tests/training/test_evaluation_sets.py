"""Evaluation sets with data of their own, augmented or corrupted; how many images are evaluated together."""

import json
import logging
import shutil

import numpy as np
import pytest

from practicum import tasks
from practicum.common.errors import UserError
from practicum.input_pipeline import sources
from practicum.training import components, evaluation, evaluation_sets
from practicum.training import config as config_lib
from practicum.training.parallel import Parallel
from practicum.training.state import evaluated_variables
from tests.test_mistakes import assert_one_line
from tests.tiny import tiny_config


def with_set(name: str = 'mine', overrides: tuple[str, ...] = (), **fields):
    """Returns the tiny config with one more evaluation set."""
    config = tiny_config(*overrides)
    with config.unlocked():
        config.evaluation.sets[name] = {'split': 'test', **fields}
    return config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(config))))  # as a checkpoint has it


@pytest.fixture(scope='module')
def trained():
    """The parts of the tiny run, and variables of its untrained model."""
    training = components.build_training(tiny_config('parallel.devices=1'))
    return training, evaluated_variables(training.initial_state().variables)


@pytest.fixture(scope='module')
def score(trained):
    """Returns score(config, name, devices): the metrics of an untrained model."""
    training, variables = trained

    def run(config, name: str = 'mine', devices: int = 1) -> dict:
        parallel = Parallel(tiny_config(f'parallel.devices={devices}').parallel)
        evaluations = evaluation.Evaluations(config, parallel, training.task, training.info, (name,))
        return evaluation.evaluate(evaluations, name, parallel.place(variables)).metrics
    return run


@pytest.fixture(scope='module')
def digits_elsewhere(tmp_path_factory):
    """The test digits as an .npz file, with names of classes, and another such file with other classes."""
    config = tiny_config()
    test = sources.open_split(config.data, config.image, 'test')
    folder = tmp_path_factory.mktemp('elsewhere')
    names = np.array(test.info.class_names)
    np.savez(folder / 'same.npz', test_image=test.arrays['image'], test_label=names[test.arrays['label']])
    np.savez(folder / 'other.npz', test_image=test.arrays['image'],
             test_label=np.array([f'class {label}' for label in test.arrays['label']]))
    return folder


# What is evaluated


def test_a_corrupted_set_is_the_same_whatever_the_batch_and_the_devices(score):
    corrupt = {'gaussian_noise': 4, 'contrast': 2}
    wanted = score(with_set(corrupt=corrupt))
    clean = score(with_set(), devices=1)
    assert wanted['confusion'].sum() == 359 and wanted['loss'] != clean['loss']
    for devices, batch_size in ((1, 7), (8, 50)):
        found = score(with_set(corrupt=corrupt, overrides=(f'evaluation.batch_size={batch_size}',)), devices=devices)
        assert found['loss'] == pytest.approx(wanted['loss'], rel=1e-6)
        np.testing.assert_array_equal(found['confusion'], wanted['confusion'])


def test_neither_the_seed_of_a_run_nor_its_augmentation_changes_an_augmented_set(score):
    augment = {'rotation': 30.0, 'fill': '0'}
    wanted = score(with_set(augment=augment))
    assert wanted['loss'] != score(with_set())['loss']
    other = score(with_set(augment=augment, overrides=('seed=5', 'augment.rotation=3.0', 'augment.fill=edge')))
    assert other['loss'] == wanted['loss']


def test_data_of_its_own(score, digits_elsewhere):
    """The same digits from another source have the same metrics; the fields of the training's data stay as they are."""
    config = with_set(data={'source': 'npz', 'name': str(digits_elsewhere / 'same.npz')})
    before = config_lib.to_dict(config)
    assert score(config)['loss'] == pytest.approx(score(with_set())['loss'], rel=1e-6)
    assert config_lib.to_dict(config) == before


def test_the_folds_and_crops_of_the_training_are_not_those_of_other_data(digits_elsewhere):
    overrides = ('data.folds=5', 'data.train=test')
    config = with_set(overrides=overrides, data={'source': 'npz', 'name': str(digits_elsewhere / 'same.npz')})
    with config.unlocked():
        config.data.random_resized_crop = (0.1, 1.0)
    chosen = evaluation_sets.resolve(config, 'mine')
    assert len(sources.open_split(chosen.data, chosen.image, chosen.split)) == 359
    same = evaluation_sets.resolve(with_set(overrides=overrides, data={'memory_limit_mb': 1}), 'mine')
    assert same.data.folds == 5 and same.data.memory_limit_mb == 1


def test_other_classes_are_refused(score, digits_elsewhere):
    config = with_set(data={'source': 'npz', 'name': str(digits_elsewhere / 'other.npz')})
    with pytest.raises(UserError, match="class 0 of evaluation set 'mine' is 'class 0', the model was trained with"):
        score(config)


def test_what_the_set_does_not_say_is_the_training_s():
    config = tiny_config('data.max_unreadable=0.5', 'image.resize=cover')
    chosen = evaluation_sets.resolve(config, 'test')
    assert chosen.data == config.data and chosen.image == config.image
    assert (chosen.split, chosen.invert, chosen.augment, chosen.corrupt) == ('test', False, {}, {})
    chosen = evaluation_sets.resolve(with_set(image={'resize': 'cover', 'bits': 16}), 'mine')
    assert (chosen.image.resize, chosen.image.bits, chosen.image.size) == ('cover', 16, (8, 8))


# Mistakes


@pytest.mark.parametrize('fields, message', [
    ({'spilt': 'test'}, "has no field 'spilt'; did you mean split?"),
    ({'corrupt': {'gausian_noise': 1}}, "no field 'corrupt.gausian_noise'; did you mean corrupt.gaussian_noise?"),
    ({'augment': {'rotaton': 1.0}}, 'did you mean augment.rotation?'),
    ({'data': {'nmae': 'x'}}, 'did you mean data.name?'),
    ({'data': {'folds': 5}}, "no field 'data.folds'"),
    ({'image': {'size': (8, 8)}}, "no field 'image.size'"),
    ({'corrupt': 3}, 'mine.corrupt is a section; its fields: brightness'),
    ({'corrupt': {'jpeg': '3'}}, "mine.corrupt.jpeg = '3': it is of type int"),
    ({'invert': 1}, 'mine.invert = 1: it is of type bool'),
    ({'data': {'data_dir': 3}}, 'mine.data.data_dir = 3: it is of type text'),
])
def test_a_mistake_in_a_set_names_it(fields, message):
    config = with_set(**fields)
    with pytest.raises(UserError, match=r'config\.evaluation\.sets\.mine') as failure:
        evaluation_sets.check(config, 'mine')
    assert message in str(failure.value)


def test_a_number_may_be_written_without_its_point():
    evaluation_sets.check(with_set(augment={'rotation': 30}), 'mine')


@pytest.mark.parametrize('override, message', [
    ('evaluation.sets.test.corrupt.jpg=3', r'did you mean evaluation\.sets\.test\.corrupt\.jpeg\?'),
    ('evaluation.sets.test.spilt=test', r'did you mean evaluation\.sets\.test\.split\?'),
    ('evaluation.sets.test.corrupt.jpeg=much', r'config\.evaluation\.sets\.test\.corrupt\.jpeg takes a whole number'),
    ('evaluation.sets.test.corrupt=3', r'unknown field config\.evaluation\.sets\.test\.corrupt;'),
    ('evaluation.sets.tset.invert=True', r"has no 'tset'; did you mean test\?"),
])
def test_a_wrong_override_of_a_set_says_what_would_be_right(override, message):
    with pytest.raises(UserError, match=message):
        tiny_config(override)


def test_overrides_add_fields_and_sets():
    config = tiny_config('evaluation.sets.test.corrupt.jpeg=2', 'evaluation.sets.far.data.name=/far',
                         'evaluation.sets.far.augment.rotation=5', "evaluation.final=('test', 'far')")
    sets = config.evaluation.sets
    assert sets.test.to_dict() == {'split': 'test', 'invert': False, 'corrupt': {'jpeg': 2}}
    assert sets.far.to_dict() == {'split': 'test', 'invert': False, 'data': {'name': '/far'},
                                  'augment': {'rotation': 5.0}}
    assert config.is_locked and sets.far.is_locked


# launch.py evaluate


def test_evaluate_measures_sets_that_the_run_did_not_know(call_launch, trained_run, tmp_path):
    run = shutil.copytree(trained_run, tmp_path / 'run')
    result = call_launch('evaluate', '--workdir', run, '--sets', 'test', 'noisy',
                         '--config.evaluation.sets.noisy.corrupt.gaussian_noise=5')
    assert result.code == 0, result.err
    metrics = json.loads((run / 'evaluation.json').read_text())['metrics']
    assert metrics['noisy/loss'] != metrics['test/loss']
    assert (run / 'evaluation_noisy_confusion_matrix.png').exists()


def test_mistakes_of_evaluate_are_one_line(call_launch, trained_run):
    args = ('evaluate', '--workdir', trained_run, '--sets')
    noisy = '--config.evaluation.sets.noisy.corrupt.gaussian_noise'
    assert_one_line(call_launch(*args, 'test', f'{noisy}=5'), "'noisy'", '--sets')
    assert_one_line(call_launch(*args, 'noisy', f'{noisy}=6'), "'noisy'", 'gaussian_noise is 6', '5')
    assert_one_line(call_launch(*args, 'noisy', '--config.evaluation.sets.noisy.corupt.jpeg=1'), 'did you mean')
    assert_one_line(call_launch(*args, 'noisy'), "'noisy'", 'validation')


# How many images are evaluated together


class Device:
    """A device of a platform that says how much memory it has, or nothing."""

    def __init__(self, platform: str, memory: int | None = None):
        self.platform, self._memory = platform, memory

    def memory_stats(self):
        return None if self._memory is None else {'bytes_limit': self._memory}


@pytest.mark.parametrize('device, wanted', [
    (Device('cpu'), 4 * 64), (Device('gpu', 2 ** 40), 500), (Device('gpu', 2 ** 31), 4 * 32), (Device('tpu'), 500),
    (Device('gpu', 1), 4)])
def test_fewer_large_images_where_memory_needs_it_and_a_line_says_so(device, wanted, trained, monkeypatch, caplog):
    training, _ = trained
    parallel = Parallel(tiny_config('parallel.devices=4').parallel)
    parallel.local = [device] * 4
    config = tiny_config('image.size=(256, 256)', 'evaluation.batch_size=500')
    monkeypatch.setattr(evaluation, 'open_set', lambda *_: range(2000))
    with caplog.at_level(logging.INFO):
        found = evaluation.Evaluations(config, parallel, tasks.build(config.task, training.info), training.info,
                                       ('test',))
    assert found.batch_size == wanted
    said = [record.getMessage() for record in caplog.records if 'at a time' in record.getMessage()]
    assert said == ([] if wanted == 500 else [
        f'evaluating {wanted} images at a time, not 500: of 256x256 pixels each, a device has room for {wanted // 4}'])
