"""Opens what config.data names, see input_pipeline/source.py for what a source is.

Add one: a file here with a function like `csv_source.open_split`, and a line in SOURCES.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..common.console import warn_once
from ..common.errors import UserError, nearest, printable
from ..common.vocabulary import Vocabulary
from . import (
    array_files,
    caption_source,
    captions,
    coco_source,
    csv_source,
    folder_source,
    images,
    made_texts,
    mask_folder_source,
    memory,
    point_source,
    proposals,
    region_source,
    relabelling,
    seed_source,
    sound_source,
    splits,
    story_source,
    text_examples,
    text_source,
    texts,
    tfds_source,
    unreadable,
    voc_source,
    word_pairs,
    yolo_source,
)
from .arrays import ArraySource, concatenate
from .reading_processes import ProcessSource
from .source import ConcatenatedSource, Examples, Source
from .text_source import TokenStream

# Each opens a whole split: (config.data, config.image, its name, the area that is cropped or ()) -> Source.
SOURCES = {
    'arrays': array_files.open_config,
    'caption_folder': caption_source.open_split,
    'coco': coco_source.open_split,
    'csv': csv_source.open_split,
    'folder': folder_source.open_split,
    'made_texts': made_texts.open_split,
    'mask_folder': mask_folder_source.open_split,
    'npz': array_files.open_split,
    'points': point_source.open_split,
    'seeds': seed_source.open_split,
    'sounds': sound_source.open_split,
    'stories': story_source.open_split,
    'texts': text_examples.open_split,
    'tfds': tfds_source.open_split,
    'tfds_texts': text_examples.open_tfds,
    'voc_folder': voc_source.open_split,
    'yolo_folder': yolo_source.open_split,
}
_CROPPING = ('folder', 'tfds')
SAMPLINGS = ('uniform', 'balanced')


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, *, invert: bool = False,
               training: bool = False, text: Mapping[str, Any] | None = None, vocabulary: Vocabulary | None = None
               ) -> Source | TokenStream:
    """Opens a split of the data set that config.data names.

    Args:
      data: config.data.
      image: config.image; images come in its size and number of channels.
      split: 'train', a part of it: 'train[:10%]', 'train[-5000:]', or a union of such: 'train[:20%]+train[40%:]'. With
        config.data.folds, what config.data.train names is that without the held-out fold, and 'fold' is the fold.
      invert: read white - image.
      training: config.data.random_resized_crop and sampling apply, and an image that turns out to be damaged late may
        be replaced by another. Otherwise each example is there exactly once, and is known to be sound before the first
        is read.
      text: config.text, for data with texts; None leaves captions out.
      vocabulary: that texts are read in; None to build it from this split.

    Raises:
      UserError: unknown source, data that are not there, unknown split, an empty or impossible part, classes to merge
        that do not exist, too many images that cannot be read.
      Interrupted: the process was asked to stop meanwhile.
    """
    known = (*SOURCES, *text_source.READERS)
    if data['source'] not in known:
        raise UserError(f"config.data.source = {data['source']!r}; {nearest(data['source'], known)}")
    _check_fields(data)
    held_out = bool(data['folds']) and split == splits.FOLD
    rest = bool(data['folds']) and split == data['train']
    parts = splits.parse(data['train'] if held_out else split)
    if data['source'] in text_source.READERS:
        return _open_text(data, parts, text or {}, vocabulary)
    crop_area = tuple(data['random_resized_crop']) if training else ()
    of_regions, whole = data['regions']['kind'], image
    if of_regions:
        proposals.check(data['regions'], image['size'])
        image = {**image, 'size': tuple(data['regions']['image_size'])}
    names = list(dict.fromkeys(part.name for part in parts))
    opened = [SOURCES[data['source']](data, image, name, crop_area) for name in names]
    wholes = dict(zip(names, opened))
    chosen = splits.positions(parts, {name: len(whole) for name, whole in wholes.items()})
    source = opened[0] if len(opened) == 1 else _put_together(opened)
    _check_resize(image, source)
    in_memory = isinstance(source, ArraySource) or (
        not source.needs_rng and _megabytes(source, image) <= data['memory_limit_mb'])
    if not in_memory and not source.random_access:
        why = 'has random parts of its images cropped' if source.needs_rng else (
            f"does not fit into config.data.memory_limit_mb = {data['memory_limit_mb']}")
        raise UserError(f'{source.name} {why}, and TFRecord files cannot be streamed: prepare it with tfds build '
                        '--file_format=array_record, or convert it with tfds convert_format '
                        '--out_file_format=array_record' + ('' if source.needs_rng else ', or raise the limit'))
    examples = memory.load(source) if in_memory and not isinstance(source, ArraySource) else source
    if held_out or rest:
        fold = splits.fold_of(examples, chosen, data['folds'], data['group_by'])
        chosen = chosen[(fold == data['fold']) == held_out]
    taken = splits.taken_from(data, wholes, chosen)
    sound = chosen
    if source.can_be_unreadable and in_memory:
        sound = unreadable.leave_out(examples, source, chosen, data['max_unreadable'])
    elif source.can_be_unreadable:
        sound = unreadable.readable(source, chosen, data['max_unreadable'], pixels=bool(of_regions) or not training,
                                    workers=data['workers'])
        examples = source if training else unreadable.NotingSource(source, chosen)
    examples = _with_labels(examples, source, sound, data, training and not of_regions)
    if text is not None and source.has_texts:
        examples = texts.tokenize(examples, text, vocabulary)
    elif text is not None and source.has_captions:
        examples = captions.tokenize(examples, text, vocabulary)
    if text is not None and data['source'] == 'stories':
        examples = story_source.tokenize(examples, text, vocabulary)
    if invert:
        examples = examples.select(change=_inverted)
    if of_regions:
        examples = region_source.cut_regions(examples, data, whole, training=training)
    elif not in_memory:
        if data['processes']:
            examples = ProcessSource(examples, data['processes'])
        if source.can_be_unreadable and training:
            examples = unreadable.ReplacingSource(examples, data['max_unreadable'], len(chosen) - len(sound))
    if data['processes'] and training and (of_regions or in_memory):
        warn_once(f"warning: no effect of config.data.processes: {source.name} "
                  + ('is read whole, into memory' if in_memory else 'is cut into regions, by threads'))
    examples.taken = taken
    if len(sound) < len(chosen):
        examples.left_out = source, np.setdiff1d(chosen, sound)
    return examples


def _open_text(data: Mapping[str, Any], parts: list[splits.Part], text: Mapping[str, Any],
               vocabulary: Vocabulary | None) -> TokenStream | word_pairs.WordPairs:
    if data['folds']:
        raise UserError('config.data.folds: a text is one stream, it has no folds')
    for field, off in (('sampling', 'uniform'), ('merge_classes', ())):
        if data[field] != off:
            raise UserError(f'config.data.{field}: a text is one stream, it has no classes')
    lines, taken = _lines_of(data, parts)
    make = word_pairs.open_pairs if text.get('window') else text_source.open_stream
    stream = make(lines, text, vocabulary)
    stream.taken = taken
    return stream


def read_lines(data: Mapping[str, Any], split: str) -> list[str]:
    """Returns the lines of a split of a text, of which `open_split` makes a stream.

    Raises:
      UserError: there is no such text or split.
    """
    return _lines_of(data, splits.parse(split))[0]


def _lines_of(data: Mapping[str, Any], parts: list[splits.Part]) -> tuple[list[str], tuple[splits.Taken, ...]]:
    wholes = {part.name: text_source.read_lines(data, part.name) for part in parts}
    lines, taken = [], []
    for part in parts:
        whole = wholes[part.name]
        begin, end = part.bounds(len(whole))
        lines += whole[begin:end]
        taken += splits.taken_from(data, {part.name: whole}, np.arange(begin, end))
    return lines, tuple(taken)


def _put_together(sources: list[Source]) -> Source:
    together = ConcatenatedSource(sources)
    if all(isinstance(source, ArraySource) for source in sources):
        return concatenate(sources, together.info, together.name)
    return together


def _with_labels(examples: Source, source: Source, chosen: np.ndarray, data: Mapping[str, Any], training: bool
                 ) -> Source:
    """Returns the chosen examples, with their classes merged, and with known labels where they are to be balanced."""
    field = 'config.data.merge_classes' if data['merge_classes'] else 'config.data.sampling'
    balanced = training and data['sampling'] == 'balanced'
    if not data['merge_classes'] and not balanced:
        return examples if len(chosen) == len(examples) and (np.diff(chosen) == 1).all() else examples.select(chosen)
    labels = relabelling.read_labels(examples, field)[chosen]
    if not data['merge_classes']:
        return examples.select(chosen, features={'label': labels})
    kept, labels, class_names = relabelling.merge(labels, source.info.class_names, data['merge_classes'], source.name)
    return examples.select(chosen[kept], features={'label': labels},
                           info=source.info.replace(class_names=class_names))


def _inverted(examples: Examples) -> Examples:
    if 'image' not in examples:
        raise UserError('config.evaluation.sets.*.invert: these examples have no images')
    image = examples['image']
    white = np.iinfo(image.dtype).max if np.issubdtype(image.dtype, np.integer) else 1
    return examples | {'image': image.dtype.type(white) - image}


def _check_fields(data: Mapping[str, Any]) -> None:
    if data['processes'] < 0:
        raise UserError(f"config.data.processes = {data['processes']}: it must be at least 0")
    if not 0 <= data['max_unreadable'] <= 1:
        raise UserError(f"config.data.max_unreadable = {data['max_unreadable']}: it is a share, from 0 to 1")
    if data['sampling'] not in SAMPLINGS:
        raise UserError(f"config.data.sampling = {data['sampling']!r}; {nearest(str(data['sampling']), SAMPLINGS)}")
    try:  # once for all sources: a name too long, nobody's home, a folder that one may not enter
        if data['name'] and '\0' not in data['name']:
            Path(data['name']).expanduser().exists()
    except (OSError, RuntimeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"config.data.name = {printable(data['name'][:80])!r} cannot be opened: {reason}") from None
    splits.check_folds(data)
    area = data['random_resized_crop']
    if not area:
        return
    if len(area) != 2 or not all(isinstance(share, (int, float)) for share in area) or not 0 < area[0] <= area[1] <= 1:
        raise UserError(f'config.data.random_resized_crop = {area}: it is the smallest and the largest share of a '
                        "image's area, such as (0.08, 1.0), or ()")
    if data['source'] not in _CROPPING:
        raise UserError(f"config.data.random_resized_crop: it is for config.data.source = 'folder' or 'tfds', not "
                        f"{data['source']!r}; config.augment.zoom and shift crop on the device")


def _check_resize(image: Mapping[str, Any], source: Source) -> None:
    how = image.get('resize', 'stretch')
    if how not in images.RESIZES:
        raise UserError(f'config.image.resize = {how!r}; {nearest(str(how), images.RESIZES)}')
    if how != 'stretch' and (source.has_masks or source.has_boxes):
        what = 'a part of every mask' if source.has_masks else 'boxes at the edges'
        raise UserError(f"config.image.resize = {how!r} would cut off {what}: use 'stretch'")


def _megabytes(source: Source, image: Mapping[str, Any]) -> float:
    height, width = image['size']
    pixel = image['channels'] * image.get('bits', 8) // 8 + source.has_masks
    return len(source) * (source.frames or 1) * height * width * pixel / 2**20
