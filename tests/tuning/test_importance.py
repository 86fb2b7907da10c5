"""Importances of config fields: what has an effect is found, what says nothing is left out."""

import random

import pytest

from practicum.tuning.importance import FEWEST_RUNS, importances


def drawn(count):
    draw = random.Random(0)
    params = [{'optimizer.learning_rate': 10 ** draw.uniform(-4, -1), 'optimizer.name': draw.choice(['adam', 'sgd']),
               'model.hidden': draw.choice([[64], [64, 64]]), 'remat': draw.choice([True, False]),
               'batch_size': 32, 'model.noise': draw.random()} for _ in range(count)]
    return params, [-(row['optimizer.learning_rate'] ** 0.25) - 0.02 * (row['optimizer.name'] == 'sgd')
                    for row in params]


def test_what_has_an_effect_is_found():
    params, values = drawn(60)
    found = importances(params, values)
    assert list(found)[0] == 'optimizer.learning_rate' and found['optimizer.learning_rate'] > 0.8
    assert sum(found.values()) == pytest.approx(1) and list(found.values()) == sorted(found.values(), reverse=True)
    assert set(found) == {*params[0]} - {'batch_size'}
    assert importances(params, values) == found  # the same every time


@pytest.mark.parametrize('shift', [0, -1])
def test_what_cannot_be_judged_is_left_out(shift):
    params, values = drawn(FEWEST_RUNS + shift)
    for i, row in enumerate(params):
        row['name'] = f'unique{i}'
        row['huge'] = 10 ** 400 if i % 2 else 'x'
    del params[3]['model.noise']
    found = importances(params, values)
    assert bool(found) == (shift == 0)
    assert not {'name', 'model.noise', 'batch_size'} & set(found)


def test_equal_values_and_no_fields_say_nothing():
    params, _ = drawn(30)
    assert importances(params, [0.5] * 30) == {}
    assert importances([{}] * 30, list(range(30))) == {}
    assert importances([], []) == {}
