"""The meta data of a checkpoint, sealed with a checksum, and the errors of what may not be saved or was damaged."""

import json
import math
import zlib
from collections.abc import Iterable, Mapping
from typing import Any


class NonFiniteError(Exception):
    """A NaN or infinity in the training.

    Args:
      what: is not finite, such as 'the loss' or the path of a parameter.
      step: the step that computed it.
    """

    def __init__(self, what: str, step: int):
        super().__init__(f'{what} of step {step:,}')
        self.what, self.step = what, step


class CorruptError(Exception):
    """A checkpoint whose arrays or meta data are not those that were saved."""


def seal(meta: Mapping[str, Any]) -> dict[str, str]:
    """Returns meta data as text with its checksum."""
    text = json.dumps(meta)
    return {'text': text, 'checksum': f'{zlib.crc32(text.encode()):08x}'}


def unseal(sealed: Mapping[str, str], step: int, items: Iterable[str]) -> dict[str, Any]:
    """Returns the meta data of a step; a checksum seals them against damage, but not against people.

    Raises:
      CorruptError: they are damaged, have not the form that a save gives them, or are of another step, whose folder was
        renamed.
    """
    if f"{zlib.crc32(sealed['text'].encode()):08x}" != sealed['checksum']:
        raise CorruptError('checksum of the meta data does not match')
    meta = json.loads(sealed['text'])
    if not isinstance(meta, dict):
        raise CorruptError(f'its meta data are a {type(meta).__name__}')
    if type(meta.get('step')) is not int or meta['step'] != step:
        raise CorruptError(f'its meta data are those of step {str(meta.get("step"))[:20]}')
    score, checksums = meta.get('score'), meta.get('checksums')
    if not (score is None or type(score) in (int, float) and math.isfinite(score)):
        raise CorruptError('its score is no number')
    if not (isinstance(checksums, dict) and all(isinstance(checksums.get(name), dict) for name in items)):
        raise CorruptError('its meta data have no checksums')
    if not all(isinstance(meta.get(name, {}), dict) for name in ('config', 'data', 'metrics', 'shards')):
        raise CorruptError('its meta data are not those of a run')
    return meta
