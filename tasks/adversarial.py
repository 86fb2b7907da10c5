"""Generative adversarial training: a generator and a discriminator learn against each other, in one gradient."""

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
from .animation import Frame
from .metrics import Mean
from .prediction import Prediction, sigmoid
from .task import Task
from .variational import walks

_SIDE = 10  # of the grid of samples
_KEY = 0x5a3  # of the latent points that are drawn; any number


class Adversarial(Task):
    """Cross-entropy of telling real images from generated ones, and the generator's of passing them off as real.

    Goodfellow et al. 2014, "Generative adversarial nets", with the generator's loss that does not saturate (section 3).
    The loss is the sum of both, and its gradient is that of both players at once: the discriminator's loss does not
    reach the generator, nor the generator's loss the parameters of the discriminator, see models/gan.py. Both move in
    one step; config.optimizer.learning_rate_scales gives each a rate of its own, ('generator/.*', 0.5), and
    config.ema_decay draws from an average of the generator. Statistics of BatchNorm are the generator's alone, of
    every batch that it makes.

    No loss says how good the images are: look at them, or measure, see benchmarks/frechet.py.

    Args:
      config: 'smoothing': what real images' label 1 is lowered by for the discriminator, in [0, 1) (Salimans et al.
        2016, "Improved techniques for training GANs", one-sided label smoothing).
      info: not used.

    Raises:
      UserError: a field is out of range.
    """
    fields = ('smoothing',)
    primary_metric = 'generator_loss'
    needs_rng = takes_pixels = figures_over_time = True
    takes_top_k = False

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        self.smoothing = config.get('smoothing', 0.0)
        if type(self.smoothing) not in (int, float) or not 0 <= self.smoothing < 1:
            raise UserError(f'config.task.smoothing = {self.smoothing!r}: it is a share of the label 1, from 0 on and '
                            'below 1')
        self._generate = None

        @flax.struct.dataclass
        class Metrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            discriminator_loss: Mean.from_output('discriminator_loss')
            generator_loss: Mean.from_output('generator_loss')
            real_accuracy: Mean.from_output('real_accuracy')
            fake_accuracy: Mean.from_output('fake_accuracy')

        self.train_metrics = self.eval_metrics = Metrics

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[Any, ...]:
        """Returns the images, and the keys that latent points are drawn with; None if the batch has no 'rng'."""
        images, = super().inputs(batch)
        return images, batch.get('rng')

    def score(self, outputs: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each image and the one that was generated beside it.

        Args:
          outputs: {'logits', 'fake_logits', 'fooled_logits'} of models/gan.py.
          batch: not used.

        Returns:
          Each [batch]: 'discriminator_loss', 'generator_loss' and their sum 'loss', in nats; 'real_accuracy' and
          'fake_accuracy', 1 where the discriminator is right about the real image, or the generated one: whether its
          probability is above what the best one has where both are equally likely, (1 - smoothing) / 2.
        """
        del batch
        if not isinstance(outputs, Mapping) or 'fooled_logits' not in outputs:
            raise UserError("config.task.name: adversarial takes a generator and a discriminator, which this model has "
                            "not: config.model.name = 'gan' or 'dcgan', or another config.task")
        real, fake, fooled = (outputs[name] for name in ('logits', 'fake_logits', 'fooled_logits'))
        discriminator = ((1 - self.smoothing) * jax.nn.softplus(-real) + self.smoothing * jax.nn.softplus(real)
                         + jax.nn.softplus(fake))
        generator = jax.nn.softplus(-fooled)
        middle = math.log((1 - self.smoothing) / (1 + self.smoothing))
        return {'loss': discriminator + generator, 'discriminator_loss': discriminator, 'generator_loss': generator,
                'real_accuracy': (real > middle).astype(jnp.float32),
                'fake_accuracy': (fake < middle).astype(jnp.float32)}

    def decode(self, outputs: Mapping[str, jax.Array]) -> jax.Array:
        """Returns the discriminator's logits."""
        return outputs['logits']

    def predict(self, outputs: np.ndarray, image: np.ndarray, metadata: Mapping[str, Any], top_k: int) -> Prediction:
        """Returns how likely the discriminator finds it that an image is real.

        Args:
          outputs: of `decode`, a scalar.
          image, metadata, top_k: not used.
        """
        del image, metadata, top_k
        return Prediction({'real': float(sigmoid(np.asarray(outputs, np.float64)))})

    def describe(self, row: Mapping[str, Any]) -> str:
        """Returns a prediction as one line: 'real, thinks the discriminator: 48.1 %'."""
        return f"real, thinks the discriminator: {100 * row['real']:.1f} %"

    def model_figures(self, model: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Returns 'samples' of latent points that are always the same, for a GIF over time, too, and 'latent_walk'.

        The walk is from one drawn point to another, step by step, in every row.
        """
        if self._generate is None:  # compiled once for all evaluations
            self._generate = jax.jit(lambda variables, latents: model.apply(variables, latents, method='generate'))
        draw, walk = jax.random.split(jax.random.key(_KEY))

        def images(latents):
            found = np.asarray(self._generate(variables, latents.reshape(-1, latents.shape[-1])))
            return found.reshape(*latents.shape[:2], *model.image_shape)
        samples = images(jax.random.normal(draw, (_SIDE, _SIDE, model.latent)))
        return {'samples': figures_lib.draw_grid(samples, 'generated, always of the same latent points'),
                'samples_over_time': Frame(figures_lib.sheet(samples)),
                'latent_walk': figures_lib.draw_grid(images(walks(walk, model.latent)),
                                                     'from one latent point to another')}
