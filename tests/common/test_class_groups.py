"""Classes meant by names and regular expressions."""

import pytest

from practicum.common.class_groups import group_of_classes, matching
from practicum.common.errors import UserError


@pytest.mark.parametrize('pattern, expected', [
    ('dog', 'dog'), ('DOG', 'dog'), ('d.*', 'dog Dingo'), ('.*o', 'Dingo'), ('[a-z]+', 'dog Dingo cat c'),
    ('c++', 'c++'), ('C++', 'c++'), ('cat', 'cat'), ('Cat', 'Cat'), ('CAT', 'cat Cat'), ('c.t', 'cat'),
    ('ca.*|Dingo', 'Dingo cat'),
])
def test_case_counts_only_where_nothing_else_differs(pattern, expected):
    names = ('dog', 'Dingo', 'cat', 'Cat', 'c++', 'c')
    assert [name for name, hit in zip(names, matching(pattern, names, 'field')) if hit] == expected.split()


def test_the_first_group_has_a_class():
    assert group_of_classes([('b',), ('a', '.*b.*')], ('a', 'b', 'ab', 'c'), 'field').tolist() == [1, 0, 1, -1]


@pytest.mark.parametrize('pattern, message', [
    ('(', "config.field: .* is not a regular expression"), (3, 'config.field: 3 is not a regular expression'),
    ('dgo', "config.field: 'dgo' matches no class; did you mean dog?"),
])
def test_a_mistake_is_named(pattern, message):
    with pytest.raises(UserError, match=message):
        matching(pattern, ('dog', 'cat'), 'config.field')
