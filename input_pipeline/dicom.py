"""Reading single grey DICOM slices into uint8 images with their pixel spacing."""

import dataclasses
import functools
import logging
import math
import os
import re
import tempfile
import warnings
from pathlib import Path

import numpy as np

from ..common.errors import UserError, file_error

SUFFIXES = ('.dcm', '.dicom')

# Grey values of MR have no absolute unit and a few pixels (fat near a coil, flow) are many times brighter than the
# rest, so a slice is stretched by its own percentiles. Of the Sunnybrook ventricles, 0.03 % of the pixels saturate at
# the 99.5th and 2 % at the 98th.
_BLACK_PERCENTILE, _WHITE_PERCENTILE = 0.5, 99.5

# Above any scanner's matrix. The file itself is limited because pydicom reads it whole.
_MAX_PIXELS = 100_000_000
_MAX_BYTES = 1_000_000_000

# Users' files are full of small offences against the standard; pydicom would report each on the terminal.
warnings.filterwarnings('ignore', module=r'pydicom\.')


@dataclasses.dataclass(frozen=True)
class DicomImage:
    """One slice.

    Attributes:
        pixels: uint8 [height, width], bright is bright whatever the photometric interpretation.
        spacing_mm: distance between the centres of neighbouring (rows, columns) in mm; None if the file has none.
        patient_id: as in the file, '' if it has none.
        series_description: as in the file, '' if it has none.
    """
    pixels: np.ndarray
    spacing_mm: tuple[float, float] | None
    patient_id: str
    series_description: str


def has_suffix(path) -> bool:
    """Whether a file is called DICOM; content in memory is called nothing."""
    return not isinstance(path, bytes) and os.fspath(path).lower().endswith(SUFFIXES)


def is_dicom(path) -> bool:
    """Whether a file is to be read as DICOM: it has the magic 'DICM' at byte 128, or the suffix of one."""
    if isinstance(path, bytes):
        return path[128:132] == b'DICM'
    path = Path(path)
    if path.suffix.lower() in SUFFIXES:
        return True
    try:
        if not path.is_file():  # A pipe would block.
            return False
        with path.open('rb') as file:
            return file.read(132)[128:] == b'DICM'
    except OSError:
        return False


def read_dicom(path) -> DicomImage:
    """Reads a file with one grey frame (DICOM PS3.3 C.7.6.3, C.11.1): modality lookup or rescale, then 0..255.

    The slice's 0.5th to 99.5th percentile becomes 0..255 linearly, what lies beyond is clipped, and a slice of one
    value becomes zeros. MONOCHROME1 is inverted. Window centre and width are ignored, because they are what somebody
    liked to look at, and many files have none.

    Raises:
        UserError: one line naming the file and what is wrong: missing, not DICOM, without pixels, in colour, of several
            frames, of absurd size, cut short, or compressed in a way that cannot be decoded here.
    """
    dataset = _parse(path)
    _check_header(dataset, path)
    try:
        values = _decode(dataset)
    # What pydicom's decoders raise on a malformed file (ValueError, RuntimeError, struct.error, AttributeError, ...)
    # changes with its releases, and nothing else runs in this block.
    except Exception as error:
        raise file_error(path, f'the pixel data is damaged or cut short ({_plain(error)})'
                          ) from None
    if not np.all(np.isfinite(values)):
        raise file_error(path, 'has pixels that are no finite numbers')
    if dataset.PhotometricInterpretation == 'MONOCHROME1':
        values = -values
    return DicomImage(_to_eight_bits(values), _spacing(dataset), _text(dataset, 'PatientID'),
                      _text(dataset, 'SeriesDescription'))


def pixel_spacing(path) -> tuple[float, float] | None:
    """Returns the `spacing_mm` of `read_dicom` without decoding pixels; raises UserError for a file that is damaged."""
    return _spacing(_parse(path))


@functools.lru_cache
def _pydicom():
    """Imports pydicom, which most runs never need, and turns off its log, which repeats its warnings."""
    import pydicom
    logging.getLogger('pydicom').setLevel(logging.CRITICAL)
    return pydicom


def _parse(path):
    """Reads all elements, undecoded."""
    if isinstance(path, bytes):
        with tempfile.NamedTemporaryFile(suffix='.dcm') as file:  # pydicom reads the beginning of files alone
            file.write(path)
            file.flush()
            return _parse_file(Path(file.name), path)
    return _parse_file(Path(path), path)


def _parse_file(path, name):
    """The same of a file; errors call it `name`."""
    if path.is_dir():
        raise file_error(name, 'is a folder, not a DICOM file')
    if not path.is_file():
        raise file_error(name, 'no such file')
    pydicom = _pydicom()
    try:
        size = path.stat().st_size
        if size == 0:
            raise file_error(name, 'is empty (0 bytes)')
        if size > _MAX_BYTES:
            raise file_error(name, f'{size / 1e9:.1f} GB is too large for one slice')
        meta = pydicom.filereader.read_file_meta_info(path)
        if meta.get('TransferSyntaxUID') == pydicom.uid.DeflatedExplicitVRLittleEndian:
            # pydicom would inflate it without a limit, to a thousand times its size.
            raise file_error(name, 'has transfer syntax Deflated Explicit VR Little Endian, which is not read here; '
                                    'convert it, such as with dcmconv +te IN OUT')
        return pydicom.dcmread(path)
    except UserError:
        raise
    except PermissionError:
        raise file_error(name, 'may not be read (permission denied)') from None
    except pydicom.errors.InvalidDicomError:
        raise file_error(name, "is not a DICOM file (no 'DICM' at byte 128)") from None
    except Exception as error:  # As for the decoders: whatever a malformed file trips the parser into.
        raise file_error(name, f'is damaged or cut short ({_plain(error)})') from None


def _check_header(dataset, path):
    """Refuses what is not one grey frame of a sane size, before anything is decoded."""
    if not any(name in dataset for name in ('PixelData', 'FloatPixelData', 'DoubleFloatPixelData')):
        raise file_error(path, 'has no pixel data')
    try:
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        samples, frames = int(dataset.get('SamplesPerPixel') or 1), int(dataset.get('NumberOfFrames') or 1)
        photometric = str(dataset.PhotometricInterpretation)
        syntax = dataset.file_meta.TransferSyntaxUID
    except Exception as error:  # Missing elements, and values that are no numbers, are found only when asked for.
        raise file_error(path, f'its header is damaged or cut short ({_plain(error)})') from None
    if samples != 1 or photometric not in ('MONOCHROME1', 'MONOCHROME2'):
        raise file_error(path, f'is in colour ({samples} samples per pixel, {photometric}); only grey DICOM is read')
    if frames != 1:
        raise file_error(path, f'has {frames} frames; save each as a file of its own')
    if not 0 < rows * columns <= _MAX_PIXELS:
        raise file_error(path, f'{columns}x{rows} pixels is not the size of a slice')
    if not _decodable(syntax):
        raise file_error(path, f'is compressed as {syntax.name}, which cannot be decoded here; decompress it first, '
                                'such as with gdcmconv --raw IN OUT or dcmdjpeg IN OUT')


def _decodable(syntax):
    try:
        return _pydicom().pixels.get_decoder(syntax).is_available
    except NotImplementedError:
        return False


def _decode(dataset):
    """Returns float64 [rows, columns] in the units after the modality transform."""
    pixels = _pydicom().pixels
    values = np.asarray(pixels.apply_modality_lut(dataset.pixel_array, dataset), np.float64)
    if values.shape != (dataset.Rows, dataset.Columns):
        raise ValueError(f'decoded to shape {values.shape}')
    return values


def _to_eight_bits(values):
    low, high = np.percentile(values, (_BLACK_PERCENTILE, _WHITE_PERCENTILE))
    if low == high:  # One value, or less than 1 % of the pixels differ from it.
        low, high = values.min(), values.max()
    if low == high:
        return np.zeros(values.shape, np.uint8)
    return np.round(np.clip((values - low) / (high - low), 0, 1) * 255).astype(np.uint8)


def _spacing(dataset):
    """(row, column) in mm of PixelSpacing, or None where it is missing, malformed or not positive."""
    try:
        row, column = (float(value) for value in dataset.get('PixelSpacing') or ())
    except Exception:  # Malformed values raise only when asked for, and the pixels are good without them.
        return None
    return (row, column) if 0 < row < math.inf and 0 < column < math.inf else None


def _text(dataset, name):
    try:
        return str(dataset.get(name) or '').strip()
    except Exception:  # Undecodable text.
        return ''


def _plain(error):
    """The text of somebody's exception without addresses of objects in memory, such as <_io.BytesIO object at 0x7f>."""
    return re.sub(r' *<[^<>]* at 0x[0-9a-f]+>', '', str(error)) or type(error).__name__
