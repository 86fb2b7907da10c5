"""Looks at the data set of an experiment, and writes a page and the numbers on it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ...common.errors import UserError, file_error, nearest, printable
from ...common.files import replacing
from ...common.vocabulary import Vocabulary
from ...tasks import TASKS
from ...training.learning_curves import TRAIN
from . import examples, texts
from . import mean_image as mean_images
from .classes import Classes, classes_of
from .columns import Column, columns_of
from .data_sets import DataSet, check_name, open_sets
from .findings import findings
from .repeats import Repeats, find_repeats
from .survey import Survey, own_sizes, survey


@dataclasses.dataclass
class Look:
    """All that was found of the data of an experiment.

    Attributes:
      config: of the experiment.
      shown: the set that examples and pictures are of.
      chosen: the class that examples are of, or ''.
      sets: name -> set, the training set first.
      wrong, fine: see `findings`.
      surveys, classes, words: by set, where there are any.
      repeats: what is there twice.
      sizes: (height, width) of the image files of the shown set, int [n, 2].
      columns, column_count: of the shown set's numbers, and how many there are.
      repeated_texts: set -> (lines or captions that the training set has, too, and of how many).
    """
    config: ConfigDict
    shown: str
    chosen: str
    sets: dict[str, DataSet]
    wrong: list[str]
    fine: list[str]
    surveys: dict[str, Survey]
    classes: dict[str, Classes]
    words: dict[str, texts.Words]
    repeats: list[Repeats]
    sizes: np.ndarray
    columns: list[Column]
    column_count: int
    repeated_texts: dict[str, tuple[int, int]]

    @property
    def data_set(self) -> DataSet:
        """The set that is shown."""
        return self.sets[self.shown]

    @property
    def vocabulary(self) -> Vocabulary | None:
        """Of the training texts; of translations that of what is read."""
        meta = self.sets[TRAIN].source.info.vocabulary
        return None if meta is None else _read_in(meta)

    def mean_and_std(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Returns what config.image.mean and std would be for the shown set, of four digits; None without images."""
        found = self.surveys.get(self.shown)
        if found is None or found.pixels is None:
            return None
        mean, std = (tuple(float(f'{value:.4g}') for value in values.tolist())
                     for values in (found.pixels.mean, found.pixels.std))
        return mean, std

    def why_no_config(self) -> str:
        """Returns why `mean_and_std` are not what the experiment's file is to have; '' if they are."""
        if self.shown != TRAIN or self.chosen:
            of = f'{self.shown}, class {self.chosen}' if self.chosen else self.shown
            return f'They are of {of}: config.image.mean and std are those of all of {TRAIN}.'
        if self.config.task.name in TASKS and TASKS[self.config.task.name].takes_pixels:
            return (f'{self.config.task.name} is about pixels in [0, 1]: config.image.mean and std stay (0.0,) and '
                    '(1.0,).')
        image = self.config.image
        if image.samplewise_center or image.samplewise_std:
            fields = [f'config.image.{name}' for name in ('samplewise_center', 'samplewise_std') if image[name]]
            return (f'They are of the pixels, and config.image.mean and std come after {" and ".join(fields)}, '
                    'where the numbers are others.')
        if image.zca_epsilon:
            return ('config.image.zca_epsilon takes the mean image off and evens out what varies: config.image.mean '
                    'and std can stay (0.0,) and (1.0,).')
        return ''

    def input_steps(self) -> list[str]:
        """Returns in words how pixels become what goes into the network, in this order."""
        image, own = self.config.image, []
        if image.samplewise_center:
            own.append('minus its own mean')
        if image.samplewise_std:
            own.append('over its own standard deviation')
        return [*([f'each image {" and ".join(own)}'] if own else []),
                '(pixel \u2212 config.image.mean) / config.image.std',
                *(['whitened (config.image.zca_epsilon)'] if image.zca_epsilon else [])]

    def image_lines(self) -> list[str]:
        """Returns `mean_and_std` as lines, for the experiment's file where that is what they are for."""
        mean, std = self.mean_and_std()
        prefix = '' if self.why_no_config() else 'config.image.'
        return [f'{prefix}mean = {mean}', f'{prefix}std = {std}']


def look(config: ConfigDict, output: Path, shown: str = TRAIN, chosen: str = '', mean_image: Path | None = None
         ) -> Look:
    """Looks at the data of an experiment and writes <output> and, beside it, its numbers as .json.

    Args:
      config: of the experiment.
      output: the page, .html.
      shown: 'train' or one of config.evaluation.sets.
      chosen: a class, of which alone examples are shown; of captions and texts a word.
      mean_image: where the mean image of the set is written to, see mean_image.py; None for nowhere.

    Raises:
      UserError: no such set or class, data that cannot be opened, or the files cannot be written.
    """
    from .page import render
    if output.suffix.lower() not in ('.html', '.htm'):
        raise UserError(f'{printable(str(output))}: the output is a web page: end it with .html')
    if not output.absolute().parent.is_dir():
        raise file_error(output, 'there is no such folder to write it to')
    beside = output.with_suffix('.json')
    if beside.exists() and not _is_ours(beside):
        raise file_error(beside, 'is there and holds something else: name another --output, beside which it is not')
    check_name(config, shown)
    if mean_image is not None:
        mean_images.check(mean_image)
    found = find(config, shown, chosen)
    if mean_image is not None:
        surveyed = found.surveys.get(shown)
        if surveyed is None or surveyed.pixels is None:
            raise UserError(f'--mean_image: the examples of {config.experiment} are no images')
        mean_images.write(mean_image, surveyed.pixels.mean_image)
    text, numbers = render(found), json.dumps(as_json(found), indent=2)
    try:
        with replacing(output) as page, replacing(beside) as file:  # both or none
            page.write(text.encode())
            file.write(f'{numbers}\n'.encode())
    except OSError as error:
        raise file_error(output, f'cannot be written: {error.strerror}; name another --output') from error
    return found


def _is_ours(file: Path) -> bool:
    """Whether a JSON file is that of an earlier look, which a new one replaces."""
    try:
        return {'experiment', 'findings', 'repeats'} <= set(json.loads(file.read_text()))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def find(config: ConfigDict, shown: str, chosen: str) -> Look:
    """Returns all that `Look` holds."""
    limit = config.data.max_unreadable
    sets, problems = open_sets(config, shown)
    source = sets[shown].source
    if chosen and source.info.class_names and chosen not in source.info.class_names:  # before it takes long
        raise UserError(f'--class {chosen}: {shown} has no such class; {nearest(chosen, source.info.class_names)}')
    surveys, classes = {}, {}
    tags = config.task.get('kind') == 'tags'
    for name, one in sets.items():
        if one.source.streams:
            continue
        surveys[name] = survey(one, config.seed)
        if damaged := surveys[name].damaged:
            files = [facts.get('file', '') for facts in one.source.describe(np.fromiter(damaged, int))]
            one.unreadable += list(zip(map(str, files), damaged.values()))
            one.unreadable_count += len(damaged)
        if (found := classes_of(one, surveys[name], tags=tags)) is not None:
            classes[name] = found
    if chosen and shown in classes:
        number = classes[shown].number(chosen)
        if not classes[shown].shown_in[number]:
            raise UserError(f'--class {chosen}: {shown} has no example of it')
    elif chosen and source.info.vocabulary is None:
        raise UserError(f'--class {chosen}: the examples of {config.experiment} have no classes')
    words, repeated = _words(sets)
    repeats = find_repeats(sets, surveys)
    sizes = np.zeros((0, 2), int)
    if shown in surveys and surveys[shown].pixels is not None:
        sizes = own_sizes(source, config.seed, config.data.workers)
    columns, column_count = columns_of(sets[shown], surveys[shown].arrays) if shown in surveys else ([], 0)
    ranges = {name: one.pixels for name, one in surveys.items() if one.pixels is not None}
    wrong, fine = findings(sets, problems, limit, classes, ranges, repeats)
    if config.data.source == 'seeds':
        fine = [f'the examples are seeds: what {config.task.name} learns from, it makes while it trains, so that there '
                'is nothing to look at before; launch.py report shows an episode of a run']
    for name, (count, total) in repeated.items():
        if sets[name].source.streams and total and count > 0.01 * total:
            wrong.append(f'{count:,} of {total:,} long lines of {name} are in {TRAIN}, word for word')
    return Look(config, shown, chosen, sets, wrong, fine, surveys, classes, words, repeats, sizes, columns,
                column_count, repeated)


def _read_in(meta: Any) -> Vocabulary:
    vocabulary = Vocabulary.from_meta(meta)
    return vocabulary.source or vocabulary


def _words(sets: dict[str, DataSet]) -> tuple[dict[str, texts.Words], dict[str, tuple[int, int]]]:
    """Returns the words of every set, and for each evaluation set how many of its texts are in the training set."""
    meta = sets[TRAIN].source.info.vocabulary
    if meta is None:
        return {}, {}
    vocabulary = _read_in(meta)
    words, repeated = {}, {}
    training = texts.texts_of(sets[TRAIN])
    for name, one in sets.items():
        own = training if name == TRAIN else texts.texts_of(one)
        if not own:
            continue
        words[name] = texts.count_words(own, vocabulary, name)
        if not one.trained:
            repeated[name] = texts.repeated_texts(own, training, vocabulary)
    return words, repeated


def as_json(found: Look) -> dict[str, Any]:
    """Returns the numbers of a look, of types that JSON can hold."""
    sets = {}
    for name, one in found.sets.items():
        facts: dict[str, Any] = {'split': one.split, 'examples': len(one.source), 'unreadable': [
            {'file': file, 'reason': reason} for file, reason in one.unreadable],
            'unreadable_count': one.unreadable_count, 'warnings': one.said}
        if (surveyed := found.surveys.get(name)) is not None:
            facts |= {'looked_at': len(surveyed.indices), 'features': {
                feature: {'shape': list(shape), 'dtype': kind}
                for feature, (shape, kind) in surveyed.features.items()}}
            if surveyed.pixels is not None:
                facts['pixels'] = {'mean': surveyed.pixels.mean.tolist(), 'std': surveyed.pixels.std.tolist(),
                                   'low': surveyed.pixels.low, 'high': surveyed.pixels.high,
                                   'images': surveyed.pixels.images}
        if (classes := found.classes.get(name)) is not None:
            facts['classes'] = {'unit': classes.unit, 'counted_examples': classes.counted,
                                'counts': dict(zip(classes.names, classes.counts.tolist())),
                                'examples_with': dict(zip(classes.names, classes.shown_in.tolist()))}
        if (words := found.words.get(name)) is not None:
            facts['words'] = {'texts': words.texts, 'tokens': words.tokens, 'distinct': words.distinct,
                              'unknown': words.unknown, 'most_frequent': dict(words.frequent),
                              'most_frequent_unknown': dict(words.unknown_words)}
        if name in found.repeated_texts:
            facts['texts_in_train'], facts['texts_compared'] = found.repeated_texts[name]
        sets[name] = facts
    repeats = [{'set': one.name, 'compared_with': one.within, 'examples': one.compared, 'shared': one.shared,
                'same': one.same, 'same_with_other_target': one.other_targets, 'alike': one.alike}
               for one in found.repeats]
    sizes = {} if not len(found.sizes) else {'files': len(found.sizes), **{
        side: {'lowest': int(values.min()), 'median': float(np.median(values)), 'highest': int(values.max())}
        for side, values in zip(('height', 'width'), found.sizes.T)}}
    vocabulary = found.vocabulary
    return {
        'experiment': found.config.experiment, 'data': found.config.data.name or found.config.data.source,
        'set': found.shown, 'class': found.chosen, 'findings': found.wrong, 'sets': sets, 'repeats': repeats,
        'sizes': sizes, 'columns': [dataclasses.asdict(column) for column in found.columns],
        'vocabulary': None if vocabulary is None else vocabulary.size,
        'augmentation': examples.augmentations(found.config)}


def console_lines(found: Look) -> list[str]:
    """Returns what is printed of a look."""
    lines = [', '.join(f'{name} {len(one.source):,}' for name, one in found.sets.items())
             + (' windows' if found.data_set.source.streams else ' examples')]
    if (classes := found.classes.get(found.shown)) is not None:
        listed = [f'{name} {count:,}' for name, count in zip(classes.names, classes.counts.tolist())]
        more = f', and {len(listed) - 40} more classes' if len(listed) > 40 else ''
        lines.append(f'{classes.unit} of {found.shown}: {", ".join(listed[:40])}{more}')
    if found.words:
        lines += [f'words of {name}: {words.tokens:,}, {100 * words.unknown / max(1, words.tokens):.2f} % unknown'
                  for name, words in found.words.items()]
        lines.append(f'vocabulary: {found.vocabulary.size:,}')
    said = {f'{name}: {text}' for name, one in found.sets.items() for text in one.said}  # in the log already
    lines += [line for line in found.wrong if line not in said]
    if found.config.data.source == 'seeds':
        lines += found.fine
    if found.mean_and_std() is not None:
        pixels, surveyed = found.surveys[found.shown].pixels, found.surveys[found.shown]
        part = '' if surveyed.complete else f', {len(surveyed.indices):,} of {surveyed.total:,} examples'
        lines += [f'over {pixels.images:,} images of {found.shown}{part}:',
                  *found.image_lines(), *filter(None, [found.why_no_config()])]
    return list(map(printable, lines))
