"""The sets of an experiment, opened as training and evaluation open them, and what was said while they were."""

import contextlib
import dataclasses
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from ...common.console import warn_once
from ...common.errors import UserError, nearest
from ...input_pipeline import checks, sources, unreadable
from ...input_pipeline.views import Views
from ...training import components, evaluation, evaluation_sets
from ...training.learning_curves import TRAIN, WHOLE_TRAIN

_MOST_REASONS = 1000  # unreadable files that are tried again, to say why


@dataclasses.dataclass
class DataSet:
    """One set of an experiment.

    Attributes:
      name: 'train', or that of an evaluation set.
      split: of the data set, such as 'train[:-5000]'.
      data, image: config.data and config.image as they are for it.
      source: its examples.
      said: warnings while it was opened.
      unreadable: (file, why) of examples that are left out, at most 1,000 of them.
      unreadable_count: of all.
      altered: whether its images are altered, so that they are not those of the split.
    """
    name: str
    split: str
    data: ConfigDict
    image: ConfigDict
    source: Any
    said: list[str]
    unreadable: list[tuple[str, str]]
    unreadable_count: int
    altered: bool = False

    @property
    def trained(self) -> bool:
        """Whether it is the training set, or is meant to be of its examples."""
        return self.name.startswith(TRAIN)


def check_name(config: ConfigDict, name: str) -> None:
    """Raises UserError if no set is called so."""
    known = [TRAIN, *config.evaluation.sets]
    if name not in known:
        raise UserError(f'--set {name}: {config.experiment} has no such set; {nearest(name, known)}')


def open_sets(config: ConfigDict, shown: str) -> tuple[dict[str, DataSet], list[str]]:
    """Opens the training set and those that the config evaluates.

    However many files cannot be read: that is what one looks for.

    Args:
      config: of the experiment.
      shown: the set that must be opened, see `check_name`.

    Returns:
      Name -> set, the training set first; and a line for each evaluation set that cannot be opened.

    Raises:
      UserError: the training set or the one that is shown cannot be opened, or a field of the config does not fit.
    """
    components.check_fields(config)
    original, config = config, _tolerant(config)
    training = bool(config.data.regions.kind)  # which regions are cut out depends on it
    warn_once.cache_clear()  # what an earlier look said, this one says, too
    with _listening() as said:
        source = sources.open_split(config.data, config.image, config.data.train, training=training, text=config.text,
                                    vocabulary=components.given_vocabulary(config.text))
        checks.check_source(source, config.image, 'the training set')
    found = {TRAIN: _opened(TRAIN, config.data.train, config.data, original.image, source, said)}
    problems = []
    for name in dict.fromkeys((shown, *config.evaluation.periodic, *config.evaluation.final)):
        if name == TRAIN and name not in config.evaluation.sets:
            continue
        try:
            with _listening() as said:
                opened = evaluation.open_set(name, config, Views('none', config.image.size), source.info)
        except UserError as error:
            if name == shown != TRAIN:
                raise
            problems.append(f'{name} cannot be opened: {error}')
            continue
        chosen = evaluation_sets.resolve(original, name)
        title = WHOLE_TRAIN if name == TRAIN else name
        found[title] = _opened(title, chosen.split, chosen.data, chosen.image, opened, said)
        found[title].altered = bool(chosen.invert or any(chosen.corrupt.values()) or chosen.augment)
    return found, problems


def _opened(name: str, split: str, data: ConfigDict, image: ConfigDict, source: Any, said: list[str]) -> DataSet:
    left_out = source.left_out
    if left_out is None:
        return DataSet(name, split, data, image, source, said, [], 0)
    whole, indices = left_out
    return DataSet(name, split, data, image, source, said, unreadable.reasons(whole, indices[:_MOST_REASONS]),
                   len(indices))


def _tolerant(config: ConfigDict) -> ConfigDict:
    """Returns a config with which data are opened of which most cannot be used, or whose range nobody has said."""
    config = config.copy_and_resolve_references()
    with config.unlocked():
        config.data.max_unreadable = 1.0
        if not says_range(config.image) and not config.data.regions.kind:  # where the mean is a colour, too
            config.image.mean = (0.5,)
        for name in config.evaluation.sets:
            own = config.evaluation.sets[name]
            if isinstance(own, ConfigDict) and 'max_unreadable' in own.get('data', {}):
                own.data.max_unreadable = 1.0
    return config


def says_range(image: ConfigDict) -> bool:
    """Whether config.image.mean or std say what float images are, which are refused else beyond [0, 1]."""
    return any(np.ravel(image.mean)) or any(np.ravel(image.std) != 1)


@contextlib.contextmanager
def _listening() -> Iterator[list[str]]:
    """Yields a list that every warning in the block is added to, each once."""
    said: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if (text := record.getMessage()) not in said:
                said.append(text)

    listener = Listener(logging.WARNING)
    logging.getLogger().addHandler(listener)
    try:
        yield said
    finally:
        logging.getLogger().removeHandler(listener)


def read_sound(source: Any, places: np.ndarray) -> tuple[Any, np.ndarray, dict[int, str]]:
    """Reads examples, without those that turn out to be damaged, which of a set that streams is seen only now.

    Args:
      source: of the set.
      places: int [n], examples of it.

    Returns:
      Their features, None if there are none; their places; and why others cannot be read, by place.
    """
    try:
        return source.read(places), places, {}
    except UserError as error:
        if len(places) == 1:
            return None, places[:0], {int(places[0]): str(error).removesuffix('; start again, and it is left out')}
    parts = [read_sound(source, places[i:i + 1]) for i in range(len(places))]
    kept = [examples for examples, _, _ in parts if examples is not None]
    examples = {name: np.concatenate([one[name] for one in kept]) for name in kept[0]} if kept else None
    return (examples, np.concatenate([own for _, own, _ in parts]),
            {place: why for _, _, reasons in parts for place, why in reasons.items()})


def sample(count: int, most: int, seed: int) -> np.ndarray:
    """Returns which of so many examples are looked at, int [at most `most`], in their order; all, if there is room."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.Generator(np.random.Philox(key=[seed, count])).permutation(count)[:most])
