"""Batch normalization as in `flax.linen.BatchNorm`, by the means that are fast on the device at hand."""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax


class BatchNorm(nn.Module):
    """Batch normalization over all axes but the last, interchangeable with nn.BatchNorm in its variables.

    Ioffe and Szegedy 2015, "Batch normalization: accelerating deep network training by reducing internal covariate
    shift". As in nn.BatchNorm, running averages move by 1 - momentum and average the biased variance.

    Attributes:
      use_running_average: whether to normalize by the running averages, which then stay as they are.
      momentum: how much of a running average a step keeps; 0.9 is what PyTorch calls 0.1.
      epsilon: added to the variance.
      dtype: of the outputs; statistics, their averages and parameters are float32.
      axis_name: mapped axis over which the batch is split; None for one device.
      scale_init: initializer of the scale.
    """

    use_running_average: bool = False
    momentum: float = 0.9
    epsilon: float = 1e-5
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    scale_init: nn.initializers.Initializer = nn.initializers.ones_init()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Normalizes x, float [..., channels], per channel."""
        channels = (x.shape[-1],)
        running_mean = self.variable('batch_stats', 'mean', jnp.zeros, channels, jnp.float32)
        running_var = self.variable('batch_stats', 'var', jnp.ones, channels, jnp.float32)
        scale = self.param('scale', self.scale_init, channels)
        bias = self.param('bias', nn.initializers.zeros_init(), channels)
        if self.use_running_average:
            return _scaled(x, running_mean.value, running_var.value + self.epsilon, scale, bias).astype(self.dtype)
        axis_name = None if self.is_initializing() else self.axis_name
        # Measured on CPUs only; on GPUs XLA's own gradient is fine.
        normalize = _normalize if jax.default_backend() != 'cpu' else _cpu_normalize
        outputs, mean, var = normalize(x, scale, bias, self.epsilon, axis_name)
        if not self.is_initializing():
            running_mean.value = self.momentum * running_mean.value + (1 - self.momentum) * mean
            running_var.value = self.momentum * running_var.value + (1 - self.momentum) * var
        return outputs.astype(self.dtype)


def _normalize(x, scale, bias, epsilon, axis_name):
    """Returns float32 outputs, mean and biased variance of the batch."""
    axes = tuple(range(x.ndim - 1))
    values = x.astype(jnp.float32)
    mean = _mean_over_devices(values.mean(axes), axis_name)
    var = _mean_over_devices(jnp.square(values - mean).mean(axes), axis_name)
    return _scaled(x, mean, var + epsilon, scale, bias), mean, var


def _scaled(x, mean, var, scale, bias):
    return (x.astype(jnp.float32) - mean) * (lax.rsqrt(var) * scale) + bias


def _mean_over_devices(x, axis_name):
    return x if axis_name is None else lax.pmean(x, axis_name)


# XLA's gradient of the above keeps intermediate results as large as x. This one reads x and the gradient of the
# outputs twice, once for their sums and once for the result: Ioffe and Szegedy 2015, section 3, with the chain rule
# collected. Statistics pass no gradient on by themselves: they go into running averages only.


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _cpu_normalize(x, scale, bias, epsilon, axis_name):
    return _normalize(x, scale, bias, epsilon, axis_name)


def _cpu_normalize_forward(x, scale, bias, epsilon, axis_name):
    outputs, mean, var = _normalize(x, scale, bias, epsilon, axis_name)
    return (outputs, mean, var), (x, mean, lax.rsqrt(var + epsilon), scale)


def _cpu_normalize_backward(epsilon, axis_name, residuals, gradients):
    del epsilon
    x, mean, inverse_std, scale = residuals
    gradient = gradients[0]
    axes = tuple(range(x.ndim - 1))
    normalized = (x.astype(jnp.float32) - mean) * inverse_std
    bias_gradient, scale_gradient = gradient.sum(axes), (gradient * normalized).sum(axes)
    count = math.prod(x.shape[:-1])
    offset = _mean_over_devices(bias_gradient / count, axis_name)
    slope = _mean_over_devices(scale_gradient / count, axis_name)
    x_gradient = (gradient - offset - normalized * slope) * (scale * inverse_std)
    return x_gradient.astype(x.dtype), scale_gradient, bias_gradient


_cpu_normalize.defvjp(_cpu_normalize_forward, _cpu_normalize_backward)
