"""experiments/retinopathy.py on what tfds makes of made-up photographs: five grades become two classes."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from practicum.training import config as config_lib
from practicum.training.loop import train


@pytest.fixture(scope='module')
def data_dir(tmp_path_factory):
    """tfds' own builder, fed with noise instead of Kaggle's archives; grade g has g in five bright pixels."""
    from practicum.common.tensorflow import import_tensorflow
    import_tensorflow()
    import tensorflow_datasets as tfds
    folder = tmp_path_factory.mktemp('tfds')
    builder = tfds.builder('diabetic_retinopathy_detection/btgraham-300', data_dir=folder, file_format='array_record')

    def examples(count, seed):
        generator = np.random.default_rng(seed)
        for i in range(count):
            grade = int(generator.integers(0, 5))
            pixels = np.where(generator.random((24, 24, 3)) < grade / 5, 255, 0).astype(np.uint8)
            file = io.BytesIO()
            Image.fromarray(pixels).save(file, 'PNG')
            file.seek(0)
            yield f'{i}_left', {'name': f'{i}_left', 'image': file, 'label': grade}

    builder._generate_examples = examples
    builder._split_generators = lambda _: [
        tfds.core.SplitGenerator(name=name, gen_kwargs={'count': count, 'seed': seed})
        for seed, (name, count) in enumerate((('train', 40), ('validation', 16), ('test', 24)))]
    builder.download_and_prepare()
    return folder


def test_two_classes_and_their_auc(data_dir, tmp_path):
    """With a small network in GoogLeNet's place, which tests/test_experiments.py builds and trains."""
    config = config_lib.load('retinopathy:scratch', [
        f'data.data_dir={data_dir}', 'total=2 steps', 'batch_size=8', 'image.size=(24, 24)', 'tensorboard=False',
        'evaluation.every=2 steps', 'evaluation.batch_size=24'])
    with config.unlocked():
        config.model = {'name': 'small_cnn', 'features': (4,), 'block_dropout': (0.0,), 'hidden': 8}
    assert train(config, tmp_path / 'run') == 0
    found = json.loads((tmp_path / 'run' / 'result.json').read_text())
    assert 0 <= found['metrics']['test/auc'] <= 1
    assert found['best']['metric'] == 'validation/auc'

    cases = json.loads((tmp_path / 'run' / 'test_examples.json').read_text())['examples']
    grades = np.random.default_rng(2)
    expected = []
    for _ in range(24):
        expected.append(int(grades.integers(0, 5)))
        grades.random((24, 24, 3))
    assert sum(case['class'] == 'healthy' for case in cases) == expected.count(0) > 0
    assert {case['class'] for case in cases} == {'healthy', 'retinopathy'}
    table = (tmp_path / 'run' / 'test_per_class.csv').read_text().splitlines()
    assert [line.partition(',')[0] for line in table] == ['class', 'healthy', 'retinopathy']
