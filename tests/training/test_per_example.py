"""What an evaluation finds out about single examples: the same whatever the batches, devices and processes."""

import json

import numpy as np
import pytest

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.input_pipeline.arrays import ArraySource
from practicum.training import components, evaluation
from practicum.training import config as config_lib
from practicum.training.parallel import Parallel
from practicum.training.per_example import ExampleCollector
from practicum.training.state import evaluated_variables
from tests.tiny_segmentation import get_config, masks_and_images


class Counting:
    """Cases whose severity is a number in the example."""
    metrics = ('mean',)

    def measure(self, outputs, example, facts):
        assert outputs['twice'] == 2 * example['x']  # rows of outputs and examples belong together
        return {'x': float(example['x'])}

    def severity(self, case):
        return case['x']

    def summarize(self, cases):
        return {'mean': sum(case['x'] for case in cases) / len(cases)}


class TwoProcesses:
    """Stands for process 0 of two, with what the other one sends."""
    processes = 2

    def __init__(self, theirs=()):
        self.sent, self._theirs = b'', theirs

    def gather_bytes(self, data):
        self.sent = data
        return [data, *self._theirs]


@pytest.mark.parametrize('processes', [1, 2])
@pytest.mark.parametrize('batch_size', [2, 4, 8, 30])
def test_every_example_is_measured_once_and_the_worst_are_kept_in_order(batch_size, processes):
    """Also where every process measures the examples of its own rows and sends what it found."""
    values = np.random.RandomState(0).permutation(21).astype(np.float32) // 2  # pairs of equally bad ones
    source = ArraySource({'x': values}, DatasetInfo(), [{'name': f'n{i}'} for i in range(21)])
    collectors = [ExampleCollector(Counting(), source) for _ in range(processes)]
    for begin in range(0, 21, batch_size):
        for rows, part in zip(np.split(np.arange(begin, begin + batch_size), processes), collectors):
            batch = source.read(np.where(rows < 21, rows, 0))
            part.add(rows, {'twice': 2 * batch['x']}, batch)
    collector, *others = collectors
    theirs = [TwoProcesses() for _ in others]
    for other, sender in zip(others, theirs):
        other.join(sender)
    if others:
        collector.join(TwoProcesses([sender.sent for sender in theirs]))
    assert [kept['scores']['name'] for kept in collector.first] == [f'n{i}' for i in range(12)]
    assert [row['name'] for row in collector.rows] == [f'n{i}' for i in range(21)]
    assert collector.summary() == {'mean': pytest.approx(values.mean())}
    expected = sorted(range(21), key=lambda i: (-values[i], i))[:8]
    assert [kept['scores']['name'] for kept in collector.worst()] == [f'n{i}' for i in expected]


@pytest.fixture(scope='module')
def score(tmp_path_factory):
    """Returns score(devices, batch_size, mode): an evaluation of an untrained model on nine masks."""
    folder = masks_and_images(tmp_path_factory.mktemp('own'), count=9)

    def run(devices: int, batch_size: int, mode: str = 'pmap'):
        config = get_config()
        config.experiment = 'tiny'
        for override in (f'data.name={folder}', f'parallel.devices={devices}', f'parallel.mode={mode}',
                         f'evaluation.batch_size={batch_size}', f'batch_size={devices}', 'data.train=train'):
            config_lib.apply_override(config, override)
        trained = components.build_training(config)
        parallel = Parallel(config.parallel)
        evaluations = evaluation.Evaluations(config, parallel, trained.task, trained.info, ('validation',))
        variables = evaluated_variables(trained.initial_state().variables)
        return evaluation.evaluate(evaluations, 'validation', parallel.place(variables))
    return run


@pytest.mark.parametrize('devices, batch_size, mode', [
    (1, 2, 'pmap'), (4, 4, 'pmap'), (4, 8, 'jit'), (8, 50, 'pmap')])
def test_cases_depend_neither_on_batches_nor_on_devices(score, devices, batch_size, mode):
    wanted, found = score(1, 9), score(devices, batch_size, mode)
    assert found.examples == wanted.examples and len(found.examples) == 9
    assert json.loads(json.dumps(found.examples)) == found.examples
    assert len({case['file'] for case in found.examples}) == 9
    assert found.metrics == pytest.approx(wanted.metrics, rel=1e-5)
    for one, other in zip(found.worst, wanted.worst, strict=True):
        np.testing.assert_array_equal(one['outputs']['prediction'], other['outputs']['prediction'])
        np.testing.assert_array_equal(one['example']['image'], other['example']['image'])


def test_a_task_without_cases_has_none():
    for name, info in (('regression', DatasetInfo()), ('classification', DatasetInfo(class_names=('a', 'b')))):
        assert tasks.build({'name': name}, info).per_example is None
