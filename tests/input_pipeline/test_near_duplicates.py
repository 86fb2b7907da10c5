"""Near duplicates are found however they were made, and stay in one fold."""

import numpy as np
import pytest
from PIL import Image

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import near_duplicates, splits
from practicum.input_pipeline.arrays import ArraySource


def scene(seed, side=48):
    """A smooth random picture, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def changed(picture):
    """The same picture, as it comes back from the web."""
    side = picture.width
    return [picture, picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT), picture.resize((20, 20)).resize((side, side)),
            picture.point(lambda value: value * 0.7 + 20),
            picture.crop((1, 1, side - 1, side - 1)).resize((side, side))]


def source_of(pictures):
    images = np.stack([np.asarray(picture) for picture in pictures])
    return ArraySource({'image': images}, DatasetInfo(), [{'file': f'{i:02}.jpg'} for i in range(len(images))])


def test_the_same_picture_in_other_forms_is_one_group():
    pictures = [form for seed in range(6) for form in changed(scene(seed))]
    order = np.random.default_rng(0).permutation(len(pictures))
    found = near_duplicates.groups(source_of([pictures[i] for i in order]), np.arange(len(pictures)))
    for one, other in ((i, j) for i in range(len(pictures)) for j in range(i)):
        assert (found[one] == found[other]) == (order[one] // 5 == order[other] // 5)
    np.testing.assert_array_equal(found[found], found)  # called by one of their own


def test_folds_keep_them_together():
    source = source_of([form for seed in range(12) for form in changed(scene(seed))[:2 + seed % 3]])
    chosen = np.arange(len(source))
    fold = splits.fold_of(source, chosen, 4, 'near_duplicates')
    groups = near_duplicates.groups(source, chosen)
    assert all(len(set(fold[groups == group])) == 1 for group in groups) and sorted(set(fold)) == [0, 1, 2, 3]


def test_what_are_no_images():
    source = ArraySource({'x': np.zeros((4, 2), np.float32)}, DatasetInfo())
    with pytest.raises(UserError, match='the examples of .* are no images'):
        splits.fold_of(source, np.arange(4), 2, 'near_duplicates')
