"""Which images are there twice: equal ones whatever they show, and almost equal ones if they are large enough."""

import numpy as np
from PIL import Image

from practicum.input_pipeline import duplicates, near_duplicates
from practicum.input_pipeline.duplicates import Fingerprints


def scenes(count, side=48, seed=0):
    """Smooth random pictures, as photographs are, uint8 [count, side, side, 3]."""
    coarse = np.random.default_rng(seed).integers(0, 256, (count, 6, 6, 3), np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((side, side), Image.Resampling.BICUBIC)) for one in coarse])


def test_equal_images_within_a_set_have_each_other():
    images = scenes(6)
    prints = Fingerprints.of(images[[0, 1, 0, 2, 1, 3, 0]])
    partner = duplicates.same(prints)
    assert partner.tolist() == [2, 4, 0, -1, 1, -1, 0]


def test_equal_images_of_another_set_are_found_whatever_their_number_of_pixels():
    images = scenes(5, side=8)
    some, others = Fingerprints.of(images[[4, 1, 1]]), Fingerprints.of(images[[0, 1, 2, 1]])
    assert duplicates.same(some, others).tolist() == [-1, 1, 1]
    assert not some.comparable  # so small that different ones look alike


def test_changed_images_are_alike_and_equal_ones_are_left_to_the_other_test():
    images = scenes(8)
    mirrored, darker = images[2][:, ::-1], (images[5] * 0.7 + 20).astype(np.uint8)
    prints = Fingerprints.of(np.stack([mirrored, images[0], darker]))
    partner, likeness = duplicates.alike(prints, Fingerprints.of(images))
    assert partner.tolist() == [2, -1, 5]
    assert (likeness[[0, 2]] > 0.95).all() and likeness[1] == 0
    within, _ = duplicates.alike(Fingerprints.of(np.stack([*images, mirrored])))
    assert within.tolist() == [-1, -1, 8, -1, -1, -1, -1, -1, 2]


def test_what_only_the_hash_takes_for_alike_is_not():
    """The hash sees no more than which parts are brighter than their neighbours: of dark images, next to nothing."""
    dark = np.zeros((2, 48, 48, 1), np.uint8)
    dark[0, 4:9, 4:9], dark[1, 30:40, 36:44] = 255, 255
    prints = Fingerprints.of(dark)
    assert np.bitwise_count(prints.hashes[0, 0] ^ prints.hashes[1, 0]) <= near_duplicates.DIFFERENT
    assert duplicates.alike(prints)[0].tolist() == [-1, -1]
