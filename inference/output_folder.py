"""The folder that predictions are written to, with files for each image."""

import logging
from collections.abc import Collection, Sequence
from pathlib import Path

from ..common.errors import UserError, printable

_OF_ONE_FILE = ('.csv', '.json', '.txt')


def check(folder: Path, inputs: Sequence[str], who: str, what: str) -> None:
    """Raises UserError if a folder cannot be written to: it is meant as a file, or the images lie in it.

    Args:
      folder: of --output; it need not be there.
      inputs: images and folders of images.
      who: writes to it, for messages.
      what: is written.
    """
    if folder.suffix in _OF_ONE_FILE or folder.is_file():
        raise UserError(f'--output {folder}: {who} writes files for each image, give it a folder')
    if any(Path(text).is_dir() and Path(text).resolve() == folder.resolve() for text in inputs):
        raise UserError(f'--output {folder}: the images are there; give {what} a folder of their own')


def warn_of_others(folder: Path, written: Collection[Path]) -> None:
    """Warns of files in a folder that were not written now: what is not of this call is easily taken for it.

    None is deleted: predictions are corrected by hand, and gathered from several calls.
    """
    others = sorted(path for path in folder.rglob('*') if path.is_file() and path not in written)
    if others:
        logging.warning('%s', printable(f'{folder} holds {len(others):,} other file(s), of an earlier call perhaps, '
                                        f'such as {others[0].relative_to(folder)}: nothing is deleted'))
