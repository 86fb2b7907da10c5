"""What a task may leave out, and what the engine promises to one: inputs by name, keys, figures of a model."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import tasks
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline.arrays import ArraySource
from practicum.tasks import Task
from practicum.training import components, evaluation
from practicum.training.loop import train
from practicum.training.state import evaluated_variables
from tests.tiny import tiny_config


class Shortest(Task):
    """Nothing but its formula: the mean of the outputs should be the mean of the image."""

    def model_fields(self):
        return {'num_classes': 3}

    def score(self, outputs, batch):
        return {'loss': (outputs.mean(-1) - batch['image'].mean((1, 2, 3))) ** 2}


class Noisy(Shortest):
    """Asks for random numbers, and draws what the model is."""
    needs_rng = True

    def score(self, outputs, batch):
        noise = jax.vmap(jax.random.uniform)(batch['rng'])
        return {'loss': super().score(outputs, batch)['loss'] + noise}

    def model_figures(self, model, variables):
        from matplotlib.figure import Figure
        figure = Figure(figsize=(1, 1))
        figure.add_subplot().imshow(np.asarray(variables['params']['logits']['kernel']))
        return {'weights': figure}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    monkeypatch.setitem(tasks.TASKS, 'shortest', Shortest)
    monkeypatch.setitem(tasks.TASKS, 'noisy', Noisy)


def config(task: str, *overrides: str):
    made = tiny_config('checkpoint.best_metric=validation/loss', 'checkpoint.best_mode=min', *overrides)
    with made.unlocked():
        made.task = {'name': task}
    return made


def losses_of(training: components.Training, steps: int) -> list[float]:
    """The loss of each of the first steps."""
    state = training.place(training.initial_state())
    found = []
    for step in range(steps):
        state, metrics = training.train_step(state, training.parallel.shard(training.batches(step)))
        found.append(training.layout.unpack(training.parallel.fetch(metrics))['task'].compute()['loss'])
    return found


def test_a_task_is_its_formula(tmp_path):
    """It trains, evaluates, saves the best and ends with a result without a method more."""
    assert train(config('shortest'), tmp_path) == 0
    result = json.loads((tmp_path / 'result.json').read_text())
    assert set(result['metrics']) == {'validation/loss', 'test/loss'} and result['best']['metric'] == 'validation/loss'


def test_what_is_drawn_from_the_model_alone_is_a_file_of_the_run(tmp_path):
    assert train(config('noisy', 'figures=True'), tmp_path / 'drawn') == 0
    assert (tmp_path / 'drawn' / 'weights.png').stat().st_size > 100
    assert train(config('noisy', 'figures=False'), tmp_path / 'quick') == 0
    assert not list((tmp_path / 'quick').glob('*.png'))


@pytest.mark.parametrize('devices, batch_size, mode', [(1, 64, 'pmap'), (4, 28, 'pmap'), (2, 500, 'jit')])
def test_random_numbers_of_an_evaluation_depend_on_nothing_but_seed_and_example(devices, batch_size, mode):
    made = config('noisy', f'parallel.devices={devices}', f'evaluation.batch_size={batch_size}',
                  f'parallel.mode={mode}')
    training = components.build_training(made)
    found = evaluation.Evaluations(made, training.parallel, training.task, training.info, ('validation',))
    variables = training.parallel.place(evaluated_variables(training.initial_state().variables))
    loss = evaluation.evaluate(found, 'validation', variables).metrics['loss']
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.fold_in(jax.random.key(made.seed), 2), jnp.arange(180))
    quiet = config('shortest')
    plain = evaluation.Evaluations(quiet, training.parallel, tasks.build(quiet.task, training.info), training.info,
                                   ('validation',))
    expected = evaluation.evaluate(plain, 'validation', variables).metrics['loss']
    expected += float(np.mean(jax.vmap(jax.random.uniform)(keys)))
    assert loss == pytest.approx(expected, abs=1e-6)


def test_random_numbers_of_a_step_depend_on_seed_step_and_row_alone():
    def losses(devices: int, seed: int) -> list[float]:
        training = components.build_training(config('noisy', f'parallel.devices={devices}', f'seed={seed}',
                                                    'optimizer.learning_rate=1e-9', 'optimizer.accumulate=2'))
        return losses_of(training, steps=2)
    one, four = losses(1, 0), losses(4, 0)
    assert one == pytest.approx(four, abs=1e-6) and abs(one[0] - one[1]) > 1e-4
    assert abs(one[0] - losses(1, 1)[0]) > 1e-4


def test_inputs_are_named_by_the_task_and_may_be_named_in_the_config(monkeypatch):
    """A pair of features, neither of which is called 'image'."""
    class Pair(Task):
        input_features = ('left', 'right')

    values = {'left': np.zeros((4, 3), np.float32), 'right': np.ones((4, 5), np.float32)}
    task = Pair({'name': 'pair'}, ArraySource(values, DatasetInfo()).info)
    assert [value.shape for value in task.inputs(values)] == [(4, 3), (4, 5)]
    task = Pair({'name': 'pair', 'inputs': ('right',)}, DatasetInfo())
    assert [value.shape for value in task.inputs(values)] == [(4, 5)]


def test_inputs_that_the_data_lack_are_one_line():
    made = config('shortest')
    with made.unlocked():
        made.task.inputs = ('sound',)
    with pytest.raises(UserError, match="needs 'sound' in the examples; they have: image, label"):
        components.build_training(made).initial_state()


@pytest.mark.parametrize('mode', ['pmap', pytest.param('jit', marks=pytest.mark.thorough)])
def test_mixed_batches_do_not_depend_on_the_number_of_devices(mode):
    """The partner of an image is chosen in the global batch, so that it may lie on another device."""
    def losses(devices: int, *overrides: str) -> list[float]:
        training = components.build_training(tiny_config(f'parallel.devices={devices}', f'parallel.mode={mode}',
                                                         *overrides))
        return losses_of(training, steps=3)
    mixed = ('augment.mixup=0.4', 'augment.cutmix=1.0')
    one = losses(1, *mixed)
    assert one == pytest.approx(losses(4, *mixed), rel=1e-5)
    assert abs(one[0] - losses(1)[0]) > 1e-3


def test_images_are_not_mixed_for_a_task_that_would_not_notice():
    with pytest.raises(UserError, match='mixup and cutmix mix labels, which the task noisy does not take'):
        components.build_training(config('noisy', 'augment.mixup=0.2'))
