"""Restricted Boltzmann machines, alone and as the layers of a deep belief network.

The free energy of visible units v is F(v) = -b.v - sum_j log(1 + exp(c_j + (v W)_j)), and exp(-F(v)) is proportional to
their probability. Functions below take a layer's parameters as a mapping: 'kernel' W, [visible, hidden], 'bias' c,
[hidden], 'visible_bias' b, [visible].
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError
from .stages import run_stages

Layer = Mapping[str, jax.Array]


class RBM(nn.Module):
    """A restricted Boltzmann machine of binary units, on images or on what the layers before it say of them.

    Hinton 2002, "Training products of experts by minimizing contrastive divergence"; Hinton et al. 2006, "A fast
    learning algorithm for deep belief nets": each layer of a stack is a machine of its own, whose visible units are the
    hidden ones of the layer before, which is to be frozen. The layers have the names that `MLP` gives its own.

    Endpoints: hidden1, hidden2, ... up to the layer (probabilities), logits. It begins at one of those before the last.

    Attributes:
      hidden: hidden units of each layer of the stack.
      layer: which of them is trained, from 1; those after it are not there.
      dtype: of the matrix products; parameters, energies and logits are float32.
    """

    hidden: tuple[int, ...] = (500,)
    layer: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, keys: jax.Array | None = None, chains: jax.Array | None = None, *,
                 train: bool = False, features: str | None = None, begin: str | None = None) -> Any:
        """Computes free energies, and runs a Gibbs chain for every example.

        Args:
          images: float [batch, ...] in [0, 1], the probability of a unit to be 1; or the value of endpoint `begin`.
          keys: PRNG keys of every example, [batch, 1 + steps]: the first draws the visible units of the layer, each of
            the others a step of the chain. None: the units are as they come, and there is no chain.
          chains: visible units that the chains go on from, float [batch, visible]; None: those of the example.
          train: makes no difference.
          features: endpoint whose value to return; what lies beyond is not computed.
          begin: endpoint that `images` is the value of.

        Returns:
          {'target': the visible units, 'logits': what their hidden units say of them, both float32 [batch, ...];
          'free_energy' of the visible units, [batch]}; with keys also 'chains', where the chains are now, float32
          [batch, visible], and 'chain_energy', their free energy, [batch]. No gradient goes through the chains: that of
          free_energy - chain_energy is contrastive divergence's. Or the value of `features`.

        Raises:
          UserError: no such endpoint, or no such layer.
        """
        del train
        if self.layer > len(self.hidden):
            raise UserError(f'config.model.layer = {self.layer}: config.model.hidden has {len(self.hidden)} layers')

        layers = [_Parameters(width, name=f'dense{number}')
                  for number, width in enumerate(self.hidden[:self.layer], start=1)]

        def parameters(number: int, x: jax.Array) -> Layer:
            return layers[number - 1](x)

        def up(number: int, x: jax.Array) -> jax.Array:
            x = x.reshape(x.shape[0], -1)
            return nn.sigmoid(hidden_logits(parameters(number, x), x, self.dtype))

        seen = {}

        def look(x: jax.Array) -> jax.Array:
            visible = x.reshape(x.shape[0], -1).astype(jnp.float32)
            if keys is not None:
                visible = draw(keys[:, 0], visible)
            seen.update(shape=x.shape, visible=(visible := jax.lax.stop_gradient(visible)))
            return nn.sigmoid(hidden_logits(parameters(self.layer, visible), visible, self.dtype))

        def machine(hidden: jax.Array) -> dict[str, jax.Array]:
            if not seen:
                raise UserError(f"an RBM cannot begin at 'hidden{self.layer}': its energies are those of what is below")
            shape, visible = seen['shape'], seen['visible']
            layer = parameters(self.layer, visible)
            outputs = {'target': visible.reshape(shape),
                       'logits': visible_logits(layer, hidden, self.dtype).reshape(shape),
                       'free_energy': free_energy(layer, visible, self.dtype)}
            if keys is None:
                return outputs
            begin = visible if chains is None else chains
            end = jax.lax.stop_gradient(run_chains(jax.lax.stop_gradient(layer), begin, keys[:, 1:], self.dtype))
            return {**outputs, 'chains': end, 'chain_energy': free_energy(layer, end, self.dtype)}

        stages = [*((f'hidden{number}', functools.partial(up, number)) for number in range(1, self.layer)),
                  (f'hidden{self.layer}', look), ('logits', machine)]
        return run_stages(stages, images, begin=begin, features=features)


class _Parameters(nn.Module):
    """The parameters of a layer; they begin as Hinton 2012, "A practical guide to training RBMs", has them.

    A visible bias begins at the logit of its unit's mean, in the examples that the model is initialised with. Where the
    weights have to learn that most pixels are black, pixels are noise as soon as all hidden units are off.
    """

    units: int

    @nn.compact
    def __call__(self, inputs: jax.Array) -> Layer:
        def base_rates(key: jax.Array) -> jax.Array:
            del key
            mean = (jnp.sum(inputs, axis=0) + 0.5) / (inputs.shape[0] + 1)  # 0.5: no unit is always 0, or 1
            return (jnp.log(mean) - jnp.log1p(-mean)).astype(jnp.float32)
        return {'kernel': self.param('kernel', nn.initializers.normal(0.01), (inputs.shape[-1], self.units)),
                'bias': self.param('bias', nn.initializers.zeros, (self.units,)),
                'visible_bias': self.param('visible_bias', base_rates)}


def hidden_logits(layer: Layer, visible: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Returns the logits of the hidden units given visible ones, float32 [batch, hidden]."""
    return (visible.astype(dtype) @ layer['kernel'].astype(dtype)).astype(jnp.float32) + layer['bias']


def visible_logits(layer: Layer, hidden: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Returns the logits of the visible units given hidden ones, float32 [batch, visible]."""
    return (hidden.astype(dtype) @ layer['kernel'].astype(dtype).T).astype(jnp.float32) + layer['visible_bias']


def free_energy(layer: Layer, visible: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Returns the free energy of visible units, float32 [batch]."""
    return -visible @ layer['visible_bias'] - jnp.sum(nn.softplus(hidden_logits(layer, visible, dtype)), axis=-1)


def draw(keys: jax.Array, probabilities: jax.Array) -> jax.Array:
    """Returns binary units, float32 [batch, units], each row drawn with a key of its own, [batch]."""
    return jax.vmap(jax.random.bernoulli)(keys, probabilities).astype(jnp.float32)


def run_chains(layer: Layer, visible: jax.Array, keys: jax.Array, dtype: jnp.dtype = jnp.float32) -> jax.Array:
    """Returns visible units after steps of Gibbs sampling, float32 [batch, visible].

    Args:
      layer: its parameters.
      visible: to begin with, float [batch, visible].
      keys: [batch, steps].
      dtype: of the matrix products.
    """
    def step(visible: jax.Array, keys: jax.Array) -> tuple[jax.Array, None]:
        keys = jax.vmap(jax.random.split)(keys)
        hidden = draw(keys[:, 0], nn.sigmoid(hidden_logits(layer, visible, dtype)))
        return draw(keys[:, 1], nn.sigmoid(visible_logits(layer, hidden, dtype))), None
    return jax.lax.scan(step, visible, keys.swapaxes(0, 1))[0]


def look_down(layers: Sequence[Layer], visible: jax.Array, keys: jax.Array) -> jax.Array:
    """Returns what the layers below make of a layer's visible units: probabilities of pixels, float32 [batch, pixels].

    Args:
      layers: parameters of the layers below it, the first one first.
      visible: units of the layer above them, float [batch, visible].
      keys: [batch].
    """
    for number, layer in reversed(list(enumerate(layers))):
        visible = nn.sigmoid(visible_logits(layer, visible))
        if number:
            visible = draw(jax.vmap(jax.random.fold_in, (0, None))(keys, number), visible)
    return visible
