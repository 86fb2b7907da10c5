"""Cells of feature maps lie where the pixels they see lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from practicum.models.alexnet import AlexNet
from practicum.models.grid import Grid, grid_of
from practicum.models.resnet import ResNet
from practicum.models.vgg import VGG


def seen_by_cells(body, endpoint, side):
    """Returns [cells, 2]: the first pixel of the middle row that each cell of it sees, and the one after the last."""
    image = jnp.ones((1, side, side, 3))
    variables = jax.eval_shape(lambda: body.init(jax.random.key(0), image, features=endpoint))
    # Weights of one sign: what a cell sees can only add up.
    variables = jax.tree.map(lambda x: jnp.full(x.shape, 1e-3), variables)
    look = jax.jit(lambda images: body.apply(variables, images, features=endpoint))
    before = look(image)
    changes = []
    for pixel in range(side):
        after = look(image.at[:, :, pixel].add(100.0))
        changes.append(np.asarray(jnp.any(after != before, axis=(0, 1, 3))))
    changes = np.stack(changes, axis=1)  # [cells, pixels]
    return np.stack([changes.argmax(1), side - changes[:, ::-1].argmax(1)], axis=1)


@pytest.mark.parametrize('body, endpoint, side', [
    (AlexNet(num_classes=2), 'conv3', 143),
    (ResNet(num_classes=2, depth=18, width=2), 'layer2', 64)], ids=['alexnet', 'resnet'])
def test_a_cell_is_centred_where_it_looks(body, endpoint, side):
    seen = seen_by_cells(body, endpoint, side)
    grid = grid_of(body, endpoint, (side, side))
    whole = (seen[:, 0] > 0) & (seen[:, 1] < side)  # the others look over the edge
    assert whole.sum() >= 2
    middles = seen.mean(axis=1)
    np.testing.assert_array_equal(np.asarray(grid.centres(1, len(seen)))[0, whole, 0], middles[whole])


def test_the_grids_of_known_networks():
    assert grid_of(AlexNet(num_classes=2), 'conv5', (480, 640)) == Grid(16, (15.5, 15.5))
    assert grid_of(VGG(num_classes=2, depth=16), 'pool4', (224, 256)) == Grid(16, (8, 8))


def test_centres_are_x_and_y():
    np.testing.assert_array_equal(Grid(4, (2, 3)).centres(2, 3)[1], [[3, 6], [7, 6], [11, 6]])
