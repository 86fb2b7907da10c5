"""Promises of input_pipeline/dicom.py, and of images.py about DICOM."""

import subprocess
import sys

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.encaps import encapsulate

from practicum.common.errors import UserError
from practicum.input_pipeline import dicom, image_search, images

RAMP = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100


def write_dicom(path, pixels, syntax=uid.ExplicitVRLittleEndian, **elements):
    """Writes a grey [rows, columns] (or [frames, rows, columns]) integer array as a small MR file.

    Args:
        elements: DICOM keywords to set, or to leave out where the value is None.
    """
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = uid.MRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    bits = pixels.dtype.itemsize * 8
    defaults = dict(
        SOPClassUID=uid.MRImageStorage, Modality='MR', PatientID='SCD0000101', Rows=pixels.shape[-2],
        Columns=pixels.shape[-1], SamplesPerPixel=1, PhotometricInterpretation='MONOCHROME2', BitsAllocated=bits,
        BitsStored=bits, HighBit=bits - 1, PixelRepresentation=int(pixels.dtype.kind == 'i'),
        PixelData=pixels.tobytes() + b'\0' * (pixels.nbytes % 2))
    for name, value in (defaults | elements).items():
        if value is not None:
            setattr(dataset, name, value)
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def error_of(path):
    with pytest.raises(UserError) as error:
        dicom.read_dicom(path)
    message = str(error.value)
    assert '\n' not in message and path.name in message and len(message) < 500
    return message


# What pixels become.

def test_the_percentiles_become_0_and_255_and_the_rest_is_clipped(tmp_path):
    values = np.arange(1000, dtype=np.int16).reshape(20, 50)  # 0.5th percentile 4.995, 99.5th 994.005
    image = dicom.read_dicom(write_dicom(tmp_path / 'a.dcm', values))
    assert image.pixels.dtype == np.uint8 and image.pixels.shape == (20, 50)
    flat = image.pixels.ravel().astype(int)
    assert np.all(flat[:5] == 0) and np.all(flat[995:] == 255)
    assert flat[500] == round((500 - 4.995) / (994.005 - 4.995) * 255)


def test_a_few_bright_pixels_do_not_darken_the_rest(tmp_path):
    values = np.tile(np.arange(100, dtype=np.uint16), (100, 1))
    bright = values.copy()
    bright[0, :20] = 60_000  # 0.2 % of the pixels
    pixels = [dicom.read_dicom(write_dicom(tmp_path / f'{i}.dcm', v)).pixels for i, v in enumerate((values, bright))]
    np.testing.assert_allclose(pixels[0][1:].astype(int), pixels[1][1:], atol=2)


@pytest.mark.parametrize('dtype', [np.uint8, np.int8, np.uint16, np.int16])
def test_slices_of_every_width_and_sign_are_stretched_alike(tmp_path, dtype):
    start = -6 if np.dtype(dtype).kind == 'i' else 0
    values = (np.arange(12) + start).astype(dtype).reshape(3, 4)
    expected = dicom.read_dicom(write_dicom(tmp_path / 'reference.dcm', RAMP)).pixels
    np.testing.assert_array_equal(dicom.read_dicom(write_dicom(tmp_path / 'a.dcm', values)).pixels, expected)


def test_a_negative_slope_turns_dark_into_bright_and_monochrome1_does_too(tmp_path):
    plain = dicom.read_dicom(write_dicom(tmp_path / 'plain.dcm', RAMP)).pixels.astype(int)
    slope = dicom.read_dicom(write_dicom(tmp_path / 'slope.dcm', RAMP, RescaleSlope=-2, RescaleIntercept=7)).pixels
    inverse = dicom.read_dicom(write_dicom(tmp_path / 'one.dcm', RAMP, PhotometricInterpretation='MONOCHROME1')).pixels
    both = dicom.read_dicom(write_dicom(tmp_path / 'both.dcm', RAMP, RescaleSlope=-2, RescaleIntercept=7,
                                        PhotometricInterpretation='MONOCHROME1')).pixels
    np.testing.assert_allclose(slope, 255 - plain, atol=1)
    np.testing.assert_allclose(inverse, 255 - plain, atol=1)
    np.testing.assert_allclose(both, plain, atol=1)


def test_constant_slices_are_black_and_a_single_speck_is_kept(tmp_path):
    constant = np.full((20, 20), 700, np.uint16)
    assert not dicom.read_dicom(write_dicom(tmp_path / 'a.dcm', constant)).pixels.any()
    constant[3, 4] = 900
    pixels = dicom.read_dicom(write_dicom(tmp_path / 'b.dcm', constant)).pixels
    assert pixels[3, 4] == 255 and pixels.sum() == 255


@pytest.mark.parametrize('syntax', [uid.ImplicitVRLittleEndian, uid.RLELossless])
def test_other_transfer_syntaxes_that_can_be_decoded_give_the_same(tmp_path, syntax):
    expected = dicom.read_dicom(write_dicom(tmp_path / 'reference.dcm', RAMP)).pixels
    path = write_dicom(tmp_path / 'a.dcm', RAMP, uid.ImplicitVRLittleEndian)
    if syntax.is_compressed:
        dataset = pydicom.dcmread(path)
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.save_as(path)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID == syntax
    np.testing.assert_array_equal(dicom.read_dicom(path).pixels, expected)


# What is told about the slice.

def test_spacing_is_row_then_column_and_texts_are_kept(tmp_path):
    image = dicom.read_dicom(write_dicom(tmp_path / 'a.dcm', RAMP, PixelSpacing=[1.25, 0.75],
                                         SeriesDescription=' CINESAX_14 '))
    assert image.spacing_mm == (1.25, 0.75)
    assert (image.patient_id, image.series_description) == ('SCD0000101', 'CINESAX_14')


@pytest.mark.parametrize('spacing', [None, [0, 1], [-1, 1], '1.5'])
def test_missing_or_impossible_spacing_is_none(tmp_path, spacing):
    path = write_dicom(tmp_path / 'a.dcm', RAMP, PixelSpacing=spacing, PatientID=None)
    image = dicom.read_dicom(path)
    assert image.spacing_mm is None and image.patient_id == '' and image.series_description == ''


# Files that are refused: one line each.

def test_missing_folder_empty_and_foreign_files(tmp_path):
    assert 'no such file' in error_of(tmp_path / 'missing.dcm')
    assert 'is a folder' in error_of(tmp_path)
    (tmp_path / 'empty.dcm').touch()
    assert 'empty' in error_of(tmp_path / 'empty.dcm')
    for number, content in enumerate((b'dear diary', b'dear diary' * 100)):
        path = tmp_path / f'{number}.dcm'
        path.write_bytes(content)
        assert 'not a DICOM file' in error_of(path)


def test_no_pixels_colour_frames_and_size(tmp_path):
    assert 'no pixel data' in error_of(write_dicom(tmp_path / 'a.dcm', RAMP, PixelData=None))
    colour = np.zeros((2, 6), np.uint8)
    path = write_dicom(tmp_path / 'rgb.dcm', colour, Columns=2, SamplesPerPixel=3, PhotometricInterpretation='RGB',
                       PlanarConfiguration=0)
    assert 'colour' in error_of(path)
    assert 'colour' in error_of(write_dicom(tmp_path / 'p.dcm', RAMP, PhotometricInterpretation='PALETTE COLOR'))
    frames = write_dicom(tmp_path / 'f.dcm', np.stack([RAMP] * 3), NumberOfFrames=3)
    assert '3 frames' in error_of(frames)
    assert '60000x60000' in error_of(write_dicom(tmp_path / 'big.dcm', RAMP, Rows=60_000, Columns=60_000))
    assert 'is not the size' in error_of(write_dicom(tmp_path / 'none.dcm', RAMP, Rows=0))
    assert 'header' in error_of(write_dicom(tmp_path / 'rows.dcm', RAMP, Rows=None))


@pytest.mark.parametrize('syntax, name', [
    (uid.JPEGLosslessSV1, 'JPEG Lossless'), (uid.JPEGLSLossless, 'JPEG-LS'), (uid.MPEG2MPML, 'MPEG2')])
def test_a_syntax_without_a_decoder_is_named_with_a_way_out(tmp_path, syntax, name):
    if uid.UID(syntax) != uid.MPEG2MPML and pydicom.pixels.get_decoder(syntax).is_available:
        pytest.skip('a decoder is installed')
    path = write_dicom(tmp_path / 'a.dcm', RAMP, uid.ExplicitVRLittleEndian)
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([b'\0' * 20])
    dataset['PixelData'].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.save_as(path)
    message = error_of(path)
    assert name in message and 'gdcmconv --raw' in message


def test_a_deflated_file_is_refused_before_it_is_inflated(tmp_path):
    path = write_dicom(tmp_path / 'a.dcm', np.zeros((2000, 2000), np.uint16), uid.DeflatedExplicitVRLittleEndian)
    assert path.stat().st_size < 20_000
    assert 'Deflated' in error_of(path)


def test_a_truncated_file_is_an_error_wherever_it_ends(tmp_path):
    data = write_dicom(tmp_path / 'whole.dcm', np.arange(900, dtype=np.uint16).reshape(30, 30)).read_bytes()
    for kept in (1, 131, 140, 200, 350, 500, len(data) // 2, len(data) - 2):
        part = tmp_path / f'part{kept}.dcm'
        part.write_bytes(data[:kept])
        error_of(part)


@pytest.mark.filterwarnings('ignore')
def test_random_damage_gives_a_slice_or_a_user_error(tmp_path):
    random = np.random.default_rng(0)
    whole = write_dicom(tmp_path / 'whole.dcm', RAMP, PixelSpacing=[1, 1], RescaleSlope=1, RescaleIntercept=0)
    whole = np.frombuffer(whole.read_bytes(), np.uint8)
    path, refused = tmp_path / 'damaged.dcm', 0
    for _ in range(150):
        data = whole.copy()
        data[random.integers(128, len(data), 4)] = random.integers(0, 256, 4)
        path.write_bytes(data.tobytes())
        try:
            assert dicom.read_dicom(path).pixels.dtype == np.uint8
        except UserError as error:
            assert '\n' not in str(error)
            refused += 1
    assert 0 < refused < 150


def test_offences_against_the_standard_are_not_reported_on_the_terminal(tmp_path):
    path = write_dicom(tmp_path / 'a.dcm', RAMP, PixelData=RAMP.tobytes() + bytes(10))
    program = (f'import logging; logging.basicConfig(); import launch; from practicum.input_pipeline import dicom; '
               f'dicom.read_dicom({str(path)!r}); print("pixels")')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True, text=True)
    assert done.stdout == 'pixels\n' and done.stderr == ''
    loud = subprocess.run([sys.executable, '-c', f'import pydicom; pydicom.dcmread({str(path)!r}).pixel_array'],
                          capture_output=True, text=True)
    assert 'Warning' in loud.stderr  # Otherwise there was nothing to silence.


# DICOM among other images.

def test_read_image_reads_dicom_by_content_and_by_suffix(tmp_path):
    path = write_dicom(tmp_path / 'IM-0001', RAMP)
    expected = dicom.read_dicom(path).pixels
    assert dicom.is_dicom(path)
    np.testing.assert_array_equal(images.read_image(path, channels=1), expected[..., None])
    np.testing.assert_array_equal(images.read_image(path, channels=3), np.repeat(expected[..., None], 3, axis=2))
    (tmp_path / 'broken.dcm').write_bytes(b'nonsense')
    with pytest.raises(UserError, match='broken.dcm: is not a DICOM file'):
        images.read_image(tmp_path / 'broken.dcm', channels=1)
    (tmp_path / 'notes.txt').write_text('DICM')
    assert not dicom.is_dicom(tmp_path / 'notes.txt') and not dicom.is_dicom(tmp_path)


def test_find_images_finds_dicom(tmp_path):
    for name in ('a.dcm', 'b.DICOM', 'c.txt'):
        (tmp_path / name).touch()
    assert [path.name for path in image_search.find_images(tmp_path)] == ['a.dcm', 'b.DICOM']


def test_pydicom_is_not_imported_before_it_is_needed():
    program = 'import sys; import launch; from practicum.input_pipeline import images; print("pydicom" in sys.modules)'
    assert subprocess.run([sys.executable, '-c', program], capture_output=True, text=True).stdout == 'False\n'


def test_content_is_read_as_its_file_is_and_named_the_image(tmp_path):
    path = write_dicom(tmp_path / 'a.dcm', RAMP)
    np.testing.assert_array_equal(images.read_image(images.Content(path.read_bytes()), channels=1),
                                  images.read_image(path, channels=1))
    deflated = write_dicom(tmp_path / 'b.dcm', RAMP, syntax=uid.DeflatedExplicitVRLittleEndian)
    with pytest.raises(UserError, match='^the image: has transfer syntax Deflated'):
        images.read_image(images.Content(deflated.read_bytes()), channels=1)
