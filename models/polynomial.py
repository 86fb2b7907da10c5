"""A polynomial of one variable."""

import flax.linen as nn
import jax
import jax.numpy as jnp


class Polynomial(nn.Module):
    """y = c0 T0(x) + c1 T1(x) + ... with Chebyshev's polynomials T.

    They span what 1, x, x^2, ... do, and unlike those are of one size on [-1, 1], so that gradient descent gets on.

    Attributes:
      degree: the highest power of x.
    """
    degree: int = 1

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """x: float [batch], best in [-1, 1] -> y: float32 [batch]."""
        del train
        coefficients = self.param('coefficients', nn.initializers.zeros, (self.degree + 1,), jnp.float32)
        terms = [jnp.ones_like(x), x]
        while len(terms) <= self.degree:
            terms.append(2 * x * terms[-1] - terms[-2])
        return jnp.stack(terms[:self.degree + 1], axis=-1) @ coefficients
