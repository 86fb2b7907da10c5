"""Texts as streams of tokens, for language models: every row of a batch reads on where it stopped one step before.

Texts come from files, <name>/<split>.txt, <name>.<split>.txt or one file that is all 'train', each of them possibly
.gz; or are the feature 'text' of a data set that tensorflow-datasets prepares.
"""

import codecs
import gzip
import io
import logging
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, file_error
from ..common.vocabulary import END, PAD, UNKNOWN, Vocabulary
from . import tfds_source
from .source import Examples, Source

_MOST_UNKNOWN = 0.2  # share of unknown tokens above which a text is warned of
_SUFFIXES = ('.txt', '.txt.gz')
_MAX_BYTES = 2**30  # of a compressed text; a few megabytes could unpack to more than there is memory


class TokenStream(Source):
    """A text as one long sequence of tokens, every line ended by <end>, cut into windows.

    Its batches are made of several contiguous streams, see `StreamBatches` and `StreamEvalBatches`; as a source of
    single examples it has one stream.

    Args:
      tokens: int32 [n + 1]: what the first token to be predicted follows, and the n that are.
      num_steps: length of a window.
      streams: how many streams an evaluation reads side by side.
      info: of the data set.
    """

    def __init__(self, tokens: np.ndarray, num_steps: int, streams: int, info: DatasetInfo):
        self.tokens, self.num_steps, self.streams, self.info = tokens, num_steps, streams, info

    def __len__(self) -> int:
        return -(-(len(self.tokens) - 1) // self.num_steps)

    def read(self, indices: np.ndarray, uniforms: np.ndarray | None = None) -> Examples:
        """Returns windows of the text as a single stream, see `windows`."""
        del uniforms
        begins = np.asarray(indices) * self.num_steps
        return self.windows(begins, np.full(len(begins), len(self.tokens) - 1), begins == 0)

    def describe(self, indices: np.ndarray) -> list[dict[str, Any]]:
        """Returns the place of each window in the text, in tokens."""
        return [{'token': int(index) * self.num_steps} for index in indices]

    def windows(self, begins: np.ndarray, ends: np.ndarray, first: np.ndarray) -> dict[str, np.ndarray]:
        """Returns one window of each of some streams.

        Args:
          begins: int [rows], token at which each window begins.
          ends: int [rows], token before which each stream ends; what lies beyond is <pad>.
          first: bool [rows], whether it is the first window of its stream.

        Returns:
          'tokens' and 'targets', int32 [rows, num_steps], the targets one token ahead; 'begin', float32 [rows].
        """
        places = begins[:, None] + np.arange(self.num_steps)
        valid = places < ends[:, None]
        places = np.minimum(places, len(self.tokens) - 2)
        return {'tokens': np.where(valid, self.tokens[places], PAD).astype(np.int32),
                'targets': np.where(valid, self.tokens[places + 1], PAD).astype(np.int32),
                'begin': np.asarray(first, np.float32)}


class StreamBatches:
    """The endless stream of training batches: the text cut into as many streams as a batch has rows.

    Row r of a batch goes on where row r of the one before stopped; after the last whole window all streams begin anew
    (Zaremba et al. 2014, section 4.1). The same interface as `input_pipeline.batches.TrainBatches`.

    Args:
      source: the text.
      batch_size: rows over all processes.
      rows: which rows this process reads.

    Attributes:
      examples: windows of an epoch.

    Raises:
      UserError: the text is shorter than one window of every stream.
    """

    def __init__(self, source: TokenStream, batch_size: int, rows: slice = slice(None)):
        self._source, self._rows = source, rows
        self._length = (len(source.tokens) - 1) // batch_size
        self._windows = self._length // source.num_steps
        if not self._windows:
            raise UserError(f'the training text has {len(source.tokens) - 1:,} tokens, too few for a window of '
                            f'{source.num_steps} in each of {batch_size} streams: lower config.text.num_steps or '
                            'config.batch_size')
        self.examples = self._windows * batch_size
        self._starts = np.arange(batch_size) * self._length

    def __call__(self, step: int) -> dict[str, np.ndarray]:
        """Returns this process's rows of the batch of a step."""
        window = step % self._windows
        starts = self._starts[self._rows]
        begins = starts + window * self._source.num_steps
        return self._source.windows(begins, starts + self._length, np.full(len(starts), window == 0))


class StreamEvalBatches:
    """A whole text, every token predicted once, in `source.streams` streams side by side.

    The last windows are padded, and so is the batch, to `batch_size` rows; 'mask' is 0 for rows that are no stream.
    The result depends on the number of streams (each begins without a past) and on nothing else.

    Args:
      source: the text.
      batch_size: rows over all processes, at least the number of streams.
      rows: which rows this process reads.
      positions: whether batches number their windows, 'position' int32 [batch].
    """

    def __init__(self, source: TokenStream, batch_size: int, rows: slice = slice(None), *, positions: bool = False):
        self._source, self._rows, self._positions = source, rows, positions
        total = len(source.tokens) - 1
        self._length = -(-total // source.streams)
        self._starts = np.minimum(np.arange(batch_size) * self._length, total)
        self._ends = np.where(np.arange(batch_size) < source.streams, np.minimum(self._starts + self._length, total), 0)

    def __len__(self) -> int:
        return -(-self._length // self._source.num_steps)

    def __call__(self, number: int) -> dict[str, np.ndarray]:
        """Returns this process's rows of a batch, with 'mask' float32."""
        starts, ends = self._starts[self._rows], self._ends[self._rows]
        begins = starts + number * self._source.num_steps
        windows = self._source.windows(begins, ends, np.full(len(starts), number == 0))
        place = {}
        if self._positions:
            place = {'position': np.arange(len(self._starts), dtype=np.int32)[self._rows] * len(self) + number}
        return windows | place | {'mask': (ends > starts).astype(np.float32)}


def _read_files(data: Mapping[str, Any], split: str) -> list[str]:
    """Returns the text of <name>/<split>.txt, <name>.<split>.txt or, for 'train', of the file <name> itself."""
    name = data['name']
    if not name:
        raise UserError('config.data.name is empty: give a text file, a folder with train.txt, or the beginning of '
                        'files such as <name>.train.txt')
    path = Path(name).expanduser()
    stems = [path / split, path.parent / f'{path.name}.{split}']
    found = [file for stem in stems for suffix in _SUFFIXES
             if (file := stem.with_name(stem.name + suffix)).is_file()]
    if not found and path.is_file():
        if split != 'train':
            raise UserError(f"{path} is one file: all of it is 'train'; take parts of that instead of {split!r}, such "
                            "as --config.data.train='train[:80%]' --config.evaluation.sets.test.split='train[80%:]'")
        found = [path]
    if not found:
        raise UserError(f'config.data.name = {name!r}: there is neither {stems[0]}.txt nor {stems[1]}.txt (or .gz)'
                        + ('' if split != 'train' else f', nor a file {path}'))
    return [read_text(found[0])]


def read_text(file: Path) -> str:
    """Returns the text of a file in UTF-8, possibly compressed.

    Raises:
      UserError: it cannot be read, or is not UTF-8; the message names line and byte.
    """
    try:
        if file.suffix == '.gz':
            with gzip.open(file) as opened:
                content = opened.read(_MAX_BYTES + 1)
            if len(content) > _MAX_BYTES:
                raise file_error(file, f'unpacks to more than {_MAX_BYTES / 2**30:g} GiB: divide it')
        else:
            content = file.read_bytes()
        return content.decode().removeprefix('\ufeff')  # a byte order mark
    except UnicodeDecodeError as error:
        if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise file_error(file, 'is UTF-16: convert it with iconv -f utf16 -t utf8') from error
        line = content.count(b'\n', 0, error.start) + 1
        raise file_error(file, f'line {line} is not UTF-8 (byte {content[error.start]:#04x} at {error.start:,}): '
                               'convert it, such as with iconv -f latin1 -t utf8') from error
    except (OSError, EOFError, zlib.error) as error:
        raise file_error(file, getattr(error, 'strerror', None) or str(error)) from error


READERS: dict[str, Callable[[Mapping[str, Any], str], list[str]]] = {
    'text': _read_files,
    'tfds_text': tfds_source.read_texts,
}


def read_lines(data: Mapping[str, Any], split: str) -> list[str]:
    """Returns the lines of a whole split.

    Raises:
      UserError: there is no such text, or it is empty.
    """
    # Not splitlines, for which form feeds and others end lines too.
    lines = [line.rstrip('\n') for text in READERS[data['source']](data, split)
             for line in io.StringIO(text, newline=None)]
    if not any(line.strip() for line in lines):
        raise UserError(f"config.data.name = {data['name']!r}: the text of {split!r} is empty")
    return lines


def open_stream(lines: list[str], text: Mapping[str, Any], vocabulary: Vocabulary | None) -> TokenStream:
    """Encodes lines.

    Args:
      lines: of a split, or of a part of one.
      text: config.text.
      vocabulary: of the training text; None to build it from these lines.

    Raises:
      UserError: a field of config.text that does not fit.
    """
    if text['num_steps'] < 1 or text['streams'] < 1:
        raise UserError(f"config.text.num_steps = {text['num_steps']} and config.text.streams = {text['streams']}: "
                        'both must be at least 1')
    if vocabulary is None:
        vocabulary = Vocabulary.build(lines, text['tokens'], lowercase=text['lowercase'], min_count=text['min_count'],
                                      max_size=text['max_size'])
    tokens = [END]
    for line in lines:
        encoded = vocabulary.encode(line)
        if encoded or vocabulary.kind == 'characters':  # a line without words is none
            tokens += [*encoded, END]
    total = len(tokens) - 1
    tokens = np.asarray(tokens, np.int32)
    unknown = np.count_nonzero(tokens == UNKNOWN) / total
    if unknown > _MOST_UNKNOWN:
        logging.warning('%.0f %% of a text of %s tokens are unknown to the vocabulary and read as <unk>: a perplexity '
                        'says little there', 100 * unknown, f'{total:,}')
    stream = {'tokens': total, 'num_steps': text['num_steps'], 'checksum': zlib.crc32(tokens)}
    return TokenStream(tokens, text['num_steps'], min(text['streams'], total),
                       DatasetInfo(vocabulary=vocabulary.to_meta(), stream=stream))
