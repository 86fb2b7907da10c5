"""Drawn sounds of one second: tones that rise, fall, do both, stay or are two, under noise."""

import numpy as np

RATE = 8000  # samples per second
SAMPLES = 8000
CLASSES = ('rising', 'falling', 'rising_falling', 'constant', 'two_tone')
EXAMPLES = {'train': 2000, 'validation': 500, 'test': 1000}
NOISE = 0.25, 2.0  # standard deviation of the noise, as a multiple of the tone's amplitude, see `draw`
_SEED = 2026
_PITCHES = 300.0, 3600.0  # Hz
_LEAST_INTERVAL = 500.0  # Hz between the ends of what moves, and between two tones
_SECONDS = 0.4, 0.8  # how long a sound lasts; when it begins is drawn, too
_FADE = 0.01  # seconds at either end
_LOUDEST = 0.9  # of the whole range of a sample


def example(split: str, index: int) -> tuple[np.ndarray, int, float]:
    """Returns one sound, the same whenever it is asked for: int16 [8000], its class, and how loud its noise is.

    Args:
      split: a key of EXAMPLES.
      index: 0 to the number of examples - 1; classes take turns.
    """
    if not 0 <= index < EXAMPLES[split]:
        raise IndexError(f'{split} has no example {index}')
    rng = np.random.default_rng((_SEED, *split.encode(), index))
    label, noise = index % len(CLASSES), float(rng.uniform(*NOISE))
    return draw(CLASSES[label], noise, rng), label, noise


def draw(kind: str, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Returns a sound, int16 [8000]; begin, length, pitches, phases and loudness are drawn.

    Args:
      kind: of CLASSES.
      noise: standard deviation of white noise, as a multiple of the tone's amplitude: of noise 1 the signal-to-noise
        ratio is -3 dB where there is a tone, of 2 it is -9 dB.
      rng: of all that is drawn.
    """
    length = rng.uniform(*_SECONDS)
    times = np.arange(SAMPLES) / RATE
    position = (times - rng.uniform(0, 1 - length)) / length  # from 0 to 1 while it sounds
    low = rng.uniform(_PITCHES[0], _PITCHES[1] - _LEAST_INTERVAL)
    high = rng.uniform(low + _LEAST_INTERVAL, _PITCHES[1])
    share = np.clip(position, 0, 1)
    pitches = {'rising': [low + (high - low) * share], 'falling': [high - (high - low) * share],
               'rising_falling': [low + (high - low) * (1 - np.abs(2 * share - 1))],
               'constant': [np.full(SAMPLES, rng.choice([low, high]))],
               'two_tone': [np.full(SAMPLES, low), np.full(SAMPLES, high)]}[kind]
    tones = sum(np.sin(2 * np.pi * (np.cumsum(pitch) / RATE + rng.random())) for pitch in pitches)
    tones = tones / len(pitches) ** 0.5  # two are as loud together as one
    fade = _FADE / length
    envelope = np.clip(np.minimum(position, 1 - position) / fade, 0, 1)
    sound = tones * envelope + noise * rng.standard_normal(SAMPLES)
    loudness = _LOUDEST * rng.uniform(0.1, 1)
    return np.round(32767 * loudness * sound / np.abs(sound).max()).astype(np.int16)
