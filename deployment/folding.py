"""BatchNorm that uses running averages, as part of the convolution or dense layer before it."""

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ..models import layers

_LAYERS = (nn.Dense, nn.Conv, nn.ConvTranspose, layers.Conv, layers.ConvTranspose)  # these; subclasses may do more
_NORMS = (nn.BatchNorm, layers.BatchNorm)


def folded(function: Callable) -> Callable:
    """Returns a function of flax modules that computes the same with fewer operations.

    Where what goes into a BatchNorm comes right out of a layer, the result is computed by that layer with other
    parameters: (x @ kernel + bias - mean) * factor + shift = x @ (kernel * factor) + ((bias - mean) * factor + shift).
    The layer alone is no longer computed, unless something else uses its outputs. Modules stay as they are: flax asks
    an interceptor before it calls one. Weights given as numpy arrays stay numbers while JAX traces the function.

    XLA gains nothing by it, ONNX Runtime a quarter of ResNet-50's time (docs/how-to/onnx.md).
    """
    def call(*args: Any, **kwargs: Any) -> Any:
        made: dict[int, tuple] = {}  # id of an output -> (the output, its layer, the layer's input)

        def intercept(method: Callable, arguments: tuple, keywords: Mapping[str, Any], context: Any) -> Any:
            module = context.module
            if context.method_name != '__call__' or len(arguments) < 1:
                return method(*arguments, **keywords)
            if type(module) in _LAYERS and len(arguments) == 1 and not keywords:
                outputs = method(*arguments)
                made[id(outputs)] = outputs, module, arguments[0]
                return outputs
            if type(module) in _NORMS and id(arguments[0]) in made and _averages(module, arguments, keywords):
                _, layer, x = made[id(arguments[0])]
                # Not bound: the interceptor must not take this call for one of the network's.
                return layer.clone(parent=None, name=None, use_bias=True).apply({'params': _parameters(layer, module)},
                                                                                x)
            return method(*arguments, **keywords)

        with nn.intercept_methods(intercept):
            return function(*args, **kwargs)
    return call


def _averages(module: nn.BatchNorm, arguments: tuple, keywords: Mapping[str, Any]) -> bool:
    """Whether a BatchNorm of the last axis uses its running averages."""
    given = keywords.get('use_running_average', arguments[1] if len(arguments) > 1 else None)
    return bool(given or module.use_running_average) and module.axis == -1 and keywords.get('mask') is None


def _parameters(layer: nn.Module, norm: nn.BatchNorm) -> dict[str, Any]:
    """The kernel and the bias of a layer whose outputs go through a BatchNorm."""
    own, scaling = layer.variables['params'], norm.variables.get('params', {})
    averages = norm.variables['batch_stats']
    xp = jnp if any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves((own, norm.variables))) else np
    factor = scaling.get('scale', np.float32(1)) / xp.sqrt(averages['var'] + np.float32(norm.epsilon))
    shift = scaling.get('bias', np.float32(0)) - averages['mean'] * factor
    return {'kernel': own['kernel'] * factor, 'bias': own['bias'] * factor + shift if 'bias' in own else shift}
