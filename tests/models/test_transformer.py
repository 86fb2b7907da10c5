"""A transformer says the same of a text in one piece or token by token, and looks back no further than it may."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum import models
from practicum.common.errors import UserError
from practicum.models.attention import rotated

TOKENS = np.random.default_rng(0).integers(0, 9, (2, 13))


def build(**fields):
    return models.build({'name': 'transformer', 'width': 8, 'layers': 2, 'heads': 2, 'context': 4, **fields},
                        vocabulary_size=9)


@pytest.fixture(scope='module')
def read():
    """Returns read(tokens, carry) -> outputs of a model with weights that make a difference."""
    model = build()
    shapes = jax.eval_shape(model.init, jax.random.key(0), TOKENS)
    random = np.random.default_rng(1)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.7, leaf.shape), jnp.float32), shapes)
    return jax.jit(lambda tokens, carry=None: model.apply(variables, tokens, carry))


@pytest.fixture(scope='module')
def whole(read):
    return np.asarray(read(TOKENS)['logits'])


def test_token_by_token_is_the_whole_text(read, whole):
    """Beyond the context, too; the first call reads nothing at all, and gives the state of the beginning."""
    carry = read(TOKENS[:, :0])['carry']
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(carry))
    found = []
    for begin, end in ((0, 3), *((place, place + 1) for place in range(3, 10)), (10, 13)):
        outputs = read(TOKENS[:, begin:end], carry)
        carry = outputs['carry']
        found.append(outputs['logits'])
    np.testing.assert_allclose(np.concatenate(found, axis=1), whole, rtol=1e-4, atol=1e-4)
    assert np.std(whole) > 0.1


def test_rows_begin_where_their_carry_is_zero(read, whole):
    turned = TOKENS[::-1]
    carry = jax.tree.map(lambda leaf: np.array(leaf) * np.array([1, 0]).reshape(-1, *(1,) * (leaf.ndim - 1)),
                         read(TOKENS)['carry'])
    found = read(turned[:, :3], carry)['logits']
    np.testing.assert_allclose(found[1], whole[0, :3], rtol=1e-4, atol=1e-4)
    assert not np.allclose(found[0], whole[1, :3], atol=1e-2)


def test_it_sees_the_context_of_every_layer_and_nothing_that_comes(read, whole):
    changed = TOKENS.copy()
    changed[:, 5] = (changed[:, 5] + 1) % 9
    differs = np.abs(np.asarray(read(changed)['logits']) - whole).max(axis=(0, 2)) > 1e-4
    assert differs.tolist() == [5 <= place <= 5 + 2 * 3 for place in range(13)]


def test_rotation_leaves_distances_alone():
    x, y = np.random.default_rng(2).normal(size=(2, 1, 6, 1, 4)).astype(np.float32)
    products = [np.einsum('bqhs,bkhs->qk', rotated(x, first), rotated(y, first)) for first in (0, 100)]
    np.testing.assert_allclose(*products, atol=1e-3)
    assert not np.allclose(products[0], np.einsum('bqhs,bkhs->qk', x, y), atol=0.1)


def test_parameters_are_those_of_gpt_2_without_places():
    shapes = jax.eval_shape(build(width=128, layers=4, heads=4).init, jax.random.key(0), TOKENS)
    of_a_block = 12 * 128 ** 2 + 13 * 128
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 9 * 128 + 4 * of_a_block + 2 * 128


@pytest.mark.parametrize('fields, message', [
    ({'heads': 3}, 'config.model.width = 8 must be an even number for each of config.model.heads = 3'),
    ({'heads': 8}, 'config.model.width = 8 must be an even number for each of config.model.heads = 8'),
    ({'context': 1}, 'config.model.context = 1: a token sees')])
def test_what_does_not_fit(fields, message):
    with pytest.raises(UserError, match=message):
        jax.eval_shape(build(**fields).init, jax.random.key(0), TOKENS)
