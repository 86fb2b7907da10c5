"""Statistics over seeds: hand-checked, and with nothing made up where there is too little."""

import math

import pytest

from practicum.reporting.comparison import compare
from practicum.reporting.comparison_text import console_text, difference_text
from practicum.reporting.seed_groups import paired_difference, seed_groups, summarise
from tests.reporting.runs import finished_run, stopped_run


def seeds(folder, rate, values):
    """Runs of a learning rate, {seed: accuracy}."""
    for seed, value in values.items():
        finished_run(folder / f'{rate}-{seed}', (value,), optimizer__learning_rate=rate, seed=seed)


def test_mean_and_standard_deviation_over_seeds():
    summary = summarise([1.0, 2.0, 4.0])
    assert (summary.n, summary.mean) == (3, pytest.approx(7 / 3))
    assert summary.std == pytest.approx(math.sqrt(7 / 3))  # of squares 16/9 + 1/9 + 25/9, over 2
    assert summarise([5.0]).std is None


def test_the_interval_is_that_of_students_t():
    difference = paired_difference({0: 1.0, 1: 2.0, 2: 6.0, 7: 9.0}, {0: 0.0, 1: 0.0, 2: 0.0, 5: 9.0})
    # mean 3, s = sqrt(7), t(0.975, 2) = 4.302653, a table's
    half = 4.302653 * math.sqrt(7) / math.sqrt(3)
    assert (difference.n, difference.mean) == (3, 3.0)
    assert difference.low == pytest.approx(3 - half, rel=1e-6) and difference.high == pytest.approx(3 + half, rel=1e-6)


def test_too_few_shared_seeds_have_no_interval():
    one = paired_difference({0: 0.75, 1: 2.0}, {0: 0.5, 2: 0.0})
    assert (one.n, one.mean, one.low, one.high) == (1, 0.25, None, None)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert difference_text('test/accuracy', one) == '+25.00 %, 1 shared seed: no interval'
    assert difference_text('test/accuracy', None) == 'no shared seed'


def test_runs_that_differ_in_the_seed_alone_are_a_group(tmp_path):
    seeds(tmp_path, 0.1, {0: 0.80, 1: 0.82, 2: 0.84})
    seeds(tmp_path, 0.01, {0: 0.90, 1: 0.91, 2: 0.92, 3: 0.93})
    seeds(tmp_path, 0.5, {0: 0.99})  # a group of one seed says nothing of seeds
    stopped_run(tmp_path / 'stopped', (0.99,), optimizer__learning_rate=0.1, seed=3)
    groups, fields = seed_groups(compare([tmp_path]))
    assert fields == ['optimizer.learning_rate']
    best, other = groups
    assert best.config['optimizer.learning_rate'] == 0.01 and best.difference is None
    assert (best.summaries['validation/accuracy'].n, other.summaries['validation/accuracy'].n) == (4, 3)
    assert other.unfinished == 1 and other.difference.n == 3 and other.difference.mean == pytest.approx(-0.09)
    assert other.difference.low == pytest.approx(-0.09 - 4.302653 * 0.01 / math.sqrt(3), rel=1e-5)
    compared = compare([tmp_path])
    text = console_text(compared, seed_groups(compared), 200)
    assert '1 not finished is left out' in text and '82.00 % ± 2.00 %' in text
    assert '-9.00 % [-11.48 %, -6.52 %], n = 3' in text


def test_the_lowest_is_best_of_a_loss(tmp_path):
    seeds(tmp_path, 0.1, {0: 0.80, 1: 0.82})
    seeds(tmp_path, 0.01, {0: 0.90, 1: 0.91})
    groups, _ = seed_groups(compare([tmp_path], ['validation/loss']))
    assert [group.config['optimizer.learning_rate'] for group in groups] == [0.01, 0.1]
    assert groups[1].difference.mean == pytest.approx(0.095)


def test_what_is_evaluated_at_the_end_makes_no_other_group(tmp_path):
    finished_run(tmp_path / 'a', (0.5,), evaluation__final=[], tensorboard=False, seed=0)
    finished_run(tmp_path / 'b', (0.6,), evaluation__final=['test'], seed=1)
    finished_run(tmp_path / 'c', (0.7,), evaluation__every='2 epochs', seed=2)
    (group,), _ = seed_groups(compare([tmp_path]))
    assert sorted(entry.name for entry in group.entries) == ['a', 'b']


def test_a_seed_that_ran_twice_counts_once(tmp_path):
    seeds(tmp_path, 0.1, {0: 0.8, 1: 0.6})
    finished_run(tmp_path / 'again', (0.9,), optimizer__learning_rate=0.1, seed=0)
    (group,), _ = seed_groups(compare([tmp_path]))
    summary = group.summaries['validation/accuracy']
    assert (summary.n, summary.mean) == (2, pytest.approx((0.85 + 0.6) / 2))
    assert [entry.name for entry in group.entries] == ['again', '0.1-0', '0.1-1']


def test_one_seed_twice_is_no_group(tmp_path):
    for name in 'ab':
        finished_run(tmp_path / name, (0.5,), seed=0)
    assert seed_groups(compare([tmp_path])) == ([], [])
