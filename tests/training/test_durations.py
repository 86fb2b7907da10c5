"""'10 epochs' and its like become whole steps."""

import pytest

from practicum.common.errors import UserError
from practicum.training.durations import parse, to_steps


def steps(text, batch_size=64, num_examples=1000):
    return to_steps(text, batch_size=batch_size, num_examples=num_examples, field='total')


@pytest.mark.parametrize('text, expected', [
    ('300 steps', 300), ('1 step', 1), ('300steps', 300), ('  7 steps ', 7), ('1_000 steps', 1000), ('1e3 steps', 1000),
    ('2.5 steps', 3), ('0 steps', 0), ('', 0), ('  ', 0),
    ('640 examples', 10), ('641 examples', 11), ('1e6 examples', 15625), ('1 example', 1),
    ('16 epochs', 250), ('1 epochs', 16), ('0.5 epochs', 8), ('1 epoch', 16), ('0 epochs', 0),
])
def test_converts(text, expected):
    assert steps(text) == expected


@pytest.mark.parametrize('num_examples', [1, 63, 64, 65, 1000, 1258, 60000])
@pytest.mark.parametrize('batch_size', [1, 7, 64, 128, 5000])
def test_an_epoch_shows_every_example_and_no_step_more(batch_size, num_examples):
    found = steps('1 epochs', batch_size, num_examples)
    assert found * batch_size >= num_examples > (found - 1) * batch_size


def test_rounding_of_floats_adds_no_step():
    """0.1 + 0.2 is more than 0.3; an epoch in tenths must not gain a step by that."""
    for tenths in range(1, 100):
        assert steps(f'{tenths / 10} epochs', 10, 100) == tenths


@pytest.mark.parametrize('wrong', ['10', 'epochs', '10 weeks', '-1 steps', 'ten steps', '1e999 steps', '1_ steps',
                                   '1__0 steps', '1.2.3 steps', '10 steps 5', '10 Steps', 'nan steps', 'inf steps',
                                   '1e3e3 steps'])
def test_anything_else_is_an_error_that_names_field_and_units(wrong):
    with pytest.raises(UserError) as failure:
        steps(wrong)
    assert 'config.total' in str(failure.value) and repr(wrong) in str(failure.value)
    assert "'10 epochs'" in str(failure.value)


@pytest.mark.parametrize('number', [10, 2.5, None, (1, 2)])
def test_a_number_without_unit_is_an_error_that_offers_units(number):
    with pytest.raises(UserError, match=r'config\.total.*unit'):
        steps(number)


@pytest.mark.parametrize('text, expected', [('1e3 step', (1000.0, 'steps')), ('1_0epochs', (10.0, 'epochs')),
                                            ('', (0.0, 'steps')), ('10', None), ('1__0 steps', None), ('None', None)])
def test_the_config_the_report_and_training_read_durations_alike(text, expected):
    assert parse(text) == expected


def test_a_long_wrong_one_is_a_short_error():
    with pytest.raises(UserError) as failure:
        steps('9' * 5000)
    assert len(str(failure.value)) < 400
