"""Any source of labelled images -> a data set of tfds in array_record: few large files with random access.

That is what network file systems want, which take a round trip for every small file. Images keep their own size: plain
JPEGs stay the bytes that they are, all others become PNGs of the pixels that were read before. tfds reads the result
like any other of its data sets; TensorFlow is needed for neither.
"""

import contextlib
import dataclasses
import io
import json
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import ProgressLog
from ..common.errors import UserError, file_error
from ..common.files import digest, write_json
from ..common.threads import parallel_map
from ..common.turns import one_at_a_time
from . import images, sources, tfds_source, unreadable
from .image_files import ImageFilesSource
from .source import Source

VERSION = '1.0.0'
_PLAN = 'plan.json'  # in an unfinished folder: what its files were written for
_CHUNK = 64  # images encoded per task, after which a request to stop is heard
_SAMPLE = 64  # images whose size decides on the number of files
_COMPARED = 100  # images of each split that are compared in the end


@dataclasses.dataclass(frozen=True)
class _Split:
    """A whole split: its examples in order, without those that cannot be read."""
    name: str
    source: Source
    indices: np.ndarray
    shards: int
    resize: str  # how its images came to the size in which `source` reads them

    def bounds(self, shard: int) -> tuple[int, int]:
        """Returns where the examples of a file begin and end."""
        return shard * len(self.indices) // self.shards, (shard + 1) * len(self.indices) // self.shards


def convert(data: Mapping[str, Any], image: Mapping[str, Any], names: Sequence[str], output: Path, name: str, *,
            shard_mb: int = 256) -> Path:
    """Writes whole splits of a data set to <output>/<name>/1.0.0, and compares the result with the source.

    A file is there as a whole or not at all, and so is the folder: the same command goes on where an interrupted one
    was, if the data are the same.

    Args:
      data, image: config.data and config.image.
      names: of the splits.
      output: a data_dir of tfds.
      name: of the new data set.
      shard_mb: size of its files, about.

    Returns:
      The folder.

    Raises:
      UserError: no such data, examples without labels or with images other than uint8, too many that cannot be read,
        a folder that is there already, or a disk that is full.
      Interrupted: the process was asked to stop.
    """
    if not re.fullmatch(r'[a-z][a-z0-9_]*', name):
        raise UserError(f"--name {name!r}: tfds wants small letters, digits and '_', beginning with a letter")
    if shard_mb < 1:
        raise UserError(f'--shard_mb {shard_mb}: it must be at least 1')
    if data['source'] == 'tfds':
        raise UserError("config.data.source = 'tfds': tfds convert_format --out_file_format=array_record converts its "
                        'data sets')
    if data['source'] not in sources.SOURCES:
        raise UserError(f"config.data.source = {data['source']!r}: prepare converts images with one label each")
    folder = output / name / VERSION
    _check_absent(folder)
    splits = [_open(data, image, split, shard_mb) for split in names]
    known = splits[0].source.info
    if any(split.source.info.class_names != known.class_names for split in splits):
        raise UserError(f'the splits {", ".join(names)} have different classes')
    with one_at_a_time(f'writing {folder}', ['records', str(folder.absolute())]):
        _check_absent(folder)
        try:
            _write(splits, known.class_names, image['channels'], folder, name)
        except OSError as error:
            raise file_error(error.filename or folder, f'cannot be written: {error.strerror}') from error
    return folder


def _check_absent(folder: Path) -> None:
    if folder.exists():
        raise UserError(f'{folder} is there already: use it with --config.data.source=tfds --config.data.name='
                        f'{folder.parent.name} --config.data.data_dir={folder.parent.parent}, or take another --name')


def _open(data: Mapping[str, Any], image: Mapping[str, Any], name: str, shard_mb: int) -> _Split:
    source = sources.SOURCES[data['source']](data, image, name, ())
    if source.has_masks or source.has_boxes or source.has_captions or not source.info.class_names:
        raise UserError(f'{source.name}: prepare converts images with one label each, which these have not')
    indices = np.arange(len(source))
    if source.can_be_unreadable:
        indices = unreadable.readable(source, indices, data['max_unreadable'], pixels=True, workers=data['workers'])
    resize = image.get('resize', 'stretch') if isinstance(source, ImageFilesSource) else 'stretch'
    return _Split(name, source, indices, max(1, round(_split_bytes(source, indices) / (shard_mb * 2**20))), resize)


def _split_bytes(source: Source, indices: np.ndarray) -> float:
    """Returns about how many bytes the images of a split will take."""
    sample = indices[np.linspace(0, len(indices) - 1, min(_SAMPLE, len(indices))).astype(int)]
    return len(indices) * float(np.mean([len(example['image']) for example in _examples(source, sample)]))


def _write(splits: Sequence[_Split], class_names: Sequence[str], channels: int, folder: Path, name: str) -> None:
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.example_serializer import ExampleSerializer
    writing = folder.with_name(f'{VERSION}.incomplete')
    plan = {split.name: [split.shards, len(split.indices), digest([split.source.identity, split.indices.tolist()])]
            for split in splits}
    _begin(writing, plan)
    features = tfds.features.FeaturesDict({
        'image': tfds.features.Image(shape=(None, None, channels)),
        'label': tfds.features.ClassLabel(names=list(class_names)), 'file': tfds.features.Text()})
    serializer = ExampleSerializer(features.get_serialized_info())
    infos = []
    total = sum(len(split.indices) for split in splits)
    tick, done = ProgressLog('writing', total), 0
    for split in splits:
        template = tfds.core.ShardedFileTemplate(data_dir=str(writing), dataset_name=name, split=split.name,
                                                 filetype_suffix='array_record')
        lengths = []
        for shard in range(split.shards):
            begin, end = split.bounds(shard)
            path = Path(template.sharded_filepath(shard_index=shard, num_shards=split.shards))
            if not path.exists():
                records = map(serializer.serialize_example, map(features.encode_example, _encoded(
                    split.source, split.indices[begin:end])))
                _write_file(path, records, lambda count: tick(done + count))
            done += end - begin
            lengths.append(end - begin)
        size = sum(path.stat().st_size for path in writing.glob(f'{name}-{split.name}.array_record-*'))
        infos.append(tfds.core.SplitInfo(name=split.name, shard_lengths=lengths, num_bytes=size,
                                         filename_template=template))
    tfds.folder_dataset.write_metadata(
        data_dir=str(writing), features=features, split_infos=infos, filename_template=infos[0].filename_template,
        version=VERSION, supervised_keys=('image', 'label'), check_data=False)
    for split in splits:
        _compare(split, writing)
    (writing / _PLAN).unlink()
    os.replace(writing, folder)
    logging.info('wrote %s images to %s', f'{total:,}', folder)


def _begin(writing: Path, plan: Mapping[str, Any]) -> None:
    """Makes the folder that is written to, or goes on in the one of an earlier attempt at the same."""
    try:
        same = json.loads((writing / _PLAN).read_text()) == plan
    except (OSError, ValueError):
        same = False
    if same:
        logging.info('going on in %s', writing)
        for unfinished in writing.glob('.*.new'):
            unfinished.unlink()
        return
    if writing.exists():
        logging.info('what is in %s was made of other images or with other options: beginning again', writing)
    shutil.rmtree(writing, ignore_errors=True)
    writing.mkdir(parents=True)
    write_json(writing / _PLAN, plan)


def _write_file(path: Path, records: Iterator[bytes], tick: Callable[[int], None]) -> None:
    """Writes an array_record file, whole or not at all."""
    from array_record.python.array_record_module import ArrayRecordReader, ArrayRecordWriter
    unfinished = path.with_name(f'.{path.name}.new')
    try:
        with _disk_errors(path):
            writer = ArrayRecordWriter(str(unfinished), 'group_size:1')  # each can be read on its own
        count = 0
        for record in records:
            with _disk_errors(path):
                writer.write(record)
            count += 1
            tick(count)
        with _disk_errors(path):
            writer.close()
            found = ArrayRecordReader(str(unfinished)).num_records()
        if found != count:
            raise RuntimeError(f'{path}: {count} records were written, {found} are there')
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def _disk_errors(path: Path) -> Iterator[None]:
    """Makes a UserError of what array_record raises in place of every OSError."""
    try:
        yield
    except (RuntimeError, ValueError) as error:
        raise file_error(path, f'cannot be written: {error}') from error


def _encoded(source: Source, indices: np.ndarray) -> Iterator[dict[str, Any]]:
    """Yields examples as tfds encodes them, in order; images are read and encoded in threads."""
    chunks = [indices[i:i + _CHUNK] for i in range(0, len(indices), _CHUNK)]
    for examples in parallel_map(lambda chunk: _examples(source, chunk), chunks):
        for example in examples:
            yield example | {'image': io.BytesIO(example['image'])}


def _examples(source: Source, indices: np.ndarray) -> list[dict[str, Any]]:
    """Returns {'image': bytes of a file, 'label', 'file'} of examples."""
    if isinstance(source, ImageFilesSource):
        encoded, labels = [source.encoded(int(i)) for i in indices], source.labels
        labels = None if labels is None else labels[indices]
    else:
        examples = source.read(indices)
        found = examples.get('image')
        if found is None or found.dtype != np.uint8 or found.ndim != 4 or found.shape[-1] not in (1, 3):
            raise UserError(f'{source.name}: prepare converts images of 1 or 3 channels of 8 bits, which these are not')
        encoded, labels = list(map(images.to_png, examples['image'])), examples.get('label')
    if labels is None:
        raise UserError(f'{source.name}: prepare converts images with one label each, which these have not')
    files = [metadata.get('file', '') for metadata in source.describe(indices)]
    return [{'image': one, 'label': int(label), 'file': file} for one, label, file in zip(encoded, labels, files)]


def _compare(split: _Split, folder: Path) -> None:
    """Raises RuntimeError if what was written is not what the source says; some examples are looked at, all counted."""
    source = split.source
    size = source.read(split.indices[:1])['image'].shape[1:]
    written = tfds_source.TfdsSource(folder, split.name, size[:2], size[2], split.resize)
    chosen = np.unique(np.linspace(0, len(split.indices) - 1, _COMPARED).astype(int))
    found, expected = written.read(chosen), source.read(split.indices[chosen])
    if len(written) != len(split.indices) or any((found[key] != expected[key]).any() for key in ('image', 'label')):
        raise RuntimeError(f'{folder}: what was written to it is not what {source.name} holds')

