"""Variational autoencoder."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from .autoencoder import check_shape, dense_stages, image_logits
from .stages import run_stages


class VAE(nn.Module):
    """Dense layers to a normal distribution over codes, and from a code drawn from it back to the image.

    Kingma and Welling 2014, "Auto-encoding variational Bayes", with ReLUs: q(z | x) = N(mean, exp(log_variance)),
    p(z) = N(0, 1), and p(x | z) Bernoulli for every pixel.

    Endpoints: hidden1, hidden2, ... (after the ReLU), code (a draw, or the mean), decoder1, ..., logits. From `begin` =
    'code' on it is the generative model: codes drawn from N(0, 1) become images.

    Attributes:
      image_shape: height, width and channels of the images.
      hidden: widths of the layers before the code, and in reverse order after it.
      code: numbers of the code.
      dtype: of the computation; parameters, logits and the distribution over codes are float32.
    """

    image_shape: tuple[int, int, int] = (28, 28, 1)
    hidden: tuple[int, ...] = (400,)
    code: int = 20
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, keys: jax.Array | None = None, *, train: bool = False,
                 features: str | None = None, begin: str | None = None) -> Any:
        """Encodes and decodes images.

        Args:
          images: float [batch, *image_shape] in [0, 1]; or the value of endpoint `begin`.
          keys: one PRNG key per example, [batch], to draw the code with; None for its mean.
          train: makes no difference.
          features: endpoint whose value to return; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          {'logits': float32 [batch, *image_shape]}, and if the code was computed 'mean' and 'log_variance' of it,
          float32 [batch, code]; or the value of `features`.

        Raises:
          UserError: no such endpoint, or images of another shape.
        """
        del train
        posterior = {}

        def draw_code(x: jax.Array) -> jax.Array:
            for name in ('mean', 'log_variance'):
                posterior[name] = nn.Dense(self.code, dtype=self.dtype, name=name)(x).astype(jnp.float32)
            if keys is None:
                return posterior['mean']
            noise = jax.vmap(lambda key: jax.random.normal(key, (self.code,)))(keys)
            return posterior['mean'] + jnp.exp(posterior['log_variance'] / 2) * noise

        if begin is None:
            images = check_shape(images, self.image_shape).reshape(images.shape[0], -1)
        stages = [*dense_stages('hidden', self.hidden, self.dtype), ('code', draw_code),
                  *dense_stages('decoder', self.hidden[::-1], self.dtype),
                  ('logits', functools.partial(image_logits, self.image_shape, self.dtype))]
        found = run_stages(stages, images.astype(self.dtype), begin=begin, features=features)
        return found if features else {'logits': found, **posterior}
