"""The drawn hearts: curves against their exact areas, masks against images, splits and determinism."""

import numpy as np
import pytest

from practicum.input_pipeline import datasets
from practicum.input_pipeline.datasets import cardiac_phantom as phantom
from practicum.input_pipeline.datasets.cardiac_phantom import Canvas, Curve

CURVES = [
    Curve((0.0, 0.0), 30.0, 30.0),
    Curve((7.3, -12.1), 40.0, 22.0, 0.7),
    Curve((-20.0, 5.5), 28.0, 33.0, 2.0, (0.1, -0.05, 0.02), (0.06, 0.03, -0.04)),
]


@pytest.fixture(scope='module')
def hearts() -> list[dict]:
    """Four hearts, from base to apex."""
    return [phantom.example('test', index) for index in range(20)]


# --- curves ---

@pytest.mark.parametrize('curve', CURVES)
def test_the_pixels_inside_a_curve_have_its_area(curve):
    canvas = Canvas(1.3)
    inside = curve.contains(canvas.x, canvas.y)
    coverage = curve.coverage(canvas.x, canvas.y, canvas.spacing)
    assert inside.sum() * 1.3 ** 2 == pytest.approx(curve.area, rel=0.01)
    assert coverage.sum() * 1.3 ** 2 == pytest.approx(curve.area, rel=0.01)
    np.testing.assert_array_equal(inside, coverage > 0.5)


def test_a_circle_of_radius_two_by_hand():
    """Pixel centres are half a pixel off the middle of a picture of even size: 12 of them lie inside."""
    canvas = Canvas(1.0)
    rows, columns = np.nonzero(Curve((0.0, 0.0), 2.0, 2.0).contains(canvas.x, canvas.y))
    assert sorted(zip(rows.tolist(), columns.tolist())) == [
        (126, 127), (126, 128), (127, 126), (127, 127), (127, 128), (127, 129),
        (128, 126), (128, 127), (128, 128), (128, 129), (129, 127), (129, 128)]


@pytest.mark.parametrize('curve', CURVES)
def test_no_point_is_out_of_reach_and_a_grown_curve_goes_around(curve):
    canvas = Canvas(1.3)
    inside = curve.contains(canvas.x, canvas.y)
    distance = np.hypot(canvas.x - curve.centre[0], canvas.y - curve.centre[1])
    assert distance[inside].max() <= curve.reach
    assert curve.grown(6).contains(canvas.x, canvas.y)[inside].all()


@pytest.mark.parametrize('curve', [*CURVES, Curve((160.0, 160.0), 30.0, 10.0), Curve((900.0, 0.0), 30.0, 10.0)])
def test_painting_in_a_frame_is_painting_everywhere(curve):
    canvas = Canvas(1.3)
    canvas.paint(curve, 2.0)
    np.testing.assert_allclose(canvas.grey, 2 * curve.coverage(canvas.x, canvas.y, 1.3), atol=1e-6)


def test_a_point_at_half_the_radius():
    assert Curve((1.0, 2.0), 10.0, 4.0).at(0.5, 0.0) == pytest.approx((6.0, 2.0))
    assert Curve((1.0, 2.0), 10.0, 4.0, np.pi / 2).at(0.5, 0.0) == pytest.approx((1.0, 7.0))


# --- examples ---

def test_an_example_depends_on_split_and_index_alone(hearts):
    again = phantom.example('test', 7)
    for name, value in again.items():
        np.testing.assert_array_equal(value, hearts[7][name])
    assert not np.array_equal(phantom.example('train', 7)['image'], again['image'])


def test_five_slices_are_one_heart_and_no_heart_is_in_two_splits(hearts):
    assert [example['patient'] for example in hearts] == [f'phantom-{90 + i // 5:04}' for i in range(20)]
    assert [example['slice'] for example in hearts[:5]] == [f'slice-{i}' for i in range(5)]
    spacings = np.array([example['spacing_mm'] for example in hearts])
    assert (spacings == spacings[::5].repeat(5, 0)).all() and len(np.unique(spacings)) == 4
    assert ((spacings >= 1.25) & (spacings <= 1.6)).all() and spacings.dtype == np.float32
    hearts_of = [set(range(*bounds)) for bounds in phantom.HEARTS.values()]
    assert [len(hearts) * phantom.SLICES for hearts in hearts_of] == [400, 50, 100]
    assert len(set.union(*hearts_of)) == 110


@pytest.mark.parametrize('split, index', [('train', 400), ('test', 100), ('test', -6)])
def test_an_index_out_of_range(split, index):
    with pytest.raises(IndexError):
        phantom.example(split, index)


def test_the_mask_is_one_solid_region_of_a_ventricles_size(hearts):
    """Papillary muscles, though dark, are no holes in it."""
    from scipy import ndimage
    for example in hearts:
        mask = example['segmentation_mask'][..., 0]
        assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
        assert ndimage.label(mask)[1] == 1
        np.testing.assert_array_equal(ndimage.binary_fill_holes(mask), mask)
        radius = np.sqrt(mask.sum() * example['spacing_mm'].prod() / np.pi)
        assert 5 < radius < 48  # mm
    areas = np.array([example['segmentation_mask'].sum() for example in hearts]).reshape(4, 5)
    assert (areas[:, 0] > areas[:, 4]).all()  # base and apex


def test_the_pool_is_brighter_than_its_wall_and_has_dark_muscles(hearts):
    from scipy import ndimage
    dark = 0
    for example in hearts:
        image, mask = example['image'][..., 0].astype(float), example['segmentation_mask'][..., 0] > 0
        pool = np.median(image[mask])
        wall = image[ndimage.binary_dilation(mask, iterations=4) & ~ndimage.binary_dilation(mask, iterations=1)]
        assert pool > 1.3 * np.median(wall)
        dark += image[ndimage.binary_erosion(mask, iterations=2)].min() < 0.75 * pool
    assert dark >= 10


def test_other_things_are_as_bright_as_the_pool(hearts):
    """So that a threshold does not find the ventricle."""
    for example in hearts:
        image, mask = example['image'][..., 0].astype(float), example['segmentation_mask'][..., 0] > 0
        assert (image[~mask] > np.median(image[mask])).sum() > 300


def test_images_are_neither_empty_nor_saturated(hearts):
    for example in hearts:
        assert example['image'].shape == (256, 256, 1) and example['image'].dtype == np.uint8
        assert example['image'].std() > 10 and (example['image'] == 255).mean() < 0.03
    assert len({example['image'].tobytes() for example in hearts}) == len(hearts)


# --- the builder ---

def test_the_builder_has_the_features_of_segmentation(tmp_path):
    import tensorflow_datasets as tfds
    datasets.register('cardiac_phantom')
    builder = tfds.builder('cardiac_phantom', data_dir=str(tmp_path))
    features = builder.info.features
    assert builder.info.supervised_keys == ('image', 'segmentation_mask')
    assert features['segmentation_mask'].names == ['background', 'left_ventricle']
    assert set(features) == {'image', 'segmentation_mask', 'patient', 'slice', 'spacing_mm'}
    generated = list(zip(range(3), builder._generate_examples('validation')))
    assert [key for _, (key, _) in generated] == [f'phantom-0080/slice-{i}' for i in range(3)]
    features.encode_example(generated[0][1][1])  # refuses what does not fit
