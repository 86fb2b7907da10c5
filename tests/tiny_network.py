"""A network of four layers with weights in torch's names and layouts, for tests of `import`."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

ARCHITECTURES = {'tiny_net': {'name': 'tiny_net'}, 'tiny_net_deep': {'name': 'tiny_net', 'depth': 2}}


class TinyNet(nn.Module):
    """`depth` times 3x3 convolution, BatchNorm and ReLU; a dense layer on all pixels of 4x6, ReLU; logits."""
    num_classes: int
    depth: int = 1
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        x = jax.image.resize(images, (len(images), 4, 6, 3), 'nearest')
        for index in range(self.depth):
            x = nn.Conv(5, (3, 3), use_bias=False, name=f'block{index}_conv')(x)
            x = nn.relu(nn.BatchNorm(not train, name=f'block{index}_bn')(x))
        x = nn.relu(nn.Dense(7, name='hidden')(x.reshape(len(x), -1)))
        return nn.Dense(self.num_classes, name='logits')(x)

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        return (r'features\.(\d)\.(conv|bn)', r'block\1_\2'), ('fc1', 'hidden'), ('fc2', 'logits')

    def lpips_names(self) -> tuple[tuple[str, str], ...]:
        return ((r'Tiny_0/Conv_(\d)', r'block\1_conv'),)

    def flattened_inputs(self) -> dict[str, tuple[int, int, int]]:
        return {'hidden': (5, 4, 6)}


def state_dict(*, depth: int = 1, classes: int = 3) -> dict[str, np.ndarray]:
    """Returns random weights as torch has them."""
    rng = np.random.default_rng(0)
    arrays = {}
    for index in range(depth):
        name = f'features.{index}'
        arrays[f'{name}.conv.weight'] = rng.standard_normal((5, 5 if index else 3, 3, 3))
        arrays[f'{name}.bn.weight'], arrays[f'{name}.bn.bias'] = rng.uniform(0.5, 2, (2, 5))
        arrays[f'{name}.bn.running_mean'], arrays[f'{name}.bn.running_var'] = rng.uniform(0.5, 2, (2, 5))
    arrays |= {'fc1.weight': rng.standard_normal((7, 5 * 4 * 6)), 'fc1.bias': rng.standard_normal(7),
               'fc2.weight': rng.standard_normal((classes, 7)), 'fc2.bias': rng.standard_normal(classes)}
    counts = {f'features.{index}.bn.num_batches_tracked': np.array(9) for index in range(depth)}
    return {name: array.astype(np.float32) for name, array in arrays.items()} | counts


def logits(arrays: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    """Computes what torch would, [batch, channels, height, width] throughout.

    Args:
      arrays: of `state_dict`, depth 1.
      images: float [batch, 4, 6, 3].
    """
    x = np.pad(images.transpose(0, 3, 1, 2), ((0, 0), (0, 0), (1, 1), (1, 1)))
    kernel = arrays['features.0.conv.weight']
    x = sum(np.einsum('bihw,oi->bohw', x[:, :, i:i + 4, j:j + 6], kernel[:, :, i, j])
            for i in range(3) for j in range(3))
    norm = {leaf: arrays[f'features.0.bn.{leaf}'][:, None, None]
            for leaf in ('weight', 'bias', 'running_mean', 'running_var')}
    x = (x - norm['running_mean']) / np.sqrt(norm['running_var'] + 1e-5) * norm['weight'] + norm['bias']
    x = np.maximum(x, 0).reshape(len(x), -1)
    x = np.maximum(x @ arrays['fc1.weight'].T + arrays['fc1.bias'], 0)
    return x @ arrays['fc2.weight'].T + arrays['fc2.bias']
