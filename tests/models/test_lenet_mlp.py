"""LeNet and MLP are the published networks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.models.lenet import LeNet
from practicum.models.mlp import MLP


def shapes_of(model, shape=(2, 28, 28, 1)):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros(shape))


def example(model, shape=(2, 28, 28, 1)):
    """Variables and images with random values, without the seconds that init takes to compile."""
    random = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: jnp.asarray(random.normal(size=leaf.shape, scale=0.05), leaf.dtype), shapes_of(model, shape)
    )
    return variables, jnp.asarray(random.random(shape), jnp.float32)


def parameter_count(model):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model)['params']))


@pytest.mark.parametrize(
    'model, count',
    [
        (LeNet(10), 431_080),  # Caffe's: 520 + 25,050 + 400,500 + 5,010.
        (LeNet(10, features=(32, 64), hidden=1024), 832 + 51_264 + 1_049_600 + 10_250),
        (LeNet(26, features=(40, 100), hidden=1000), 1_040 + 100_100 + 1_601_000 + 26_026),
        (MLP(10), 669_706),  # 401,920 + 262,656 + 5,130.
        (MLP(10, hidden=()), 7_850),
    ],
)
def test_parameter_count(model, count):
    assert parameter_count(model) == count


class _PlainLeNet(nn.Module):
    """LeNet from flax's own layers, under the same names."""

    padding: str
    relu_after_pool1: bool

    @nn.compact
    def __call__(self, images):
        x = nn.Conv(20, (5, 5), padding=self.padding, name='conv1')(images)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(x) if self.relu_after_pool1 else x
        x = nn.Conv(50, (5, 5), padding=self.padding, name='conv2')(x)
        x = nn.max_pool(x, (2, 2), (2, 2))
        x = nn.relu(nn.Dense(500, name='dense1')(x.reshape(x.shape[0], -1)))
        return nn.Dense(10, name='logits')(x)


@pytest.mark.parametrize(
    'shape, padding, relu_after_pool1',
    [
        ((4, 28, 28, 1), 'VALID', False),
        ((4, 28, 28, 1), 'VALID', True),
        ((4, 8, 8, 3), 'SAME', False),
    ],
)
def test_lenet_equals_flax_layers(shape, padding, relu_after_pool1):
    plain = _PlainLeNet(padding, relu_after_pool1)
    model = LeNet(10, padding=padding, relu_after_pool1=relu_after_pool1)
    variables, images = example(model, shape)

    def logits_and_gradients(model):
        def loss(variables):
            logits = model.apply(variables, images)
            return (logits**2).sum(), logits

        gradients, logits = jax.jit(jax.grad(loss, has_aux=True))(variables)
        return logits, gradients

    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        logits_and_gradients(model),
        logits_and_gradients(plain),
    )


@pytest.mark.parametrize('model', [LeNet(10, dtype=jnp.bfloat16), MLP(10, dtype=jnp.bfloat16)])
def test_bfloat16_computes_with_float32_params_gradients_and_logits(model):
    variables, images = example(model)

    @jax.jit
    def logits_and_gradients(variables):
        logits, vjp = jax.vjp(lambda variables: model.apply(variables, images), variables)
        return logits, vjp(jnp.ones_like(logits))[0]

    logits, gradients = logits_and_gradients(variables)
    for leaf in jax.tree.leaves((variables, logits, gradients)):
        assert leaf.dtype == jnp.float32
    full = model.clone(dtype=jnp.float32).apply(variables, images)
    assert not np.array_equal(logits, full)  # It did compute in bfloat16,
    np.testing.assert_allclose(logits, full, rtol=0.1, atol=0.03)  # and the same thing.


@pytest.mark.parametrize('model', [LeNet(10, dropout=0.5), MLP(10, hidden=(32,), dropout=0.5)])
def test_dropout_is_active_in_training_only(model):
    variables, images = example(model)

    def train_logits(seed):
        return model.apply(variables, images, train=True, rngs={'dropout': jax.random.key(seed)})

    without = model.clone(dropout=0.0)
    np.testing.assert_array_equal(model.apply(variables, images), without.apply(variables, images))
    assert not np.array_equal(train_logits(0), train_logits(1))
    np.testing.assert_array_equal(train_logits(0), train_logits(0))


def test_lenet_starts_from_the_values_of_flax_layers():
    def initial(model):
        return jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))

    jax.tree.map(np.testing.assert_array_equal, initial(LeNet(10, padding='SAME')),
                 initial(_PlainLeNet('SAME', False)))


def test_module_names():
    assert set(shapes_of(LeNet(10))['params']) == {'conv1', 'conv2', 'dense1', 'logits'}
    assert set(shapes_of(MLP(3, hidden=(4, 5)))['params']) == {'dense1', 'dense2', 'logits'}
