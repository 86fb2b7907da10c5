"""Finding the image files of a folder."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..common.console import warn_once
from ..common.errors import UserError, file_error, printable, some
from . import dicom

IMAGE_SUFFIXES = ('.bmp', '.gif', '.jpeg', '.jpg', '.pbm', '.pgm', '.png', '.ppm', '.tif', '.tiff', '.webp',
                  *dicom.SUFFIXES)


def find_images(path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """The image files (by suffix) of a folder and the folders in it, sorted; a file is returned as itself.

    Hidden files and folders are skipped. Links to files are followed, wherever they lead: folders of links are how
    subsets of large data sets are made. Links to folders are not, for they can go round in circles; a line says so.

    Args:
        path: of the folder or file.
        suffixes: of other files to look for in place of images, in lower case.

    Raises:
        UserError: there is nothing at the path, no image in the folder, or a folder that may not be read.
    """
    folder = Path(path)
    try:
        is_file, is_folder = folder.is_file(), folder.is_dir()
    except (OSError, ValueError) as error:  # a name too long, or with a NUL
        reason = getattr(error, 'strerror', None) or str(error)
        raise file_error(f'{str(path)[:60]}...', f'cannot be opened: {reason}') from None
    if is_file:
        return [folder]
    if not is_folder:
        raise file_error(path, 'no such file or folder')

    images, linked = [], []
    for parent, names, links in walk_images(folder, suffixes):
        images += [Path(parent, name) for name in names]
        linked += links
    skipped = skipped_links(linked)
    if not images:
        raise no_images(path, skipped, suffixes)
    if skipped:
        warn_once(printable(f'{path}: {skipped}'))
    return sorted(images)


def walk_images(folder: str | os.PathLike, suffixes: tuple[str, ...] = IMAGE_SUFFIXES
                ) -> Iterator[tuple[str, list[str], list[str]]]:
    """Yields for a folder and each of those in it: its path, its image files, and its links to folders, by name.

    What is an image, and what is skipped, see `find_images`. Files are not looked at: their folder says enough of them.

    Raises:
        UserError: a folder may not be read.
    """
    files, links, folders = [], [], []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith('.'):
                    continue
                try:
                    is_folder = entry.is_dir()
                except OSError:  # a link to itself
                    is_folder = False
                if not is_folder:
                    if name.lower().endswith(suffixes):
                        files.append(name)
                elif entry.is_symlink():
                    links.append(printable(name))
                else:
                    folders.append(name)
    except OSError as error:
        raise file_error(error.filename, f'cannot be listed: {error.strerror}') from None
    yield os.fspath(folder), files, links
    for name in folders:
        yield from walk_images(os.path.join(folder, name), suffixes)


def skipped_links(links: Sequence[str]) -> str:
    """Returns what is to be said about links to folders; '' if there are none."""
    return f'{len(links):,} link(s) to folders are not followed: {some(sorted(links))}' if links else ''


def no_images(path: object, skipped: str = '', suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> UserError:
    """Returns the error of a folder without images, or without files of other suffixes."""
    what = 'images' if suffixes == IMAGE_SUFFIXES else 'such files'
    return file_error(path, f'no {what} in this folder (looked for {" ".join(suffixes)})'
                            + (f'; {skipped}' if skipped else ''))
