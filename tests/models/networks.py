"""What tests of several network families share."""

import functools
import re

import flax
import jax
import jax.numpy as jnp
import numpy as np


def shapes_of(model, shape, **arguments):
    """The variables of a model as shapes; shape: of its images."""
    return jax.eval_shape(lambda key, images: model.init(key, images, **arguments), jax.random.key(0),
                          jax.ShapeDtypeStruct(shape, jnp.float32))


def parameter_count(model, shape=(1, 224, 224, 3)):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes_of(model, shape)['params']))


def module_paths(variables):
    """The paths of modules that have parameters of their own, such as 'inception3a/branch1/conv'."""
    return {path.rpartition('/')[0] for path in flax.traverse_util.flatten_dict(variables['params'], sep='/')}


def random_variables(model, shape, seed=0):
    """Variables that keep values of the order of one in any depth, without the seconds that init takes to compile."""
    random = np.random.default_rng(seed)

    def draw(path, leaf):
        if path[-1] == 'kernel':
            return random.normal(size=leaf.shape, scale=(2 / np.prod(leaf.shape[:-1])) ** 0.5)
        if path[-1] in ('scale', 'var'):
            return random.uniform(0.5, 1.5, leaf.shape)
        return random.normal(size=leaf.shape, scale=0.1)

    flat = flax.traverse_util.flatten_dict(shapes_of(model, shape))
    return flax.traverse_util.unflatten_dict(
        {path: jnp.asarray(draw(path, leaf), jnp.float32) for path, leaf in sorted(flat.items())})


def random_images(shape, seed=1):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def endpoint_shapes(model, shape, endpoints):
    """endpoint -> the shape of its value without the batch."""
    variables = shapes_of(model, shape)
    images = jax.ShapeDtypeStruct(shape, jnp.float32)
    return {endpoint: jax.eval_shape(lambda variables, images, endpoint=endpoint: model.apply(
        variables, images, features=endpoint), variables, images).shape[1:] for endpoint in endpoints}


def check_head_and_body(model, shape, endpoint):
    """The network is its body up to an endpoint and its head from there, each with its own variables alone."""
    variables, images = random_variables(model, shape), random_images(shape)
    whole = jax.jit(model.apply)(variables, images)
    names = set(shapes_of(model, shape, features=endpoint)['params'])
    assert 0 < len(names) < len(variables['params'])
    body = {kind: {name: leaf for name, leaf in tree.items() if name in names} for kind, tree in variables.items()}
    head = {kind: {name: leaf for name, leaf in tree.items() if name not in names} for kind, tree in variables.items()}
    value = jax.jit(functools.partial(model.apply, features=endpoint))(body, images)
    found = jax.jit(functools.partial(model.apply, begin=endpoint))(head, value)
    np.testing.assert_allclose(found, whole, rtol=1e-5, atol=1e-5)
    assert np.std(whole) > 0.01


def check_gradients(model, shape):
    """Every parameter has a gradient in training that is finite and not zero."""
    variables, images = random_variables(model, shape), random_images(shape)
    params, rest = variables.pop('params'), variables

    def loss(params):
        outputs, _ = model.apply({'params': params, **rest}, images, train=True, rngs={'dropout': jax.random.key(2)},
                                 mutable=['batch_stats'])
        return -sum(jax.nn.log_softmax(logits)[:, 0].mean() for logits in jax.tree.leaves(outputs))

    for path, gradient in flax.traverse_util.flatten_dict(jax.jit(jax.grad(loss))(params), sep='/').items():
        assert np.isfinite(gradient).all() and np.any(gradient), path


def check_dropout(model, shape):
    """Dropout draws from its key in training and is absent otherwise."""
    variables, images = random_variables(model, shape), random_images(shape)

    def train(seed):
        outputs, _ = model.apply(variables, images, train=True, rngs={'dropout': jax.random.key(seed)},
                                 mutable=['batch_stats'])
        return np.asarray(outputs)

    assert np.array_equal(train(0), train(0)) and not np.allclose(train(0), train(1))
    without = model.clone(dropout=0.0)
    assert np.array_equal(model.apply(variables, images), without.apply(variables, images))


def check_torchvision_names(model, torch_modules, shape=(1, 224, 224, 3)):
    """Every module of torchvision's that has parameters becomes one of ours, and every one of ours is given once."""
    def path(module):
        found = [re.sub(pattern, replacement, module) for pattern, replacement in model.torchvision_names()
                 if re.fullmatch(pattern, module)]
        assert len(found) == 1, f'{module} has {len(found)} names here: {found}'
        return found[0]

    ours = [path(module) for module in torch_modules]
    assert len(set(ours)) == len(ours)
    assert set(ours) == module_paths(shapes_of(model, shape))
