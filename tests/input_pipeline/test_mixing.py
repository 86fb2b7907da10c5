"""Mixup and CutMix mix what they say, the same whatever devices share a batch."""

import functools

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
import pytest

from practicum.common.errors import UserError
from practicum.input_pipeline import augmentation, mixing
from practicum.tasks.classification import Classification
from practicum.tasks.task import Task

SIZE = 16
# Each image has one brightness of its own, so that what came from where can be read off.
OWN = np.arange(1, SIZE + 1, dtype=np.float32)
BATCH = {'image': jnp.asarray(np.broadcast_to(OWN[:, None, None, None], (SIZE, 8, 10, 3))),
         'label': jnp.arange(SIZE) % 5, 'other': jnp.arange(SIZE)}


@functools.cache
def compiled(fields):
    return jax.jit(mixing.build(dict(fields)), compiler_options={'xla_backend_optimization_level': 0})


def mixed(key, shards=1, batch=BATCH, **fields):
    """The batch as `shards` devices make it, together."""
    mix = compiled(tuple(fields.items()))
    everyone = {name: batch[name] for name in ('image', 'label')}
    parts = [mix(jax.random.key(key), {name: batch[name][rows] for name in batch}, everyone, rows)
             for rows in jnp.split(jnp.arange(SIZE), shards)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


@pytest.mark.parametrize('augment', [{}, augmentation.DEFAULTS, {'mixup': 0.2, 'mix_probability': 0.0},
                                     ml_collections.ConfigDict(augmentation.DEFAULTS)])
def test_off_is_none(augment):
    assert mixing.build(augment) is None


@pytest.mark.parametrize('fields', [{'mixup': 0.2, 'cutmix': 1.0}], ids=str)
def test_results_do_not_depend_on_the_number_of_devices(fields):
    for key in range(4):
        whole = mixed(key, **fields)
        apart = mixed(key, 4, **fields)
        assert whole.keys() == apart.keys() == {*BATCH, 'mixed_label', 'mix'}
        for name in whole:
            np.testing.assert_array_equal(apart[name], whole[name])


def test_mixup_is_the_weighted_sum_of_two_images_of_the_batch():
    shares = []
    for key in range(30):
        found = mixed(key, mixup=1.0)
        share = found['mix'][0]
        assert (found['mix'] == share).all() and found['mix'].dtype == np.float32
        flat = found['image'].reshape(SIZE, -1)
        np.testing.assert_allclose(flat, np.broadcast_to(flat[:, :1], flat.shape))
        if share < 0.95:
            partner = np.round((flat[:, 0] - share * OWN) / (1 - share)).astype(int) - 1
            np.testing.assert_array_equal(np.sort(partner), np.arange(SIZE))  # a permutation of the whole batch
            np.testing.assert_array_equal(found['mixed_label'], BATCH['label'][partner])
        np.testing.assert_array_equal(found['label'], BATCH['label'])
        shares.append(share)
    assert 0.3 < np.mean(shares) < 0.7 and np.std(shares) > 0.15  # uniform for alpha 1


def test_cutmix_puts_one_box_of_another_image_in_and_counts_its_pixels():
    corners = set()
    for key in range(30):
        found = mixed(key, cutmix=1.0)
        image, share = found['image'][..., 0], found['mix'][0]
        foreign = image != OWN[:, None, None]
        moved = foreign.any((1, 2))  # an image may be its own partner
        if moved.any():
            box = foreign[moved][0]
            assert (foreign[moved] == box).all()
            rows, columns = np.flatnonzero(box.any(1)), np.flatnonzero(box.any(0))
            assert box.sum() == len(rows) * len(columns) == (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
            assert share == pytest.approx(1 - box.sum() / 80)
            partner = image[:, rows[0], columns[0]].astype(int) - 1
            np.testing.assert_array_equal(np.sort(partner), np.arange(SIZE))
            np.testing.assert_array_equal(found['mixed_label'], BATCH['label'][partner])
            corners.add((rows[0], columns[0]))
    assert len(corners) > 5


def test_both_share_the_batches_and_some_are_left_alone():
    kinds = []
    for key in range(60):
        image = mixed(key, mixup=5.0, cutmix=5.0, mix_probability=0.5)['image'][..., 0]
        flat = (image == image[:, :1, :1]).all()
        kinds.append('none' if (image == OWN[:, None, None]).all() else 'mixup' if flat else 'cutmix')
    counts = {kind: kinds.count(kind) for kind in ('none', 'mixup', 'cutmix')}
    assert 18 <= counts['none'] <= 42 and min(counts.values()) >= 6
    untouched = mixed(kinds.index('none'), mixup=5.0, cutmix=5.0, mix_probability=0.5)
    assert (untouched['mix'] == 1).all()


def test_another_key_mixes_otherwise():
    assert not np.array_equal(mixed(0, mixup=1.0)['image'], mixed(1, mixup=1.0)['image'])


def test_what_has_no_label_is_an_error():
    mix = mixing.build({'mixup': 0.2})
    images = {'image': BATCH['image']}
    with pytest.raises(UserError, match="need 'label' in the examples; they have: image"):
        mix(jax.random.key(0), images, images, jnp.arange(SIZE))
    with pytest.raises(UserError, match='task segmentation does not take'):
        mixing.check_task(mix, Task, 'segmentation')
    mixing.check_task(mix, Classification, 'classification')
    mixing.check_task(None, Task, 'segmentation')
