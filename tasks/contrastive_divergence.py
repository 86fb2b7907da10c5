"""Contrastive divergence: restricted Boltzmann machines that learn to prefer the data to what they dream of."""

from collections.abc import Mapping
from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np
from clu import metrics as clu_metrics

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError
from ..models import rbm
from . import reconstruction_figures as figures_lib
from .animation import Frame
from .metrics import Mean
from .reconstruction import Reconstruction, of_model

_FILTERS, _CHAINS, _SHOWN = 10, 6, 10  # sides of the grids that are drawn, and chains that are shown on their way
_MOMENTS = (1, 3, 10, 30, 100, 300)  # steps after which chains are shown
_KEY = 0x5a3  # of what is drawn from the model alone; any number


class ContrastiveDivergence(Reconstruction):
    """Free energy of the data minus that of where Gibbs chains end, whose gradient is contrastive divergence's.

    Hinton 2002, "Training products of experts by minimizing contrastive divergence". Pixels and the hidden units of
    layers below are drawn to be 0 or 1 anew in every step, and always alike in evaluations (Salakhutdinov and Murray
    2008). There 'loss' is a figure to watch and not a log-probability, see benchmarks/log_probability.py; the
    difference of 'free_energy' between training and validation digits grows where a machine learns by heart (Hinton
    2012, "A practical guide to training RBMs").

    Args:
      config: 'steps', of the chains, k of CD-k. 'persistent': whether the chains go on in the next batch from where
        they are, from all zeros in the beginning, instead of from the data (Tieleman 2008, "Training restricted
        Boltzmann machines using approximations to the likelihood gradient"): there are as many as rows in a batch.
        Evaluations begin at the data in both. 'per_example': see `Reconstruction`.
      info: not used.

    Raises:
      UserError: a field is out of range.
    """
    fields = ('steps', 'persistent', 'per_example')
    needs_rng = figures_over_time = True
    init_examples = 1000

    def __init__(self, config: Mapping[str, Any], info: DatasetInfo):
        super().__init__(config, info)
        self.needs_rng = True
        self.steps, self.persistent = config.get('steps', 1), config.get('persistent', False)
        if type(self.steps) is not int or self.steps < 1:
            raise UserError(f'config.task.steps = {self.steps!r}: a chain takes steps, a whole number from 1 on')
        if not isinstance(self.persistent, bool):
            raise UserError(f'config.task.persistent = {self.persistent!r}: it is True or False')

        @flax.struct.dataclass
        class Metrics(clu_metrics.Collection):
            loss: Mean.from_output('loss')
            squared_error: Mean.from_output('squared_error')
            free_energy: Mean.from_output('free_energy')

        self.train_metrics = self.eval_metrics = Metrics

    def inputs(self, batch: Mapping[str, jax.Array]) -> tuple[Any, ...]:
        """Returns the images, the keys of all that is drawn, and the chains of the batch before where they go on."""
        images, = super().inputs(batch)
        if 'rng' not in batch:
            return images, None, None
        keys = jax.vmap(lambda key: jax.random.split(key, 1 + self.steps))(batch['rng'])
        is_evaluated = 'mask' in batch
        return images, keys, batch['carry']['chains'] if 'carry' in batch and not is_evaluated else None

    def carried(self, outputs: Any) -> Any:
        """Returns where the chains are, if the next batch goes on from there."""
        return {'chains': of_model(outputs)['chains']} if self.persistent else {}

    def score(self, outputs: Any, batch: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
        """Scores each example.

        Args:
          outputs: of models/rbm.py.
          batch: as for `Reconstruction`.

        Returns:
          Each [batch]: 'loss', 'free_energy' minus that of the chain, where there is one; and what `Reconstruction`
          says of the probabilities that the hidden units give the visible ones.
        """
        outputs = of_model(outputs)
        if 'free_energy' not in outputs:
            raise UserError("config.task.name: contrastive_divergence takes free energies, which this model does not "
                            "give: config.model.name = 'rbm', or another config.task")
        energy = outputs['free_energy']
        return super().score(outputs, batch) | {'loss': energy - outputs.get('chain_energy', 0.0),
                                                'free_energy': energy}

    def model_figures(self, model: Any, variables: Mapping[str, Any]) -> dict[str, Any]:
        """Returns 'filters' of the first layer, and 'fantasies', what chains from hidden units that are off come to.

        In a stack the chains are those of its last layer, whose units the layers below turn into pixels.
        """
        layers = [variables['params'][f'dense{number}'] for number in range(1, model.layer + 1)]
        shape = _image_shape(layers[0]['visible_bias'].shape[0])
        if shape is None:
            return {}
        pictures = np.asarray(_fantasies(layers)).reshape(len(_MOMENTS), -1, *shape)
        whole = pictures[-1, :_CHAINS ** 2].reshape(_CHAINS, _CHAINS, *shape)
        figures = {'fantasies': figures_lib.draw_grid(
            pictures[:, :_SHOWN].swapaxes(0, 1),
            f'a chain in each row, from hidden units that are off: after {", ".join(map(str, _MOMENTS))} steps'),
            'fantasies_over_time': Frame(figures_lib.sheet(whole))}
        if model.layer == 1:
            count = min(_FILTERS, int(layers[0]['kernel'].shape[1] ** 0.5))
            kernel = np.asarray(layers[0]['kernel'])[:, :count ** 2].T.reshape(count, count, *shape)
            largest = np.abs(kernel).max(axis=(2, 3, 4), keepdims=True)
            figures['filters'] = figures_lib.draw_grid(
                0.5 + 0.5 * kernel / np.maximum(largest, 1e-12), 'weights of hidden units: white is above 0')
        return figures


@jax.jit
def _fantasies(layers: list[rbm.Layer]) -> jax.Array:
    """Returns the probabilities of pixels after _MOMENTS steps, float32 [moments, chains, pixels]."""
    off = jax.nn.sigmoid(layers[-1]['visible_bias'])
    begin, end = jax.random.split(jax.random.key(_KEY))
    count = max(_SHOWN, _CHAINS ** 2)
    keys = jax.random.split(end, (count, _MOMENTS[-1]))
    chains, found, before = jax.random.bernoulli(begin, off, (count, len(off))).astype(jnp.float32), [], 0
    for moment in _MOMENTS:
        # One step less, then the units' probabilities, which are easier on the eye than units of 0 and 1.
        last = rbm.run_chains(layers[-1], chains, keys[:, before:moment - 1])
        hidden = rbm.draw(keys[:, moment - 1], jax.nn.sigmoid(rbm.hidden_logits(layers[-1], last)))
        probabilities = jax.nn.sigmoid(rbm.visible_logits(layers[-1], hidden))
        down = jax.vmap(jax.random.fold_in, (0, None))(keys[:, moment - 1], 1)
        chains, before = rbm.draw(down, probabilities), moment
        found.append(rbm.look_down(layers[:-1], chains, down) if layers[:-1] else probabilities)
    return jnp.stack(found)


def _image_shape(pixels: int) -> tuple[int, int, int] | None:
    """Returns the shape of a square image of one channel with so many pixels; None if there is none."""
    side = round(pixels ** 0.5)
    return (side, side, 1) if side ** 2 == pixels else None
