"""Images with masks of one's own: pairing, classes, formats, and one line for each mistake."""

import logging
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import mask_folder_source, sources
from practicum.input_pipeline.mask_folder_source import read_mask
from practicum.training.defaults import base

IMAGE = {'size': (6, 10), 'channels': 1}
TWO = ('background', 'foreground')
THREE = ('background', 'cat', 'dog')


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))


def data(name, **fields) -> ConfigDict:
    config = base().data
    config.update(source='mask_folder', name=str(name), **fields)
    return config


def read_all(source) -> dict[str, np.ndarray]:
    return source.read(np.arange(len(source)))


def write_pairs(root: Path, count: int = 8, classes: int = 2) -> Path:
    """Image i is grey 10 i, its mask has class i % classes left of column 4 and 0 elsewhere."""
    for part in ('images', 'masks'):
        (root / part).mkdir(parents=True)
    for i in range(count):
        mask = np.zeros((6, 10), np.uint8)
        mask[:, :4] = i % classes
        Image.new('L', (10, 6), 10 * i).save(root / 'images' / f'{i:02}.png')
        Image.fromarray(mask).save(root / 'masks' / f'{i:02}.png')
    return root


def save(path: Path, values, mode: str | None = None, **kwargs) -> Path:
    image = Image.fromarray(np.asarray(values))
    (image.convert(mode) if mode else image).save(path, **kwargs)
    return path


def line_of(error) -> str:
    """The message, which is one line."""
    assert '\n' not in str(error.value)
    return str(error.value)


# --- pairs ---

@pytest.mark.parametrize('memory_limit_mb', [0, 2048])
def test_each_image_comes_with_its_mask(tmp_path, memory_limit_mb):
    (write_pairs(tmp_path / 'pets', classes=3) / 'classes.txt').write_text('background\ncat\ndog\n')
    source = sources.open_split(data(tmp_path / 'pets', memory_limit_mb=memory_limit_mb), IMAGE, 'train')
    examples = read_all(source)
    assert source.info.to_json() == {'class_names': ['background', 'cat', 'dog']}
    assert examples['image'].shape == (8, 6, 10, 1) and examples['segmentation_mask'].shape == (8, 6, 10)
    assert examples['image'].dtype == examples['segmentation_mask'].dtype == np.uint8
    numbers = examples['image'][:, 0, 0, 0] // 10
    assert sorted(numbers) == list(range(8))
    np.testing.assert_array_equal(examples['segmentation_mask'][:, 0, 0], numbers % 3)
    assert not examples['segmentation_mask'][:, :, 4:].any()
    assert source.describe(np.arange(8)) == [{'file': f'images/{n:02}.png'} for n in numbers]


def test_the_order_is_shuffled_and_fixed(tmp_path):
    names = [[file.name for file in sources.open_split(data(root, memory_limit_mb=0), IMAGE, 'train').files]
             for root in (write_pairs(tmp_path / 'a'), write_pairs(tmp_path / 'b'))]
    assert names[0] == names[1] != sorted(names[0])


def test_folders_of_splits_and_parts_of_one(tmp_path):
    for split, count in (('train', 5), ('test', 2)):
        write_pairs(tmp_path / 'pets' / split, count)
    (tmp_path / 'pets' / 'classes.txt').write_text('page\nink')
    opened = {split: sources.open_split(data(tmp_path / 'pets'), IMAGE, split) for split in ('train', 'test')}
    assert {split: len(source) for split, source in opened.items()} == {'train': 5, 'test': 2}
    assert opened['test'].info.to_json() == {'class_names': ['page', 'ink']}
    with pytest.raises(UserError, match="no split 'validation'"):
        sources.open_split(data(tmp_path / 'pets'), IMAGE, 'validation')
    write_pairs(tmp_path / 'one')
    assert len(sources.open_split(data(tmp_path / 'one'), IMAGE, 'train[75%:]')) == 2
    with pytest.raises(UserError, match=r'train\[80%:\]'):
        sources.open_split(data(tmp_path / 'one'), IMAGE, 'test')


def test_folders_below_and_any_image_format(tmp_path):
    """An image may be a JPEG and lie in a folder of its patient; a mask may not be in another folder."""
    for part in ('images/a', 'images/b', 'masks/a', 'masks/b'):
        (tmp_path / part).mkdir(parents=True)
    for patient, grey in (('a', 50), ('b', 200)):
        Image.new('RGB', (10, 6), (grey, grey, grey)).save(tmp_path / 'images' / patient / '1.jpg')
        save(tmp_path / 'masks' / patient / '1.tif', np.full((6, 10), grey == 200, np.uint8))
    source = sources.open_split(data(tmp_path), IMAGE, 'train')
    examples = read_all(source)
    np.testing.assert_array_equal(examples['segmentation_mask'][:, 0, 0], examples['image'][:, 0, 0, 0] > 100)
    assert {facts['file'] for facts in source.describe(np.arange(2))} == {'images/a/1.jpg', 'images/b/1.jpg'}


def test_images_without_a_partner_are_left_out_and_said(tmp_path, caplog):
    write_pairs(tmp_path)
    for name in ('00', '01', '02', '03'):
        (tmp_path / 'masks' / f'{name}.png').unlink()
    (tmp_path / 'images' / '07.png').unlink()
    with caplog.at_level(logging.WARNING):
        for split in ('train[:50%]', 'train[50%:]'):
            sources.open_split(data(tmp_path), IMAGE, split)
    first, second = [record.getMessage() for record in caplog.records]  # once, not for every part
    assert 'left out 4 images without a mask: 00, 01, 02 and 1 more' in first
    assert 'left out 1 mask without an image: 07' in second
    source = sources.open_split(data(tmp_path, memory_limit_mb=0), IMAGE, 'train')
    assert sorted(file.stem for file in source.files) == ['04', '05', '06']


def test_a_changed_mask_is_noticed(tmp_path):
    """The decoded cache belongs to the masks, too."""
    write_pairs(tmp_path)
    assert not sources.open_split(data(tmp_path), IMAGE, 'train').arrays['segmentation_mask'][:, :, 4:].any()
    save(tmp_path / 'masks' / '00.png', np.ones((6, 10), np.uint8))
    assert sources.open_split(data(tmp_path), IMAGE, 'train').arrays['segmentation_mask'][:, :, 4:].any()


def test_masks_are_resized_to_the_nearest_class(tmp_path):
    """Between class 0 and class 2 there is no class 1."""
    write_pairs(tmp_path, count=3, classes=3)
    (tmp_path / 'classes.txt').write_text('background\ncat\ndog')
    large = read_all(sources.open_split(data(tmp_path), {'size': (12, 20), 'channels': 3}, 'train'))
    assert large['image'].shape == (3, 12, 20, 3)
    own = read_all(sources.open_split(data(tmp_path), IMAGE, 'train'))
    np.testing.assert_array_equal(large['segmentation_mask'], own['segmentation_mask'].repeat(2, 1).repeat(2, 2))
    small = read_all(sources.open_split(data(tmp_path), {'size': (4, 5), 'channels': 1}, 'train'))
    columns = small['segmentation_mask'].max(1)
    assert sorted(map(tuple, columns)) == [(0, 0, 0, 0, 0), (1, 1, 0, 0, 0), (2, 2, 0, 0, 0)]


def test_a_dicom_has_the_spacing_of_the_resized_image(tmp_path):
    """12 x 10 pixels of 2 mm x 1 mm, read as 6 x 10 pixels, are 4 mm x 1 mm."""
    pydicom = pytest.importorskip('pydicom')
    for part in ('images', 'masks'):
        (tmp_path / part).mkdir()
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = '1.2.3'
    dataset = pydicom.dataset.FileDataset('', {}, file_meta=meta, preamble=bytes(128))
    dataset.update({})
    dataset.SOPClassUID, dataset.SOPInstanceUID = meta.MediaStorageSOPClassUID, '1.2.3'
    dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 12, 10, 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
    dataset.PhotometricInterpretation, dataset.PixelSpacing = 'MONOCHROME2', [2.0, 1.0]
    dataset.PixelData = np.arange(120, dtype='<u2').tobytes()
    dataset.save_as(tmp_path / 'images' / 'one.dcm')
    save(tmp_path / 'masks' / 'one.png', np.ones((12, 10), np.uint8))
    source = mask_folder_source.open_split(data(tmp_path), IMAGE, 'train')
    assert source.describe(np.arange(1)) == [{'file': 'images/one.dcm', 'spacing_mm': [4.0, 1.0]}]
    assert read_all(source)['segmentation_mask'].all()


# --- masks ---

VALUES = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)


def test_every_lossless_way_to_write_classes(tmp_path):
    palette = Image.fromarray(VALUES)
    palette.putpalette([255, 255, 255, 255, 0, 0, 0, 0, 255])  # the image is white, red and blue; the classes are not
    palette.save(tmp_path / 'palette.png')
    palette.save(tmp_path / 'palette.gif')
    grey = np.repeat(VALUES[..., None], 3, -1)
    files = [save(tmp_path / 'a.png', VALUES), save(tmp_path / 'a.bmp', VALUES), save(tmp_path / 'a.tif', VALUES),
             save(tmp_path / '16bit.png', VALUES.astype(np.uint16)), save(tmp_path / 'rgb.png', grey),
             save(tmp_path / 'float.tif', VALUES.astype(np.float32)), save(tmp_path / 'rgba.png', grey, 'RGBA'),
             save(tmp_path / 'la.png', VALUES, 'LA'), save(tmp_path / 'lzw.tif', VALUES, compression='tiff_lzw'),
             tmp_path / 'palette.png', tmp_path / 'palette.gif']
    for file in files:
        mask = read_mask(file, THREE)
        assert mask.dtype == np.uint8 and mask.tolist() == VALUES.tolist(), file


def test_two_classes_may_be_0_and_255(tmp_path):
    binary = np.array([[0, 1, 1], [1, 0, 0]], np.uint8)
    rgb = np.repeat(255 * binary[..., None], 3, -1)
    for file in (save(tmp_path / 'a.png', 255 * binary), save(tmp_path / 'b.png', binary),
                 save(tmp_path / 'c.png', binary.astype(bool)), save(tmp_path / 'd.png', rgb)):
        assert read_mask(file, TWO).tolist() == binary.tolist(), file
    assert read_mask(save(tmp_path / 'full.png', np.full((2, 2), 255, np.uint8)), TWO).tolist() == [[1, 1], [1, 1]]


@pytest.mark.parametrize('values, classes, message', [
    (VALUES, TWO, r'value 2 is no class: there are 2, 0 to 1 \(background, foreground\)'),
    (VALUES * 127, THREE, 'value 254 is no class: there are 3, 0 to 2'),
    (255 * (VALUES > 0).astype(np.uint8), THREE, 'value 255'),
    (np.array([[0, 1, 255]], np.uint8), TWO, 'value 255'),
    (VALUES.astype(np.uint16) + 300, THREE, 'value 302'),
    (np.array([[[255, 0, 0], [0, 0, 0]]], np.uint8), TWO, 'in colour'),
    (np.array([[[1, 1, 1, 0], [0, 0, 0, 255]]], np.uint8), TWO, 'partly transparent'),
])
def test_values_that_are_no_class(tmp_path, values, classes, message):
    file = save(tmp_path / 'mask.png', values)
    with pytest.raises(UserError, match=message) as error:
        read_mask(file, classes)
    assert line_of(error).startswith(f'{file}: ')


@pytest.mark.parametrize('suffix, options', [('jpg', {}), ('webp', {}), ('png', {'format': 'JPEG'}),
                                             ('tif', {'compression': 'jpeg'})])
def test_masks_compressed_with_loss_are_refused(tmp_path, suffix, options):
    """Whatever they are called."""
    file = save(tmp_path / f'mask.{suffix}', np.zeros((16, 16), np.uint8), **options)
    with pytest.raises(UserError, match='as PNG') as error:
        read_mask(file, TWO)
    assert line_of(error).startswith(f'{file}: ')


def test_a_broken_file_ends_in_one_line(tmp_path):
    write_pairs(tmp_path)
    file = tmp_path / 'masks' / '03.png'
    file.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match='03.png') as error:
        sources.open_split(data(tmp_path), IMAGE, 'train')
    line_of(error)


def test_a_mask_of_another_size_than_its_image(tmp_path):
    write_pairs(tmp_path)
    save(tmp_path / 'masks' / '03.png', np.zeros((10, 6), np.uint8))
    with pytest.raises(UserError, match=r'03.png: 6x10 pixels, but its image .*03.png has 10x6') as error:
        sources.open_split(data(tmp_path), IMAGE, 'train')
    line_of(error)


# --- folders that are no data set ---

def without_masks(root):
    (root / 'masks').rename(root / 'labels')


def without_images(root):
    (root / 'images').rename(root / 'scans')


def with_no_image(root):
    for file in (root / 'images').iterdir():
        file.unlink()


def with_other_names(root):
    for file in (root / 'masks').iterdir():
        file.rename(file.with_name(f'{file.stem}_mask.png'))


def with_two_of_a_name(root):
    Image.new('L', (10, 6)).save(root / 'images' / '03.jpg')


def with_classes(content):
    def change(root):
        (root / 'classes.txt').write_bytes(content)
    return change


@pytest.mark.parametrize('change, message', [
    (without_masks, 'no folder masks'), (without_images, 'no folder images'), (with_no_image, 'no images'),
    (with_other_names, '00, 01, 02 and 5 more and 00_mask, 01_mask, 02_mask and 5 more'),
    (with_two_of_a_name, 'both 03.jpg and 03.png'),
    (with_classes(b'background\n'), 'classes.txt: has 1 classes'), (with_classes(b''), 'has 0 classes'),
    (with_classes(b'a\n\nb\n'), "line 2 is ''"), (with_classes(b'a\nb/c\n'), 'without slashes'),
    (with_classes(b'a\nb\na\n'), "line 3 repeats 'a'"), (with_classes(b'\xff\xfe\x00'), 'classes.txt: cannot be read'),
])
def test_a_folder_that_is_no_data_set(tmp_path, change, message):
    change(write_pairs(tmp_path / 'pets'))
    with pytest.raises(UserError, match=message) as error:
        sources.open_split(data(tmp_path / 'pets'), IMAGE, 'train')
    assert str(tmp_path) in line_of(error)
