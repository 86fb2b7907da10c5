"""Runs trained at once are the runs that each of them is alone: numbers, files, ends, failures and resumption."""

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import practicum
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.batches import TrainBatches, batches_of_runs
from practicum.training import population
from practicum.training.checkpoints import Checkpoints
from practicum.training.loop import train
from practicum.training.population import train_population
from tests.conftest import ROOT
from tests.tiny import tiny_config
from tests.tiny_text import text_config, write_corpus

ONE = 'parallel.devices=1'
DECAY = ('optimizer.name=adamw', 'optimizer.weight_decay=0.01')
# Log lines, evaluations and checkpoints fall on different steps.
UNEVEN = ('total=16 steps', 'log_every=5 steps', 'evaluation.every=4 steps', 'evaluation.batch_size=64',
          'checkpoint.every=6 steps', 'ema_decay=0.9', 'checkpoint.best_metric=validation/loss')


def outcome(workdir: Path) -> dict:
    """Returns all that the clock does not change: rows, result, and arrays by step."""
    rows = [json.loads(line) for line in (workdir / 'metrics.jsonl').read_text().splitlines()]
    for row in rows:
        row.pop('timings', None)
    result = json.loads((workdir / 'result.json').read_text())
    with Checkpoints(workdir, writable=False) as checkpoints:
        arrays = {step: checkpoints.restore(step).arrays for step in checkpoints.steps()}
        best = checkpoints.best_step()
    return {'rows': rows, 'result': {key: result[key] for key in ('step', 'metrics', 'best', 'seed')},
            'arrays': arrays, 'best': best}


def assert_same(found: dict, expected: dict, tolerance: float = 1e-5) -> None:
    """Compares two outcomes; 0: bit by bit."""
    assert [list(row) for row in found['rows']] == [list(row) for row in expected['rows']]
    for mine, other in zip(found['rows'], expected['rows']):
        assert mine == pytest.approx(other, rel=10 * tolerance, abs=tolerance)
    assert found['result']['metrics'] == pytest.approx(expected['result']['metrics'], rel=10 * tolerance,
                                                       abs=tolerance)
    for key in ('step', 'best', 'seed'):
        assert found['result'][key] == expected['result'][key]
    assert found['best'] == expected['best'] and list(found['arrays']) == list(expected['arrays'])
    for step, arrays in expected['arrays'].items():
        assert found['arrays'][step].keys() == arrays.keys()
        for path, array in arrays.items():
            np.testing.assert_allclose(found['arrays'][step][path], array, rtol=0, atol=tolerance, err_msg=path)


def files(workdir: Path) -> set[str]:
    """The files of a run, without those that Orbax names at random."""
    return {path.relative_to(workdir).as_posix() for path in workdir.rglob('*')
            if not {'d', 'ocdbt.process_0', 'source'} & set(path.relative_to(workdir).parts)}


def configs(*different: str, common=()) -> list:
    """Returns a tiny config for each override."""
    return [tiny_config(ONE, *common, *override.split()) for override in different]


def train_both(chosen: list, tmp_path: Path, alone: int) -> list[dict]:
    """Trains a population, and one of its runs alone too, which must be the same; returns all outcomes."""
    folders = [tmp_path / f'member{number}' for number in range(len(chosen))]
    assert train_population(chosen, folders) == 0
    train(chosen[alone], tmp_path / 'alone')
    assert_same(outcome(folders[alone]), outcome(tmp_path / 'alone'))
    assert files(folders[alone]) == files(tmp_path / 'alone')
    assert (folders[alone] / 'config.json').read_text() == (tmp_path / 'alone' / 'config.json').read_text()
    return list(map(outcome, folders))


def test_members_with_dropout_augmentation_averages_and_decay_are_the_runs_alone(tmp_path):
    chosen = configs('seed=3', 'seed=4 optimizer.learning_rate=0.01', 'optimizer.weight_decay=0.3',
                     common=(*DECAY, *UNEVEN, 'schedule.name=cosine', 'optimizer.accumulate=2'))
    found = train_both(chosen, tmp_path, alone=1)
    assert len({json.dumps(one['result']['metrics']) for one in found}) == 3


@pytest.mark.thorough
def test_members_of_one_seed_share_their_batches(tmp_path):
    chosen = configs('optimizer.learning_rate=0.002', 'optimizer.learning_rate=0.004', common=('total=6 steps',))
    train_both(chosen, tmp_path, alone=1)


@pytest.mark.thorough
def test_a_language_model_carries_the_state_of_each_member(tmp_path):
    corpus = write_corpus(tmp_path / 'corpus')
    chosen = [text_config(corpus, ONE, f'seed={seed}') for seed in (0, 1)]
    for one in train_both(chosen, tmp_path, alone=1):
        assert any('carry' in path for path in one['arrays'][12])


@pytest.mark.thorough
def test_a_network_of_convolutions_is_warned_of(tmp_path, caplog):
    chosen = [practicum.config('digits_lenet', [ONE, 'tensorboard=False', 'total=3 steps', 'batch_size=8',
                                                'data.on_device=True', f'seed={seed}']) for seed in (0, 1)]
    train_both(chosen, tmp_path, alone=1)
    assert 'usually slower' in caplog.text


@pytest.mark.thorough
def test_each_member_stops_early_on_its_own(tmp_path):
    stopping = ('total=40 steps', 'early_stopping.metric=validation/loss', 'early_stopping.mode=min',
                'early_stopping.patience=2')
    chosen = configs('optimizer.learning_rate=0.5', 'optimizer.learning_rate=0.002', common=stopping)
    found = train_both(chosen, tmp_path, alone=0)
    assert found[0]['result']['step'] < found[1]['result']['step'] == 40
    train(chosen[1], tmp_path / 'other')
    assert_same(found[1], outcome(tmp_path / 'other'))


@pytest.mark.thorough
def test_a_member_whose_loss_is_not_finite_ends_alone(tmp_path, caplog):
    chosen = configs('seed=0', 'seed=1 optimizer.learning_rate=1e30', 'seed=2', common=('optimizer.name=sgd',))
    folders = [tmp_path / f'seed{number}' for number in range(3)]
    for _ in range(2):  # the same command again is the same again
        caplog.clear()
        with pytest.raises(UserError, match='^1 of 3 runs .* seed1; the others are finished$'):
            train_population(chosen, folders)
        lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith('seed1: the ')]
        assert len(lines) == 1 and 'is not finite (learning rate 1e+30)' in lines[0] and '\n' not in lines[0]
        assert not (folders[1] / 'result.json').exists()
    with Checkpoints(folders[1], writable=False) as checkpoints:
        assert checkpoints.steps() == []
    train(chosen[2], tmp_path / 'alone')
    assert_same(outcome(folders[2]), outcome(tmp_path / 'alone'))


@pytest.fixture(scope='module')
def undisturbed(tmp_path_factory) -> tuple[list, list[Path], list[dict]]:
    """Configs, folders and outcomes of a population. Tests only read them."""
    folder = tmp_path_factory.mktemp('undisturbed')
    chosen = configs('seed=0', 'seed=1', 'seed=2', common=UNEVEN)
    folders = [folder / f'seed{seed}' for seed in range(3)]
    assert train_population(chosen, folders) == 0
    return chosen, folders, list(map(outcome, folders))


def test_members_that_were_left_behind_catch_up_and_end_in_the_same_bits(undisturbed, tmp_path):
    """As SIGKILL leaves them that comes after the save of one and before those of others."""
    chosen, folders, expected = undisturbed
    again = [tmp_path / folder.name for folder in folders]
    for before, after in zip(folders, again):
        shutil.copytree(before, after)
        (after / 'result.json').unlink()
    shutil.rmtree(again[0] / 'checkpoints' / '16')  # at its step before the last
    shutil.rmtree(again[1] / 'checkpoints')  # nothing was saved
    assert train_population(chosen, again) == 0
    for member, one in zip(again, expected):
        assert_same(outcome(member), one, 0)


def test_a_finished_population_changes_nothing(undisturbed, caplog):
    chosen, folders, _ = undisturbed
    before = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob('*') if path.is_file()}
    assert train_population(chosen, folders) == 0
    after = {path: path.stat().st_mtime_ns for folder in folders for path in folder.rglob('*') if path.is_file()}
    assert after == before


@pytest.mark.thorough
def test_a_member_can_be_extended_alone(undisturbed, tmp_path):
    _, folders, _ = undisturbed
    shutil.copytree(folders[1], tmp_path / 'seed1')
    train(tiny_config(ONE, *UNEVEN, 'seed=1', 'total=20 steps'), tmp_path / 'seed1')
    train(tiny_config(ONE, *UNEVEN, 'seed=1', 'total=20 steps'), tmp_path / 'whole')
    last = [outcome(tmp_path / name)['arrays'][20] for name in ('seed1', 'whole')]
    for path, array in last[1].items():
        np.testing.assert_allclose(last[0][path], array, rtol=0, atol=1e-5, err_msg=path)


def launch_arguments(workdir: Path) -> list[str]:
    return ['--config', str(ROOT / 'tests' / 'tiny.py'), '--workdir', str(workdir), '--config.population=3',
            *(f'--config.{option}' for option in UNEVEN)]


def interrupt(workdir: Path, when: str, number: signal.Signals) -> subprocess.CompletedProcess:
    """Runs tests/training/interrupted.py; returns the ended process."""
    driver = ROOT / 'tests' / 'training' / 'interrupted.py'
    done = subprocess.run([sys.executable, str(driver), when, number.name, *launch_arguments(workdir)], cwd=ROOT,
                          capture_output=True, text=True, timeout=120)
    assert f'sending {number.name}' in done.stderr, (done.stdout, done.stderr)
    return done


@pytest.mark.thorough
def test_a_population_that_is_killed_or_stopped_ends_in_the_same_bits(run_launch, undisturbed, tmp_path):
    _, _, expected = undisturbed
    done = interrupt(tmp_path, 'save:0.02', signal.SIGKILL)
    assert done.returncode == -signal.SIGKILL and 'DAMAGED' not in done.stdout, (done.stdout, done.stderr)
    done = interrupt(tmp_path, 'row:2', signal.SIGTERM)
    assert done.returncode == 143 and 'asked to stop: saved step' in done.stdout, (done.stdout, done.stderr)
    assert done.stderr.count('\n') == 1
    done = run_launch(*launch_arguments(tmp_path))
    assert done.returncode == 0 and 'tiny, 3 runs: seed0, seed1, seed2' in done.stdout, (done.stdout, done.stderr)
    for seed, one in enumerate(expected):
        assert_same(outcome(tmp_path / f'seed{seed}'), one, 0)


def test_from_the_command_line_and_from_python(call_launch, tmp_path):
    arguments = ['--config', ROOT / 'tests' / 'tiny.py', '--workdir', tmp_path, '--config.population=2',
                 '--config.seed=5', '--config.total=4 steps', f'--config.{ONE}']
    done = call_launch(*arguments)
    assert done.code == 0 and 'tiny, 2 runs: seed5, seed6' in done.out
    assert sorted(path.name for path in tmp_path.iterdir()) == ['seed5', 'seed6']
    for seed in (5, 6):
        saved = json.loads((tmp_path / f'seed{seed}' / 'config.json').read_text())
        assert (saved['seed'], saved['population']) == (seed, 1)
    results = practicum.train(ROOT / 'tests' / 'tiny.py', tmp_path, ['population=2', 'seed=5', 'total=4 steps', ONE])
    assert [result['seed'] for result in results] == [5, 6]
    values = [result['metrics']['test/loss'] for result in results]
    line = next(line for line in done.out.splitlines() if line.startswith('test/loss'))
    assert line.split()[1:3] == [f'{np.mean(values):.4g}', f'{np.std(values, ddof=1):.4g}']


@pytest.mark.parametrize('common, different, message', [
    ((), ('', 'optimizer.b1=0.8'), 'seed, optimizer.learning_rate, optimizer.weight_decay alone.*config.optimizer.b1'),
    ((), ('', 'data.name=mnist'), 'config.data.name'),
    (DECAY, ('', 'optimizer.weight_decay=0.0'), 'config.optimizer.weight_decay is 0 in some'),
    ((), ('', 'optimizer.learning_rate=0.0'), 'config.optimizer.learning_rate = 0.0'),
    (('cached_features.endpoint=x',), ('', 'seed=1'), 'config.cached_features'),
    (('writers=mlflow',), ('', 'seed=1'), 'config.writers: mlflow'),
    (('parallel.devices=2',), ('', 'seed=1'), 'set config.parallel.devices=1'),
    (('population=2',), ('', 'seed=1'), 'config.population = 2'),
])
def test_what_cannot_be_a_population_is_said_before_anything_is_written(common, different, message, tmp_path):
    chosen = [tiny_config(ONE, *common, *override.split()) for override in different]
    with pytest.raises(UserError, match=message) as error:
        train_population(chosen, [tmp_path / 'a', tmp_path / 'b'])
    assert '\n' not in str(error.value) and not list(tmp_path.iterdir())


def test_two_members_do_not_share_a_folder_and_a_population_has_members(tmp_path):
    with pytest.raises(UserError, match='the same workdir'):
        train_population(configs('seed=0', 'seed=1'), [tmp_path / 'a', tmp_path / 'a'])
    with pytest.raises(UserError, match='config.population = 0: it must be at least 1'):
        population.train(tiny_config('population=0'), tmp_path)


def test_batches_of_runs_are_the_batches_of_each():
    source = ArraySource({'x': np.arange(50)}, DatasetInfo())
    together = batches_of_runs(source, 8, [3, 7, 3])
    for step in (0, 5, 6, 13):
        expected = np.stack([TrainBatches(source, 8, seed)(step)['x'] for seed in (3, 7, 3)])
        np.testing.assert_array_equal(together(step)['x'], expected)
    np.testing.assert_array_equal(batches_of_runs(source, 8, [7, 7])(4)['x'], TrainBatches(source, 8, 7)(4)['x'])
