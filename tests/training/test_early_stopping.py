"""A training ends when a metric no longer gets better, and ends there again when it is started again."""

import json

import pytest

from practicum.common.errors import UserError
from practicum.training import components
from practicum.training.checkpoints import Checkpoints
from practicum.training.defaults import base
from practicum.training.early_stopping import EarlyStopping
from practicum.training.loop import train
from tests.tiny import tiny_config

# A learning rate of next to nothing: the first evaluation is the best to two digits.
STILL = ('optimizer.learning_rate=1e-12', 'total=40 steps', 'evaluation.every=4 steps', 'checkpoint.every=8 steps',
         'early_stopping.metric=validation/accuracy', 'early_stopping.patience=2')


def section(**fields):
    config = base().early_stopping
    config.update(metric='validation/loss', mode='min', patience=2, **fields)
    return config


def test_patience_is_counted_in_evaluations_without_improvement():
    stopping = EarlyStopping(section())
    values = [3.0, 2.0, 2.0, 1.5, float('nan'), 1.6]
    assert [stopping.update(step, {'validation/loss': value}) for step, value in enumerate(values)] == [
        False, False, False, False, False, True]
    assert 'step 3' in str(stopping) and 'validation/loss' in str(stopping)


def test_an_evaluation_done_again_counts_once():
    stopping = EarlyStopping(section())
    stopping.update(1, {'validation/loss': 1.0})
    again = EarlyStopping(section(), json.loads(json.dumps(stopping.to_json())))
    for _ in range(3):
        assert not again.update(2, {'validation/loss': 1.0})
    assert again.update(3, {'validation/loss': 1.0})


def test_min_delta():
    stopping = EarlyStopping(section(min_delta=0.1))
    assert [stopping.update(step, {'validation/loss': 1 - 0.06 * step}) for step in range(4)] == [
        False, False, False, False]  # every second one is better by more than 0.1
    assert stopping.to_json()['best'] == pytest.approx(0.88)


def test_a_run_ends_early_with_its_final_evaluation_and_stays_ended(tmp_path, caplog):
    assert train(tiny_config(*STILL), tmp_path) == 0
    result = json.loads((tmp_path / 'result.json').read_text())
    assert result['step'] == 12 and 'test/accuracy' in result['metrics']  # 4, and two evaluations without improvement
    with Checkpoints(tmp_path, writable=False) as checkpoints:
        assert checkpoints.steps()[-1] == 12
    before = (tmp_path / 'metrics.jsonl').read_bytes()
    caplog.set_level('INFO')
    assert train(tiny_config(*STILL), tmp_path) == 0
    assert 'this run is finished at step 12' in caplog.text
    assert (tmp_path / 'metrics.jsonl').read_bytes() == before
    assert train(tiny_config(*STILL, 'early_stopping.patience=4'), tmp_path) == 0  # more patience: it goes on
    assert json.loads((tmp_path / 'result.json').read_text())['step'] == 20


@pytest.mark.parametrize('override, message', [
    ('early_stopping.metric=validation/acuracy', 'did you mean validation/accuracy'),
    ('early_stopping.mode=up', "'max' or 'min'"), ('early_stopping.patience=0', 'at least 1')])
def test_mistakes(override, message):
    with pytest.raises(UserError, match=message):
        components.build_training(tiny_config('early_stopping.metric=validation/loss', override))
