"""Networks can stop at an endpoint and begin after one."""

import pytest

from practicum.common.errors import UserError
from practicum.models.stages import mark, run_stages, watching


def stages(calls):
    """Stages over text that append their name, and note that they ran."""
    def stage(name):
        def run(x):
            calls.append(name)
            return x + name
        return name, run
    return [stage(name) for name in ('a', 'b', 'c')]


@pytest.mark.parametrize('begin, features, value', [
    (None, None, '_abc'), (None, 'b', '_ab'), (None, 'c', '_abc'), ('a', None, '_bc'), ('a', 'b', '_b'),
    ('b', 'c', '_c'),
])
def test_runs_only_what_lies_between_the_endpoints(begin, features, value):
    calls = []
    assert run_stages(stages(calls), '_', begin=begin, features=features) == value
    assert '_' + ''.join(calls) == value


@pytest.mark.parametrize('arguments, message', [
    ({'features': 'convv5_3'}, r"no endpoint 'convv5_3'; did you mean conv5_3"),
    ({'begin': 'nothing'}, r"no endpoint 'nothing'; .*conv5_2, conv5_3"),
    ({'begin': 'conv5_3', 'features': 'conv5_2'}, "'conv5_2' does not come after 'conv5_3'; in order: conv5_2, conv5"),
    ({'begin': 'conv5_3', 'features': 'conv5_3'}, "'conv5_3' does not come after 'conv5_3'"),
    ({'begin': 'conv5_3'}, "'conv5_3' does not come after 'conv5_3'"),
])
def test_mistakes_name_the_endpoints(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        run_stages([('conv5_2', len), ('conv5_3', len)], '', **arguments)
    assert '\n' not in str(error.value)


def test_a_watch_sees_every_endpoint_in_order_and_may_replace_its_value():
    seen = []

    def watch(name, value):
        seen.append((name, value))
        return 100 * value if name == 'second' else value
    stages = [('first', lambda x: x + 1), ('second', lambda x: 2 * x), ('third', lambda x: x + 5)]
    with watching(watch):
        with watching(None):
            assert run_stages(stages, 3) == 13
        assert run_stages(stages, 3) == 805 and mark('fourth', 7) == 7
    assert run_stages(stages, 3) == 13 and mark('fourth', 7) == 7
    assert seen == [('first', 4), ('second', 8), ('third', 805), ('fourth', 7)]


def test_nobody_watches_after_an_error():
    with pytest.raises(ZeroDivisionError), watching(lambda name, value: 1 / 0):
        mark('first', 1)
    assert mark('first', 1) == 1
