"""Files of boxes as labelling tools write them: where they lie, names of classes and images, texts."""

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from ..common.errors import UserError, file_error, nearest, printable, shortened
from . import image_search

_MOST_CLASSES = 10_000
_LONGEST_NAME = 255  # that file systems take


def find_folders(root: Path, split: str, pictures: Sequence[str], labels: Sequence[str], suffix: str
                 ) -> tuple[Path, Path] | None:
    """Returns the folder of a split's images and that of its annotations; None if there are none.

    They are <pictures>/<split> and <labels>/<split>, or <split>/<pictures> and <split>/<labels>, or, if images lie in
    it rather than splits, and 'train' is asked for, <pictures> and <labels>. Annotations may also lie beside images.

    Args:
      root: config.data.name.
      split: its name.
      pictures, labels: names that the folders may have.
      suffix: of annotations.
    """
    def pairs(pick: Callable[[str], Path], base: Path) -> list[tuple[Path, Path]]:
        apart = [(pick(p), pick(a)) for p in pictures for a in labels]
        return apart + [(folder, folder) for folder in (*map(pick, pictures), base) if _has(folder, suffix)]

    found = pairs(lambda name: root / name / split, root / split) + pairs(lambda name: root / split / name,
                                                                         root / split)
    if split == 'train':
        found += [pair for pair in pairs(lambda name: root / name, root) if _has(pair[0], *image_search.IMAGE_SUFFIXES)]
    return next((pair for pair in found if pair[0].is_dir() and pair[1].is_dir()), None)


def no_split(root: Path, split: str, pictures: Sequence[str], labels: Sequence[str], suffix: str, looked_for: str
             ) -> UserError | None:
    """Returns the error of a folder that has no such split, for which `find_folders` returned None.

    None if it has no split at all, so that it is no data set of this kind.

    Args:
      root, split, pictures, labels, suffix: see `find_folders`.
      looked_for: what would have been the split.
    """
    whole = find_folders(root, 'train', pictures, labels, suffix)
    if whole is not None and whole[0] in [root, *(root / name for name in pictures)]:
        return undivided(root, looked_for, split)

    def is_split(folder: Path) -> bool:
        beside = _has(folder, suffix) and _has(folder, *image_search.IMAGE_SUFFIXES)
        return beside or any((folder / name).is_dir() for name in pictures)

    splits = {folder.name for name in pictures for folder in (root / name).glob('*/')}
    splits |= {folder.name for folder in root.glob('*/') if is_split(folder)} - {*pictures, *labels}
    return UserError(f'{root} has no split {split!r} with images and labels; {nearest(split, sorted(splits))}'
                     ) if splits else None


def undivided(root: Path, looked_for: str, split: str) -> UserError:
    """Returns the error of a folder without splits that another one than 'train' is asked of."""
    return UserError(f"{root} has no {looked_for}: all of it is 'train'; take parts of that instead of {split!r}, such "
                     "as --config.data.train='train[:80%]' --config.evaluation.sets.test.split='train[80%:]'")


def read_classes(file: Path) -> tuple[str, ...]:
    """Returns the lines of classes.txt, the names of the classes in the order of their numbers.

    Raises:
      UserError: no lines, an empty one, or one that is there twice.
    """
    names = [' '.join(line.split()) for line in read_text(file).rstrip().splitlines()]
    return check_classes(names, file, [f'line {line}' for line in range(1, len(names) + 1)])


def check_classes(names: Sequence[str], file: Path, places: Sequence[str]) -> tuple[str, ...]:
    """Returns names of classes that are all right.

    Args:
      names: in their order.
      file: where they are from.
      places: where in it, of each.

    Raises:
      UserError: none, too many, an empty one, or one that is there twice.
    """
    if not 0 < len(names) <= _MOST_CLASSES:
        raise file_error(file, f'names {len(names):,} classes')
    seen: dict[str, int] = {}
    for i, name in enumerate(names):
        if not name:
            raise file_error(file, f'{places[i]} is an empty name of a class')
        if seen.setdefault(name, i) != i:
            raise file_error(file, f'{places[i]} repeats the class {name!r} of {places[seen[name]]}')
    return tuple(printable(name) for name in names)


def class_number(name: str, numbers: dict[str, int], file: Path, place: str) -> int:
    """Returns the number of a class.

    Args:
      name: as the annotation says it.
      numbers: name -> number, of all classes.
      file, place: where it was found.

    Raises:
      UserError: there is no such class.
    """
    number = numbers.get(printable(name))
    if number is None:
        raise file_error(file, f'{place} is of the class {name[:80]!r}, which is not in classes.txt; '
                               f'{nearest(name, list(numbers))}')
    return number


def read_text(file: Path) -> str:
    """Returns a text file in UTF-8.

    Raises:
      UserError: it is no regular file, cannot be read, or is in another encoding.
    """
    try:
        return read_bytes(file).decode('utf-8-sig')
    except UnicodeDecodeError as error:
        line = error.object.count(b'\n', 0, error.start) + 1
        raise file_error(file, f'line {line} (byte {error.start}) is not UTF-8: it is no text file, or in another '
                               'encoding') from None


def read_bytes(file: Path) -> bytes:
    """Returns the content of a regular file.

    Raises:
      UserError: it is none, or cannot be read.
    """
    try:
        if not file.is_file():  # a pipe would block
            raise file_error(file, 'is no file')
        return file.read_bytes()
    except OSError as error:
        raise file_error(file, f'cannot be read: {error.strerror}') from None


def check_name(name: str, file: Path, place: str) -> str:
    """Returns the name of an image, a path with '/' below a folder.

    Args:
      name: as the annotation says it.
      file, place: where it was found.

    Raises:
      UserError: it leads out of the folder, or is none.
    """
    path = PurePosixPath(name)
    strange = '\\' in name or '\0' in name or ':' in name[:2] or any(len(part) > _LONGEST_NAME for part in path.parts)
    if not path.name or path.is_absolute() or '..' in path.parts or strange:
        raise file_error(file, f"{place} names the image {shortened(name)!r}: it should be a path below the folder of "
                               "images, with '/'")
    return path.as_posix()


def _has(folder: Path, *suffixes: str) -> bool:
    """Whether files with one of the suffixes lie in a folder."""
    return folder.is_dir() and any(path.suffix.lower() in suffixes for path in folder.iterdir())
