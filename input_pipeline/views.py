"""Test-time augmentation: several views of every image, whose outputs are combined."""

import jax
import jax.numpy as jnp

from ..common.errors import UserError, nearest

VIEWS = ('none', 'flip', 'ten_crop')
_MARGIN = 256 / 224  # Krizhevsky et al. 2012, section 4.1: crops of 224 from images of 256


class Views:
    """How many views of each image, and which.

      none      the image itself
      flip      and its mirror image
      ten_crop  the four corners and the centre of an image read 256 / 224 times larger, and their mirror images
                (Krizhevsky et al. 2012, "ImageNet classification with deep convolutional neural networks", section 4.1)

    Args:
      name: one of the above.
      size: (height, width) that the model takes.

    Attributes:
      count: views of each image.
      read_size: (height, width) that images must be read in.

    Raises:
      UserError: unknown name.
    """

    def __init__(self, name: str, size: tuple[int, int]):
        if name not in VIEWS:
            raise UserError(f'config.evaluation.tta = {name!r}; {nearest(name, list(VIEWS))}')
        self.name, self._size = name, tuple(size)
        self.count = {'none': 1, 'flip': 2, 'ten_crop': 10}[name]
        self.read_size = tuple(round(side * _MARGIN) for side in size) if name == 'ten_crop' else self._size

    def resize(self, how: str) -> str:
        """Returns how images are brought to read_size, of config.image.resize: ten crops are the only margin."""
        return 'cover' if self.name == 'ten_crop' and how == 'crop' else how

    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns [count, batch, *size, channels] of images [batch, *read_size, channels]."""
        views = [images]
        if self.name == 'ten_crop':
            (height, width), (rows, columns) = self._size, images.shape[1:3]
            down, right = rows - height, columns - width
            corners = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))
            views = [images[:, top:top + height, left:left + width] for top, left in corners]
        if self.name != 'none':
            views += [view[:, :, ::-1] for view in views]
        return jnp.stack(views)
