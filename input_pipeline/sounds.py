"""Sounds of WAV files, and their spectrograms: pictures of which pitches there are when."""

import functools
import io
import math
import types
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.errors import UserError, file_error
from . import images
from .images import Content

SUFFIXES = ('.wav', '.wave')
_MOST_BYTES = 2**28  # of a file, which is read as a whole
_HIGHEST_RATE = 768_000  # samples per second; a damaged header says anything, and memory goes with it
_STREAMED = 0x7FFF0000  # from here on the size that a program writes which does not know how long a sound will be


def check(sound: Mapping[str, Any]) -> None:
    """Raises UserError if a field of config.image.sound is out of its range."""
    for field in ('rate', 'seconds', 'step', 'range_db'):
        if not (math.isfinite(sound[field]) and sound[field] > 0):
            raise UserError(f'config.image.sound.{field} = {sound[field]}: it must be above 0')
    window, samples = sound['window'], length_of(sound)
    if not window:
        return
    if not 8 <= window <= samples:
        raise UserError(f'config.image.sound.window = {window}: it is a number of samples, from 8 to the {samples:,} '
                        'of a sound, or 0 for the wave itself')
    if sound['step'] > window:
        raise UserError(f"config.image.sound.step = {sound['step']}: windows of {window} samples that begin further "
                        'apart leave out what is between them')


def length_of(sound: Mapping[str, Any]) -> int:
    """Returns how many samples config.image.sound makes a sound have."""
    return max(1, round(sound['rate'] * sound['seconds']))


def read_wave(path: str | Path | Content, sound: Mapping[str, Any]) -> np.ndarray:
    """Reads the beginning of a WAV file.

    Channels are averaged, the rate is changed to config.image.sound.rate; what is longer than its seconds is cut off,
    what is shorter is followed by silence.

    Args:
      path: the file, or its `Content`.
      sound: config.image.sound.

    Returns:
      float32 [samples], in [-1, 1].

    Raises:
      UserError: it is missing, no WAV file, damaged, cut off, empty, or too large.
    """
    rate, samples = _read(path)
    if samples.dtype.kind == 'f':
        wave = samples.astype(np.float64)
        if not np.isfinite(wave).all():
            raise file_error(path, 'holds samples that are no numbers (NaN or infinity)')
    else:
        middle = 128 if samples.dtype == np.uint8 else 0  # WAV's 8 bits have no sign
        wave = (samples.astype(np.float64) - middle) / (128 if middle else np.iinfo(samples.dtype).max + 1)
    wave = wave.mean(axis=1) if wave.ndim == 2 else wave
    wave = wave[:math.ceil(rate * sound['seconds'])]
    return fitted(wave, rate, sound)


def fitted(wave: np.ndarray, rate: int, sound: Mapping[str, Any]) -> np.ndarray:
    """Returns a wave, float [samples] of some rate, in the rate and length of config.image.sound, float32."""
    if rate != sound['rate']:
        from scipy import signal
        divisor = math.gcd(rate, sound['rate'])
        wave = signal.resample_poly(wave, sound['rate'] // divisor, rate // divisor)
    length = length_of(sound)
    return np.pad(wave[:length], (0, max(0, length - len(wave)))).astype(np.float32)


def spectrogram(wave: np.ndarray, sound: Mapping[str, Any]) -> np.ndarray:
    """Returns the spectrogram of a wave: time from left to right, pitch from the bottom up, power in decibels.

    White is the loudest that this sound has, black is `range_db` below that or silence: how loud a recording is means
    nothing here.

    Args:
      wave: float32 [samples].
      sound: config.image.sound; Hann windows of `window` samples begin every `step` samples.

    Returns:
      uint8 [window // 2 + 1, windows, 1].
    """
    from scipy import signal
    _, _, power = signal.spectrogram(wave, sound['rate'], window='hann', nperseg=sound['window'],
                                     noverlap=sound['window'] - sound['step'], detrend=False, scaling='spectrum')
    loudest = power.max(initial=0.0)
    if not loudest > 0:
        return np.zeros((*power.shape, 1), np.uint8)
    decibels = 10 * np.log10(np.maximum(power / loudest, 1e-30))
    shares = np.clip(1 + decibels / sound['range_db'], 0, 1)
    return np.round(255 * shares[::-1, :, None]).astype(np.uint8)


def to_row(wave: np.ndarray) -> np.ndarray:
    """Returns a wave as a model takes it that looks at waves, over its own loudest sample: float32 [samples]."""
    return wave / np.float32(max(1e-9, float(np.abs(wave).max(initial=0))))


def to_image(wave: np.ndarray, image: Mapping[str, Any]) -> np.ndarray:
    """Returns the spectrogram of a wave as a model takes it, uint8 [height, width, channels].

    Args:
      wave: float32 [samples].
      image: config.image.
    """
    return np.repeat(images.resize(spectrogram(wave, image['sound']), tuple(image['size'])), image['channels'], axis=2)


def _read(path: str | Path | Content) -> tuple[int, np.ndarray]:
    content = _bytes(path)
    try:
        rate, samples = _wavfile().read(io.BytesIO(content))
    # scipy raises whatever a malformed file trips it into (ValueError, struct.error, EOFError, MemoryError, ...).
    except Exception as error:
        raise file_error(path, f'is no WAV file, or damaged ({error or type(error).__name__})') from None
    if _cut_off(content):
        raise file_error(path, 'is cut off: it ends before the samples that its header announces')
    if len(samples) < 2:  # a single one has no pitch
        raise file_error(path, 'holds no sound')
    if not 1 <= rate <= _HIGHEST_RATE:
        raise file_error(path, f'is damaged: its header says {rate:,} samples per second, at most {_HIGHEST_RATE:,} '
                         'are read')
    return int(rate), samples


@functools.cache
def _wavfile() -> types.ModuleType:
    from scipy.io import wavfile
    # Chunks that are no samples; of samples that are missing scipy only warns, too, see `_cut_off`. For good, since
    # filters are the whole process's and several threads read.
    warnings.filterwarnings('ignore', category=wavfile.WavFileWarning)
    return wavfile


def _bytes(path: str | Path | Content) -> bytes:
    if isinstance(path, Content):
        return path
    file = Path(path)
    try:
        if not file.is_file():  # also a pipe, which would block
            raise file_error(path, 'is a folder, not a sound' if file.is_dir() else 'no such file')
        if file.stat().st_size > _MOST_BYTES:
            raise file_error(path, f'is larger than {_MOST_BYTES / 2**20:.0f} MiB: cut it first')
        return file.read_bytes()
    except OSError as error:
        raise file_error(path, f'cannot be read: {error.strerror or error}') from None


def _cut_off(content: bytes) -> bool:
    """Whether a WAV file ends before its samples do."""
    order: Any = 'big' if content.startswith(b'RIFX') else 'little'
    begin = 12  # of the first chunk, which is its name, its size and what it holds
    while begin + 8 <= len(content):
        size = int.from_bytes(content[begin + 4:begin + 8], order)
        if content[begin:begin + 4] == b'data':
            if content.startswith(b'RF64'):
                size = int.from_bytes(content[28:36], 'little')
            return size < _STREAMED and begin + 8 + size > len(content)
        begin += 8 + size + size % 2
    return False
