"""precision = 'bfloat16' computes in bfloat16 and learns in float32."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.training import components
from tests.tiny import tiny_config


def take_steps(precision: str, model: tuple[str, ...], steps: int = 3):
    """Returns the training and its state after some steps on one device, with the loss of each."""
    training = components.build_training(tiny_config(f'precision={precision}', 'parallel.devices=1', 'ema_decay=0.9',
                                                     'augment.shift=0.0', *model))
    parallel = training.parallel
    state = training.place(training.initial_state())
    losses = []
    for step in range(steps):
        state, metrics = training.train_step(state, parallel.shard(training.batches(step)))
        losses.append(training.layout.unpack(parallel.fetch(metrics))['task'].compute()['loss'])
    return training, state, losses


@pytest.fixture(scope='module')
def runs():
    return {precision: take_steps(precision, ('model.dropout=0.0',)) for precision in ('float32', 'bfloat16')}


def test_everything_that_is_kept_stays_float32(runs):
    """Parameters, optimizer state, moving averages: small updates must not be rounded away."""
    _, state, _ = runs['bfloat16']
    kept = {jax.tree_util.keystr(path): leaf.dtype for path, leaf in jax.tree_util.tree_leaves_with_path(state)}
    assert {dtype for dtype in kept.values() if jnp.issubdtype(dtype, jnp.floating)} == {jnp.dtype('float32')}


def test_the_model_computes_in_bfloat16(runs):
    training, state, _ = runs['bfloat16']
    jaxpr = jax.make_jaxpr(lambda variables, *inputs: training.model.apply(variables, *inputs, train=False))(
        {'params': state.params}, *training.example())
    products = [equation for equation in _equations(jaxpr.jaxpr) if equation.primitive.name == 'dot_general']
    assert len(products) == 2
    assert {str(operand.aval.dtype) for product in products for operand in product.invars} == {'bfloat16'}
    assert jaxpr.out_avals[0].dtype == jnp.float32  # the logits, so that the loss is exact


def test_the_loss_is_nearly_that_of_float32(runs):
    exact, rounded = runs['float32'][2], runs['bfloat16'][2]
    assert exact != rounded
    np.testing.assert_allclose(rounded, exact, rtol=0.02)


def _equations(jaxpr):
    for equation in jaxpr.eqns:
        yield equation
        for value in equation.params.values():
            for inner in value if isinstance(value, (list, tuple)) else (value,):
                if hasattr(inner, 'jaxpr'):
                    yield from _equations(inner.jaxpr)
                elif hasattr(inner, 'eqns'):
                    yield from _equations(inner)
