"""Every experiment and every variant builds and learns a step, without its data; its header says what it is."""

import ast
import functools
import math
import re
import shlex

import jax
import numpy as np
import pytest

import launch
from practicum.commands.list_experiments import read_header
from practicum.common.dataset_info import DatasetInfo
from practicum.input_pipeline import augmentation, captions, sources, text_examples, text_source, texts, word_pairs
from practicum.input_pipeline.arrays import ArraySource
from practicum.training import components, evaluation, feature_cache, forward
from practicum.training import config as config_lib
from practicum.training.defaults import base
from practicum.training.state import evaluated_variables
from tests.conftest import free_memory, of_the_repository

FILES = of_the_repository(config_lib.experiment_files())
# Half a minute of compiling most. Their networks are compiled elsewhere, smaller, or with fewer of their fields.
LONGEST = ('retinopathy.py', 'flickr8k_captioner.py', 'shape_video_captioner.py', 'shape_video_captioner.py:from_tags',
           'phantom_unet.py', 'cats_vs_dogs.py', 'cats_vs_dogs.py:all_fine_tuned', 'cifar10_resnet.py:short',
           'cifar10_resnet.py:gpu', 'mnist_autoencoder.py:denoising', 'mnist_autoencoder.py:convolutional',
           'mnist_gan.py', 'shakespeare_transformer.py', 'sentences.py', 'mnist_dbn.py:layer2', 'dates.py',
           'cifar10_vit.py', 'cifar10_vit.py:convnext', 'bccd_detector.py', 'shape_captioner.py',
           'cifar10_resnet.py', 'breakout_dqn.py', 'brown_lstm.py', 'bccd_detector.py:frozen', 'raccoon_rcnn.py',
           'cats_vs_dogs.py:alexnet_all_fine_tuned')
# Seconds of tracing; the same models are traced smaller elsewhere.
LONG_TO_TRACE = ('retinopathy.py', 'cifar10_vit.py', 'cifar10_vit.py:convnext', 'dates.py', 'shape_video_captioner.py',
                 'bccd_detector.py', 'bccd_detector.py:frozen', 'phantom_unet.py', 'cats_vs_dogs.py:all_fine_tuned')
LINE = 'every line of this text is the same one'
SPECS = [f'{path}{variant}' for path in FILES
         for variant in ('', *(f':{name}' for name in config_lib.variants(path)))]


def short(spec) -> str:
    """The name of a test case."""
    return str(spec).rpartition('/')[2]


@pytest.fixture(autouse=True)
def _memory():
    """These networks are the largest of all tests."""
    yield
    free_memory()


@pytest.fixture
def fake_data(monkeypatch):
    """Returns use(task, frames): random examples such as the config asks for, instead of any data set."""
    real = sources.open_split

    def use(task: str, frames: tuple[int, ...] = (), words: tuple[str, ...] = ()):
        masks = task == 'segmentation'
        count, classes = (4, 2) if masks else (16, 10)

        def open_split(data, image, split, *, invert=False, training=False, text=None, vocabulary=None):
            del training
            if data['source'] in ('arrays', 'points', 'seeds', 'stories'):
                return real(data, image, split, invert=invert, text=text, vocabulary=vocabulary)
            generator = np.random.default_rng(len(split) + invert)
            if task == 'skip_gram':
                return word_pairs.open_pairs([f'{LINE} {" ".join(words)}'] * 20, dict(text, min_count=1), vocabulary)
            if task == 'language_model':
                return text_source.open_stream([LINE] * 20, text, vocabulary)
            if data['source'] == 'made_texts':
                return real(data, image, split, text=text, vocabulary=vocabulary).select(np.arange(16))
            if data['source'] == 'tfds_texts':
                return texts.tokenize(text_examples.labelled([LINE, LINE[:8]] * 8, [0, 1] * 8, ('neg', 'pos'), 'lines'),
                                      text, vocabulary)
            if task == 'captioning':
                images = generator.integers(0, 256, (4, *frames, *image['size'], image['channels']), np.uint8)
                facts = [{'captions': [LINE, LINE[:8]], 'scene': {'shapes': []}}] * 4
                info = DatasetInfo(other={'grammar': 'shape_scenes'} if data['name'].startswith('shape_scenes') else {})
                return captions.tokenize(ArraySource({'image': images}, info, facts),
                                         dict(text, min_count=1), vocabulary)
            images = generator.integers(0, 256, (count, *image['size'], image['channels']), np.uint8)
            names = tuple(name for name, _ in data['merge_classes']) or ('cat', 'dog', *map(str, range(2, classes)))
            if task == 'detection':
                boxes = np.tile(np.array([4, 6, 40, 50], np.float32), (count, 3, 1))
                return ArraySource({'image': images, 'boxes': boxes, 'box_crowd': np.zeros((count, 3), np.uint8),
                                    'box_labels': np.tile(np.int32([0, 1, -1]), (count, 1))},
                                   DatasetInfo(class_names=('cat', 'dog'), input_size=tuple(image['size'])))
            if task == 'region_detection':
                facts = [{'image_number': i // 4, 'region': [0, 0, 40, 50], 'objects': [[0, 0, 4, 6, 40, 50]]}
                         for i in range(count)]
                arrays = {'label': np.arange(count, dtype=np.int32) % 2, 'box_target': np.zeros((count, 4), np.float32)}
                return ArraySource({'image': images, **arrays},
                                   DatasetInfo(class_names=('background', 'cat'), input_size=(64, 64)), facts)
            target = generator.integers(0, min(classes, len(names)), (count, *image['size']) if masks else count)
            return ArraySource({'image': images, **({'segmentation_mask': target.astype(np.uint8)} if masks else
                                                      {'label': target.astype(np.int32)})},
                               DatasetInfo(class_names=names))
        monkeypatch.setattr(sources, 'open_split', open_split)
    return use


def small(spec, fake_data):
    """The config of an experiment, made quick: small images, two examples to a step, one device."""
    config = config_lib.load(spec)
    fake_data(config.task.name, (3,) if config.model.name == 'video_captioner' else (), config.task.get('words', ()))
    most = 195 if config.model.get('padding') == 'VALID' and config.model.name == 'alexnet' else 64  # its least
    config.image.size = tuple(min(side, most) for side in config.image.size)
    config.total = '1 steps'
    config.batch_size = 2 * config.optimizer.accumulate
    config.evaluation.batch_size = min(16, config.evaluation.batch_size)
    config.parallel.devices = 1
    return config


def evaluations_of(config, training) -> tuple[tuple[str, ...], evaluation.Evaluations]:
    names = tuple(dict.fromkeys((*config.evaluation.periodic, *config.evaluation.final)))
    assert names, 'an experiment measures something'
    return names, evaluation.Evaluations(config, training.parallel, training.task, training.info, names)


@functools.cache
def kind(spec: str) -> tuple:
    """What a program is made of: the model, the task, and whether features are its input."""
    config = config_lib.load(spec)
    return config.model.name, config.task.name, bool(config.cached_features.endpoint)


def first_of_every_kind() -> list[str]:
    found = {}
    for spec in SPECS:
        found.setdefault(kind(spec), spec)
    return list(found.values())


@pytest.mark.parametrize('spec', [pytest.param(spec, marks=pytest.mark.thorough) if short(spec) in LONGEST else spec
                                  for spec in first_of_every_kind()], ids=short)
def test_takes_a_step_and_evaluates(spec, fake_data):
    config = small(spec, fake_data)
    training = components.build_training(config)
    parallel = training.parallel
    state = training.initial_state()
    before = jax.tree.map(np.asarray, state.params)
    names, evaluations = evaluations_of(config, training)
    if config.cached_features.endpoint:
        feature_cache.check(training, state)
        feature_cache.install(training, evaluations, state)
    state, metrics = training.train_step(training.place(state), training.feed(training.batches(0)))
    assert int(state.step) == 1
    metrics = training.layout.unpack(parallel.fetch(metrics))
    assert all(math.isfinite(value) for value in metrics['task'].compute().values())
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))
    if training.learning_rate(0) > 0:  # not the first step of a warm-up
        moved = jax.tree.map(lambda a, b: not np.array_equal(a, b), before, state.params)
        assert any(jax.tree.leaves(moved))

    variables = parallel.place(evaluated_variables(state.variables))
    for name in names:
        scalars = evaluation.evaluate(evaluations, name, variables).scalars(f'{name}/')
        assert all(math.isfinite(value) for value in scalars.values())


@pytest.mark.parametrize('spec', SPECS, ids=short)
def test_every_variant_is_built(spec, fake_data, caplog):
    """Fields that no model, task or optimizer has raise here, others are warned of; nothing is traced."""
    training = components.build_training(small(spec, fake_data))
    assert 'no effect of' not in caplog.text
    assert training.batches(0)


def programs() -> list:
    """SPECS; thorough are those of a kind that a spec before, or the test above, has."""
    found, params = {kind(spec) for spec in first_of_every_kind() if short(spec) not in LONGEST}, []
    for spec in SPECS:
        thorough = kind(spec) in found or short(spec) in LONG_TO_TRACE
        params.append(pytest.param(spec, marks=pytest.mark.thorough) if thorough else spec)
        found.add(kind(spec))
    return params


@pytest.mark.parametrize('spec', programs(), ids=short)
def test_every_variant_is_a_program(spec, fake_data):
    """All of it is traced, so that whatever does not fit raises; nothing is compiled or computed."""
    config = small(spec, fake_data)
    training = components.build_training(config)
    parallel = training.parallel
    state = jax.eval_shape(training.initial_state)
    names, evaluations = evaluations_of(config, training)
    _, scored = evaluations.batches(names[0])
    train_batch, eval_batch = training.batches(0), scored(0)
    if endpoint := config.cached_features.endpoint:
        feature_cache.check(training, state)
        body = forward.apply_body(training.model, endpoint)
        images = training.source.read(np.zeros(1, np.int64))['image'].astype(np.float32)
        features = jax.eval_shape(body, state.variables, {'image': images}).shape[1:]
        train_batch |= {'features': np.zeros((len(train_batch['image']), 1, *features), np.float32)}
        eval_batch |= {'features': np.zeros((len(eval_batch['image']), *features), np.float32)}
    # As `place` has it on one device.
    carry = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), state.carry)
    state = state.replace(carry=carry)
    trained, metrics = jax.eval_shape(training.train_step, state, training.feed(train_batch))
    assert jax.tree.map(np.shape, trained.params) == jax.tree.map(np.shape, state.params)
    assert metrics.shape == (len(training.layout.names),)
    variables = evaluated_variables(state.variables)
    carry = {}
    if not endpoint:
        carry = jax.eval_shape(lambda variables: evaluations.carry(names[0], variables), variables)
    variables |= {'seed': evaluations.seed, 'carry': carry}
    jax.eval_shape(evaluations.step, variables, parallel.shard(eval_batch))


@pytest.mark.parametrize('path', FILES, ids=short)
def test_header_says_what_with_which_command_and_what_came_out(path):
    header = read_header(path)
    assert header['description'].endswith('.'), 'the first line of the docstring is a sentence'
    assert header['measured'], 'lines below "Measured:" say hardware, wall time, metric and date'
    text = ast.get_docstring(ast.parse(path.read_text()))
    command = re.search(r'^Command: +python launch\.py (.+)$', text, re.MULTILINE)
    assert command, 'a line "Command:   python launch.py --config ..."'
    args, overrides = launch.parse(['train', *shlex.split(command.group(1))])
    assert config_lib.load(args.config, overrides).experiment.partition(':')[0] == path.stem
    for variant, line in header['variants'].items():
        assert line.endswith('.'), f'{variant} has a docstring of one line'


@pytest.mark.parametrize('path', FILES, ids=short)
def test_configuration_and_nothing_else(path):
    """It imports ml_collections and the defaults alone, and has at most 60 lines, docstrings and blank lines apart."""
    tree = ast.parse(path.read_text())
    imported = set()
    docstrings = 0
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add(node.module)
        if isinstance(node, (ast.Module, ast.FunctionDef)) and ast.get_docstring(node):
            docstrings += node.body[0].end_lineno - node.body[0].lineno + 1
    assert imported <= {'ml_collections', 'practicum.training.defaults'}
    assert sum(bool(line.strip()) for line in path.read_text().splitlines()) - docstrings <= 60


@pytest.mark.parametrize('spec', SPECS, ids=short)
def test_config_survives_json(spec):
    """A checkpoint carries the config as JSON; what is read back is the same config."""
    import json
    config = config_lib.load(spec)
    read = config_lib.from_dict(json.loads(json.dumps(config_lib.to_dict(config))))
    assert read == config and read.is_locked


def test_variants_are_told_apart():
    """No two specs resolve to the same config, but a second name that says so."""
    seen = {}
    for spec in SPECS:
        config = config_lib.to_dict(config_lib.load(spec))
        name = config.pop('experiment')
        text = repr(sorted(config.items()))
        again = name.endswith((':full', ':one_epoch', 'lstm:small'))
        assert text not in seen or again, f'{name} is {seen.get(text)} again'
        seen.setdefault(text, name)


def test_every_augmentation_is_a_field_and_off():
    assert base().augment.to_dict() == augmentation.DEFAULTS


def test_readme_names_every_experiment():
    readme = (config_lib.ROOT / 'README.md').read_text()
    assert [path.stem for path in FILES if path.stem not in readme] == []
