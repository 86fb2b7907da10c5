"""What lies in the class folders of a data set, listed once and then taken from the cache while the folders stay."""

import dataclasses
import json
import os
import time
import zipfile
from pathlib import Path

import numpy as np

from ..common.console import warn_once
from ..common.errors import UserError, printable
from ..common.files import cache_folder, digest, write_cached
from ..common.turns import found_or_made
from . import image_search
from .file_list import FileList, NameCollector

_VERSION = 1  # of the cache's files
_SETTLED_NS = 2 * 10**9  # a folder that was changed later than that before it was listed may be changed within a tick


@dataclasses.dataclass
class ClassFolders:
    """The image files of <root>/<class>/.

    Attributes:
      classes: the names of the class folders, sorted.
      files: sorted by the hashes of their paths below the root, so that every part is a fair sample of all classes.
      labels: int32 [files], the class of each.
      links: folders that are left out, because they are links.
      folders: each folder that was looked into, below the root, with the times of its last change in ns. A file that is
        added to, renamed in or removed from a folder changes them; one that is written anew in place does not.
    """
    classes: list[str]
    files: FileList
    labels: np.ndarray
    links: list[str]
    folders: list[list]


def find(root: Path) -> ClassFolders:
    """Lists the images of a folder with one folder per class; only folders are looked at if the cache has it.

    Raises:
      UserError: there are no images, or fewer than two classes.
    """
    cached = cache_folder() / 'listed' / f'{digest([_VERSION, str(root.absolute())])}.npz'
    found = found_or_made(lambda: _read(cached, root), lambda: _list_and_write(root, cached), f'listing {root}',
                          ['listed', str(root.absolute())])
    if found.links:
        warn_once(printable(f'{root}: {image_search.skipped_links(found.links)}'))
    return found


def _list_and_write(root: Path, cached: Path) -> ClassFolders:
    now = time.time_ns()
    found = _list(root)
    if all(change < now - _SETTLED_NS for folder in found.folders for change in folder[1:]):
        _write(cached, found)
    return found


def _list(root: Path) -> ClassFolders:
    folders = [_stamp(root, '.')]
    classes = sorted(p.name for p in root.iterdir() if p.is_dir() and not p.name.startswith('.'))
    if not classes:
        raise UserError(f'{root} has no class folders: it should hold <class>/<image> files')
    collector, counts, links = NameCollector(), [], []
    for name in classes:
        before, skipped = len(collector), []
        for parent, names, linked in image_search.walk_images(root / name):
            below = os.path.relpath(parent, root)
            folders.append(_stamp(root, below))
            collector.add([f'{below}/{file}' for file in names])
            skipped += linked
        counts.append(len(collector) - before)
        if not counts[-1]:
            raise image_search.no_images(root / name, image_search.skipped_links(skipped))
        links += skipped
    if len(classes) < 2:
        raise UserError(f'{root}: at least 2 classes are needed, there is 1 folder ({classes[0]}); expected are '
                        f'{root}/<class>/*.jpg')
    files, order = collector.sorted(root)
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)[order]
    return ClassFolders(classes, files, labels, links, folders)


def _stamp(root: Path, below: str) -> list:
    """Returns a folder and its times."""
    status = os.stat(root / below)
    return [below, status.st_mtime_ns, status.st_ctime_ns]


def _read(cached: Path, root: Path) -> ClassFolders | None:
    """Returns what the cache has, if it is there and no folder has changed since."""
    try:
        with np.load(cached, allow_pickle=False) as stored:
            facts = json.loads(stored['facts'].tobytes())
            if any(_stamp(root, folder[0]) != folder for folder in facts['folders']):
                return None
            # zipfile checks their checksums.
            return ClassFolders(facts['classes'], FileList(root, stored['names'], stored['ends']), stored['labels'],
                                facts['links'], facts['folders'])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):  # not there, damaged, or a folder has gone
        return None


def _write(cached: Path, found: ClassFolders) -> None:
    facts = json.dumps({'classes': found.classes, 'links': found.links, 'folders': found.folders}).encode()
    write_cached(cached, lambda file: np.savez(file, facts=np.frombuffer(facts, np.uint8), labels=found.labels,
                                               **found.files.arrays()), 'lists of files')
