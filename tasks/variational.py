"""Variational autoencoding: images as draws from a distribution over codes."""

import math
from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from . import reconstruction_figures as figures_lib
from .metrics import Mean
from .reconstruction import Reconstruction, of_model, pixel_cross_entropy

_SAMPLES, _WALKS, _STEPS, _PLANE = 10, 8, 12, 20  # sides of the grids that are drawn
_KEY = 0x5a3  # of what is drawn from the model alone; any number


class Variational(Reconstruction):
    """Minus the evidence lower bound, in nats: what is lost of the image, and what the code says beyond its prior.

    Kingma and Welling 2014, "Auto-encoding variational Bayes", with one code drawn for each image: the cross-entropy of
    its pixels, each a Bernoulli distribution, plus KL(q(z | x) || N(0, 1)) in closed form. In evaluations each example
    has its own draw, always the same one; `predict` takes the mean of the codes.

    Args:
      config: 'binary': whether pixels are drawn to be 0 or 1, with the grey value as the probability of 1, anew in
        every step and always alike in evaluations (Salakhutdinov and Murray 2008). Only then does the loss bound a
        log-probability of images; of grey values it is the usual figure, and comparable with the same of others.
        'per_example': see `Reconstruction`.
      info: not used.
    """
    fields = ('binary', 'per_example')
    noise_fields = ('binary',)
    primary_metric = 'loss'
    needs_rng = True

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        self.needs_rng, self.binary = True, config.get('binary', False)
        if not isinstance(self.binary, bool):
            raise UserError(f'config.task.binary = {self.binary!r}: it is True or False')

        @flax.struct.dataclass
        class Metrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            reconstruction_nats: Mean.from_output('reconstruction_nats')
            kl_nats: Mean.from_output('kl_nats')
            squared_error: Mean.from_output('squared_error')

        self.train_metrics = self.eval_metrics = Metrics

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[Any, ...]:
        """Returns the images, and the keys that codes are drawn with; no keys if the batch has no 'rng'."""
        images, = super().inputs(batch)
        return images, jax.vmap(jax.random.fold_in, (0, None))(batch['rng'], 1) if 'rng' in batch else None

    def given(self, images: jax.Array, batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the images, of drawn pixels if they are to be binary."""
        if not self.binary or 'rng' not in batch:
            return images
        keys = jax.vmap(jax.random.fold_in, (0, None))(batch['rng'], 0)
        return jax.vmap(jax.random.bernoulli)(keys, images).astype(jnp.float32)

    def target(self, outputs: Mapping[str, jax.Array], batch: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the images as the model saw them."""
        return self.given(super().target(outputs, batch), batch)

    def score(self, outputs: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each image.

        Args:
          outputs: {'logits', 'mean', 'log_variance'} of models/vae.py.
          batch: as for `Reconstruction`.

        Returns:
          Each [batch]: 'loss', 'reconstruction_nats' plus 'kl_nats', and what `Reconstruction` says.
        """
        outputs = of_model(outputs)
        if 'log_variance' not in outputs:
            raise UserError("config.task.name: variational takes a distribution over codes, which this model does not "
                            "give: config.model.name = 'vae', or another config.task")
        scores = super().score(outputs, batch)
        nats = pixel_cross_entropy(outputs['logits'], self.target(outputs, batch))
        kl = kl_from_standard_normal(outputs['mean'], outputs['log_variance'])
        return scores | {'loss': nats + kl, 'reconstruction_nats': nats, 'kl_nats': kl}

    def model_figures(self, model: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Returns 'samples', images of codes drawn from the prior, and 'latent_walk'.

        The walk is from one drawn code to another, step by step, in every row. Of a code of two numbers it is the whole
        plane, at equal steps of the prior's probability (figure 4 of Kingma and Welling).
        """
        @jax.jit
        def decode(codes):
            return jax.nn.sigmoid(model.apply(variables, codes, begin='code')['logits'])

        def images(codes):
            return np.asarray(decode(codes.reshape(-1, codes.shape[-1]))).reshape(*codes.shape[:2], *model.image_shape)

        draw, walk = jax.random.split(jax.random.key(_KEY))
        samples = jax.random.normal(draw, (_SAMPLES, _SAMPLES, model.code))
        if model.code == 2:
            steps = jax.scipy.stats.norm.ppf((jnp.arange(_PLANE) + 0.5) / _PLANE)
            codes, title = jnp.stack(jnp.meshgrid(steps, steps), axis=-1), 'the plane of codes'
        else:
            codes, title = walks(walk, model.code), 'from one drawn code to another'
        return {'samples': figures_lib.draw_grid(images(samples), 'images of codes drawn from the prior'),
                'latent_walk': figures_lib.draw_grid(images(codes), title)}


def kl_from_standard_normal(mean: jax.Array, log_variance: jax.Array) -> jax.Array:
    """Returns KL(N(mean, exp(log_variance)) || N(0, 1)) summed over the last axis, in nats (appendix B of the paper).

    Args:
      mean, log_variance: [batch, code].
    """
    return 0.5 * jnp.sum(mean ** 2 + jnp.exp(log_variance) - 1 - log_variance, axis=-1)


def walks(key: jax.Array, code: int) -> jax.Array:
    """Returns codes on arcs between pairs of drawn ones, [walks, steps, code].

    An arc keeps the length that codes of the prior have, which a straight line between two would leave.
    """
    begin, end = jax.random.normal(key, (2, _WALKS, 1, code))
    angle = jnp.linspace(0, math.pi / 2, _STEPS)[:, None]
    return jnp.cos(angle) * begin + jnp.sin(angle) * end
