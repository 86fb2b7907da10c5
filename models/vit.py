"""Vision transformers."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest
from .attention import Block, drop_rates
from .layers import Conv, Dropout
from .stages import Stage, mark, run_stages

POOLS = ('token', 'mean')

# torchvision's letter -> width, layers, heads; its patches.
_SIZES = {'b': (768, 12, 12), 'l': (1024, 24, 16), 'h': (1280, 32, 16)}
ARCHITECTURES = {
    f'vit_{letter}_{patch}': {'name': 'vit', 'patch': patch, 'width': width, 'layers': layers, 'heads': heads}
    for letter, patches in (('b', (16, 32)), ('l', (16, 32)), ('h', (14,))) for patch in patches
    for width, layers, heads in (_SIZES[letter],)}


class ViT(nn.Module):
    """Patches of an image as the words of a transformer.

    Dosovitskiy et al. 2021, "An image is worth 16x16 words: transformers for image recognition at scale"; the
    parameters of torchvision's vit_b_16 and its like fit. ViT-B/16 are the defaults; Ti and S have widths of 192 and
    384 and 3 and 6 heads.

    Endpoints: 'patches' (of the image, with their places), 'block1' and so on, 'norm', 'pool' ([batch, width]) and
    'logits'. With `pool` 'mean' the values up to 'norm' are maps, [batch, rows, columns, width]; with 'token' they are
    sequences, [batch, 1 + rows * columns, width], of which `watching` sees the patches as maps, too: 'patches_map',
    'block1_map' and so on. The last block's is none of them, since no class depends on it.

    Attributes:
      num_classes: number of logits.
      patch: side of a patch in pixels.
      width: of every patch's vector.
      layers: number of blocks.
      heads: of each block's attention.
      hidden: units of each block's MLP; None for 4 times the width.
      pool: what the logits are made of: 'token', one more vector beside the patches', as in the paper, or 'mean', the
        mean over patches (Beyer et al. 2022, "Better plain ViT baselines for ImageNet-1k").
      grid: rows and columns of the learned places, which are interpolated for images with other numbers of patches;
        (): those of the images that the network is initialised with.
      dropout: rate, after the places are added, in and after every branch.
      drop_path: probability of leaving a branch of the last block out of an example, in proportion less before it.
      dtype: of the computation; parameters and logits are float32.
    """

    num_classes: int
    patch: int = 16
    width: int = 768
    layers: int = 12
    heads: int = 12
    hidden: int | None = None
    pool: str = 'token'
    grid: tuple[int, ...] = ()
    dropout: float = 0.0
    drop_path: float = 0.0
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, *, train: bool = False, features: str | None = None,
                 begin: str | None = None) -> jax.Array:
        """Classifies images.

        Args:
          images: float [batch, height, width, channels], of sides that are multiples of `patch`; or the value of
            endpoint `begin`. Where features are asked for, what is left of a patch at the far edges is not seen.
          train: whether dropout and drop_path are active, which then need a 'dropout' rng.
          features: endpoint whose value to return instead of logits.
          begin: endpoint that `images` already is the value of.

        Returns:
          Logits, float32 [batch, num_classes], or the value of endpoint `features`.

        Raises:
          UserError: fields or images that do not fit each other, or an unknown endpoint.
        """
        self._check()
        if begin is None and features is None and any(side % self.patch for side in images.shape[1:3]):
            raise UserError(f'vit cuts images into patches of {self.patch}x{self.patch} pixels, and {images.shape[1]}x'
                            f'{images.shape[2]} is no multiple of that: config.image.size or config.model.patch')
        shape: list[int] = []  # rows and columns of patches; not known where `begin` is given
        stages: list[Stage] = [('patches', functools.partial(self._patches, shape=shape, train=train))]
        for index, rate in enumerate(drop_rates(self.drop_path, self.layers)):
            block = Block(self.heads, self.hidden or 4 * self.width, self.dropout, rate, dtype=self.dtype,
                          name=f'block{index + 1}')
            before = stages[-1][0]
            stages.append((f'block{index + 1}', functools.partial(self._look, block, f'{before}_map', shape, train)))
        stages += [('norm', nn.LayerNorm(1e-6, dtype=self.dtype, name='norm')), ('pool', self._pool),
                   ('logits', nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name='logits'))]
        return run_stages(stages, images, begin=begin, features=features)

    def _patches(self, images: jax.Array, shape: list[int], train: bool) -> jax.Array:
        if min(images.shape[1:3]) < self.patch:
            raise UserError(f'vit needs images of at least {self.patch}x{self.patch} pixels: config.image.size')
        patches = Conv(self.width, self.patch, self.patch, padding='VALID', dtype=self.dtype,
                       kernel_init=nn.initializers.lecun_normal(), name='patches')(images.astype(self.dtype))
        shape += patches.shape[1:3]
        grid, tokens = self.grid or tuple(shape), int(self.pool == 'token')
        places = self.param('positions', nn.initializers.normal(0.02), (1, tokens + grid[0] * grid[1], self.width))
        of_patches = places[:, tokens:].reshape(1, *grid, self.width)
        if grid != tuple(shape):
            of_patches = jax.image.resize(of_patches, (1, *shape, self.width), 'cubic')
        patches = patches + of_patches.astype(self.dtype)
        if tokens:
            token = self.param('class_token', nn.initializers.zeros, (1, 1, self.width)) + places[:, :1]
            patches = _beside(token.astype(self.dtype), patches)
        return Dropout(self.dropout, name='input_dropout')(patches, train)

    def _look(self, block: Block, name: str, shape: list[int], train: bool, x: jax.Array) -> jax.Array:
        if self.pool == 'mean':
            return block(_flat(x), train=train)[0].reshape(x.shape)
        if shape:
            x = _beside(x[:, :1], mark(name, x[:, 1:].reshape(x.shape[0], *shape, self.width)))
        return block(x, train=train)[0]

    def _pool(self, x: jax.Array) -> jax.Array:
        x = x.astype(jnp.float32)
        return x.mean(axis=(1, 2)) if self.pool == 'mean' else x[:, :1].reshape(x.shape[0], -1)

    def _check(self) -> None:
        if self.pool not in POOLS:
            raise UserError(f'config.model.pool = {self.pool!r}; {nearest(self.pool, POOLS)}')
        if self.grid and (len(self.grid) != 2 or min(self.grid) < 1):
            raise UserError(f'config.model.grid = {self.grid}: give rows and columns of patches, or () for those of '
                            'the images')
        if self.width % self.heads:
            raise UserError(f'config.model.width = {self.width} cannot be divided among config.model.heads = '
                            f'{self.heads}')

    def torchvision_names(self) -> tuple[tuple[str, str], ...]:
        """(pattern, replacement) that turn names of torchvision's modules into ours, '' for the network itself."""
        blocks = []
        for index in range(self.layers):
            theirs, ours = rf'encoder\.layers\.encoder_layer_{index}', f'block{index + 1}'
            blocks += [(rf'{theirs}\.ln_(\d)', rf'{ours}/norm\1'),
                       (rf'{theirs}\.self_attention', f'{ours}/attention/qkv'),
                       (rf'{theirs}\.self_attention\.out_proj', f'{ours}/attention/out'),
                       (rf'{theirs}\.mlp\.(?:0|linear_1)', f'{ours}/dense1'),  # files of before 2022 have names
                       (rf'{theirs}\.mlp\.(?:3|linear_2)', f'{ours}/dense2')]
        return (('', ''), ('encoder', ''), ('conv_proj', 'patches'), *blocks, (r'encoder\.ln', 'norm'),
                (r'heads\.head', 'logits'))

    def flattened_inputs(self) -> dict[str, tuple[int, int, int]]:
        """No dense layer has a flattened feature map as its input."""
        return {}


def _flat(patches: jax.Array) -> jax.Array:
    """[batch, rows, columns, width] -> [batch, rows * columns, width]."""
    return patches.reshape(patches.shape[0], patches.shape[1] * patches.shape[2], patches.shape[3])


def _beside(token: jax.Array, patches: jax.Array) -> jax.Array:
    """Returns [batch, 1 + rows * columns, width] of a token, [batch or 1, 1, width], and patches."""
    token = jnp.broadcast_to(token, (patches.shape[0], 1, patches.shape[-1]))
    return jnp.concatenate([token, _flat(patches)], axis=1)
