"""Texts as examples: each with a class, or with what is to be written for it.

Source 'texts' reads tables or folders of files, all in UTF-8:
  <name>.csv or <name>/<split>.csv             with a header: 'text' and 'label', or 'source' and 'target', or what
                                               config.data.columns and config.data.target name
  <name>/<class>/*.txt or <name>/<split>/...   one text in each file, as the IMDB reviews come
'tfds_texts' reads the features 'text' and 'label' of a data set that tensorflow-datasets prepares, such as
'imdb_reviews'. Files and rows are in a fixed pseudo-random order, so that parts of a split are fair samples.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..common.dataset_info import DatasetInfo
from ..common.errors import UserError, file_error, printable
from . import tfds_source
from .arrays import ArraySource
from .csv_source import Table
from .folder_source import order, split_folder
from .splits import file_of_split
from .text_source import read_text

_TEXT, _LABEL, _PAIR = 'text', 'label', ('source', 'target')  # columns, unless the config names others


def labelled(texts: Sequence[str], labels: Sequence[int], class_names: Sequence[str], name: str,
             metadata: Sequence[Mapping[str, Any]] | None = None) -> ArraySource:
    """Returns texts with a class each.

    Args:
      texts, labels: as many.
      class_names: of the labels.
      name: for messages.
      metadata: what else is known of each.
    """
    facts = [{**more, 'text': text} for text, more in zip(texts, metadata or [{}] * len(texts))]
    return ArraySource({'label': np.asarray(labels, np.int32)},
                       DatasetInfo(class_names=tuple(map(printable, class_names))), facts, name)


def paired(texts: Sequence[str], written: Sequence[str], name: str, metadata: Sequence[Mapping[str, Any]] | None = None
           ) -> ArraySource:
    """Returns texts with their translations; see `labelled`. They have a number each until they are tokenized."""
    facts = [{**more, 'text': text, 'captions': [target]}
             for text, target, more in zip(texts, written, metadata or [{}] * len(texts))]
    return ArraySource({'number': np.arange(len(texts), dtype=np.int32)}, DatasetInfo(), facts, name)


def open_split(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
               ) -> ArraySource:
    """Opens a split of a table or of a folder of texts, see the top of this file.

    Raises:
      UserError: no such file, folder, split or column, fewer than two classes, a text that is empty or not UTF-8.
    """
    del image, crop_area
    if not data['name']:
        raise UserError('config.data.name is empty: give a .csv file, a folder with train.csv, or one with '
                        '<class>/*.txt')
    root = Path(data['name']).expanduser()
    if root.is_dir() and any(root.glob('*.csv')):
        return _open_table(data, *file_of_split(root, split, '.csv'))
    if root.is_dir():
        for field in ('columns', 'target'):
            if data[field]:
                raise UserError(f"config.data.{field} = {data[field]!r} is for tables; {data['name']} is a folder of "
                                'texts')
        return _open_folder(split_folder(data, split))
    if not root.is_file():
        raise UserError(f"config.data.name = {data['name']!r} is neither a .csv file nor a folder of texts")
    if split != 'train':
        raise UserError(f"{root} is one file: all of it is 'train'; take parts of that instead of {split!r}, such as "
                        "--config.data.train='train[:80%]' --config.evaluation.sets.test.split='train[80%:]'")
    return _open_table(data, root, [root])


def open_tfds(data: Mapping[str, Any], image: Mapping[str, Any], split: str, crop_area: Sequence[float] = ()
              ) -> ArraySource:
    """Opens a split of labelled texts that tensorflow-datasets prepared; examples whose label is -1 are left out.

    Raises:
      UserError: it is not there, or has no such split or features.
    """
    del image, crop_area
    texts, labels, class_names = tfds_source.read_labelled_texts(data, split)
    known = [(text, label) for text, label in zip(texts, labels) if label >= 0]
    if not known:
        raise UserError(f"config.data.name: {data['name']}/{split} has no labels")
    return labelled(*zip(*known), class_names, f"{data['name']}/{split}")


def _open_table(data: Mapping[str, Any], file: Path, files: Sequence[Path]) -> ArraySource:
    table = Table(file)
    columns, target = tuple(data['columns']), data['target']
    if not columns:
        columns = _PAIR if set(_PAIR) <= set(table.header) and not target else (_TEXT,)
    if len(columns) > 2:
        raise UserError(f'config.data.columns = {columns}: of texts it is one column, or the one that is read and the '
                        'one that is written')
    if len(columns) == 2 and target:
        raise UserError(f'config.data.target = {target!r}: the second of config.data.columns = {columns} is what is '
                        'written')
    cells = [table.column(column, 'config.data.columns') for column in columns]
    if len(cells) == 1:
        target = target or _LABEL
        cells.append(table.column(target, 'config.data.target'))
        columns = (*columns, target)
    for column, values in zip(columns, cells):
        if '' in values:
            raise file_error(file, f'line {table.lines[values.index("")]}, column {column!r} is empty')
    rows = np.random.Generator(np.random.Philox(key=[0, len(table.rows)])).permutation(len(table.rows)).tolist()
    first, second = ([values[row] for row in rows] for values in cells)
    metadata = [{'line': table.lines[row]} for row in rows]
    if columns[-1] != target:
        return paired(first, second, printable(str(file)), metadata)
    # The classes are those of all splits.
    known = set(second).union(*(Table(other).column(target, 'config.data.target') for other in files if other != file))
    names = sorted(known - {''})
    _check_classes(file, names)
    return labelled(first, [names.index(name) for name in second], names, printable(str(file)), metadata)


def _open_folder(root: Path) -> ArraySource:
    names = sorted(path.name for path in root.iterdir() if path.is_dir() and not path.name.startswith('.'))
    found = [(path, label) for label, name in enumerate(names) for path in (root / name).glob('*.txt')]
    _check_classes(root, names)
    for label, name in enumerate(names):
        if label not in {one for _, one in found}:
            raise UserError(f'{root / name} has no .txt files: it should hold one for each text of that class')
    found.sort(key=lambda one: order(one[0], root))
    texts = []
    for path, _ in found:
        texts.append(' '.join(read_text(path).split()))
        if not texts[-1]:
            raise file_error(path, 'is empty')
    metadata = [{'file': printable(path.relative_to(root).as_posix())} for path, _ in found]
    return labelled(texts, [label for _, label in found], names, printable(str(root)), metadata)


def _check_classes(where: Path, names: Sequence[str]) -> None:
    if len(names) < 2:
        raise UserError(f'{where}: at least 2 classes are needed, there is {names[0] if names else "none"}; expected '
                        'are <class>/*.txt, or a table with a column of classes')
