"""The models that are served, by name and version; files that change, come or go are noticed while requests go on."""

import asyncio
import contextlib
import ctypes
import gc
import logging
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UserError, file_error, nearest
from .runtime import Model
from .service import Service

SUFFIXES = ('.zip', '.onnx')


class NoSuchModel(Exception):
    """No model of this name, or no version of it; the message says what there is."""


class ModelStore:
    """Services by name and version.

    A path is a model's file, whose version is '1'; or a folder of the versions of one model, digits/3.zip; or a folder
    of such folders. The newest versions are served, '10' after '9'; the newest of all answers where none is named.

    Args:
      paths: of files and folders.
      load: load(path) -> a model, warmed up; runs in a thread.
      start: start(name, version, model) -> its service.
      versions: how many of each model to serve.
      on_load: is told name and 'loaded' or 'failed' of what changed while serving.
    """

    def __init__(self, paths: Sequence[Path], *, load: Callable[[Path], Model],
                 start: Callable[[str, str, Model], Service], versions: int = 1,
                 on_load: Callable[[str, str], None] = lambda name, outcome: None):
        self._paths, self._load, self._start, self._versions = list(paths), load, start, versions
        self._on_load = on_load
        self._services: dict[str, dict[str, Service]] = {}  # the versions of each model, the newest last
        self._loaded: dict[tuple[str, str], Any] = {}  # the state of the file that a service was made of
        self._refused: dict[Path, Any] = {}
        self._seen: dict[Path, Any] = {}
        self._complaints: dict[Path | str, str] = {}  # of paths, and of names of models
        self._owners: dict[str, Path] = {}  # the path that a model's files come from
        self._retiring: set[asyncio.Task] = set()
        self._looking = asyncio.Lock()

    @property
    def names(self) -> list[str]:
        """Of the models."""
        return list(self._services)

    def versions(self, name: str) -> list[str]:
        """Of a model, the newest last."""
        self.find(name)
        return list(self._services[name])

    def find(self, name: str, version: str | None = None) -> Service:
        """Returns a service, of the newest version where none is named; raises NoSuchModel."""
        versions = self._services.get(name)
        if versions is None:
            raise NoSuchModel(f'no model {name[:80]!r}; {nearest(name, self.names)}')
        if version is None:
            return next(reversed(versions.values()))
        if version not in versions:
            raise NoSuchModel(f'no version {version[:80]!r} of {name}; {nearest(version, list(versions))}')
        return versions[version]

    def waiting(self, name: str) -> int:
        """How many requests wait for a model, of any version."""
        return sum(service.waiting for service in self._services.get(name, {}).values())

    async def open(self) -> None:
        """Loads all of them.

        Raises:
          UserError: a file or folder is missing or holds no models, two models have one name, or a file is no model.
        """
        self._owners = {name: path for path in self._paths for name in find_models([path])}
        for name, files in find_models(self._paths).items():
            for version in sorted(files, key=_age)[-self._versions:]:
                state = _state(files[version])
                model = await asyncio.to_thread(self._load, files[version])
                self._put(name, version, model, state)

    async def look(self, *, at_once: bool = False) -> None:
        """Loads files that are new or have changed, and lets go of those that are gone; what is served goes on.

        A file that cannot be loaded is named in the log and left alone until it changes.

        Args:
          at_once: do not wait whether a file that is new goes on changing, as while it is copied.
        """
        async with self._looking:
            found: dict[Path, dict[str, dict[str, Path]]] = {}
            for path in self._paths:
                try:
                    found[path] = find_models([path])
                except UserError as error:
                    self._complain(path, str(error))
                else:
                    self._complaints.pop(path, None)
            for path, models in found.items():
                for name, files in models.items():
                    owner = self._owners.setdefault(name, path)
                    if owner != path and name in found.get(owner, {name}):
                        self._complain(path / name, f'{path} has a model called {name}, too')
                        continue
                    self._owners[name] = path
                    self._complaints.pop(name, None)
                    await self._update(name, files, at_once)
            for name, path in self._owners.items():
                if path in found and name not in found[path]:
                    self._complain(name, f'{path}: {name} is gone')

    def _complain(self, about: Path | str, line: str) -> None:
        """Says what is wrong with a path or a model, once."""
        if self._complaints.get(about) != line:
            logging.warning('warning: %s; what is served stays', line)
        self._complaints[about] = line

    async def keep_looking(self, every: float) -> None:
        """Looks every so many seconds, for ever."""
        while True:
            await asyncio.sleep(every)
            try:
                await self.look()
            except Exception:  # a bug, of which the next look may know nothing
                logging.exception('looking for changed models failed')

    async def close(self) -> None:
        """Ends all services after what they have been asked."""
        for versions in self._services.values():
            for service in versions.values():
                self._retire(service)
        await asyncio.gather(*self._retiring)

    def _is_settled(self, file: Path, state: Any) -> bool:
        """Whether a file is as it was at the last look; remembers how it is."""
        before, self._seen[file] = self._seen.get(file), state
        return before == state

    async def _update(self, name: str, files: dict[str, Path], at_once: bool) -> None:
        states = {version: _state(file) for version, file in files.items()}
        usable = [version for version in sorted(files, key=_age)
                  if states[version] is not None and self._refused.get(files[version]) != states[version]]
        for version in usable[-self._versions:]:
            file, state = files[version], states[version]
            if self._loaded.get((name, version)) == state:
                continue
            if not self._is_settled(file, state) and not at_once:
                continue
            try:
                model = await asyncio.to_thread(self._load, file)
            except UserError as error:
                self._refuse(name, file, state, str(error))
            except Exception as error:  # such as of a function that XLA cannot compile
                self._refuse(name, file, state, file_error(file, f'{type(error).__name__}: {error}'))
            else:
                self._put(name, version, model, state)
                self._on_load(name, 'loaded')
                logging.info('%s: version %s loaded from %s', name, version, file,
                             extra={'fields': {'event': 'loaded', 'model': name, 'version': version}})
        served = self._services.get(name, {})
        there = [version for version in served if version in files]
        if there:
            for version in [version for version in served if version not in there[-self._versions:]]:
                self._retire(served.pop(version))
                del self._loaded[name, version]
                logging.info('%s: version %s is served no more', name, version,
                             extra={'fields': {'event': 'retired', 'model': name, 'version': version}})

    def _refuse(self, name: str, file: Path, state: Any, reason: Any) -> None:
        self._refused[file] = state
        self._on_load(name, 'failed')
        stays = ', '.join(self._services.get(name, {}))
        logging.warning('warning: %s; %s', reason, f'{name} {stays} stays' if stays else f'{name} is not served',
                        extra={'fields': {'event': 'refused', 'model': name, 'file': str(file)}})

    def _put(self, name: str, version: str, model: Model, state: Any) -> None:
        """Swaps a service in; the old one answers what it has been asked."""
        versions = dict(self._services.get(name, {}))
        old = versions.get(version)
        versions[version] = self._start(name, version, model)
        self._services[name] = dict(sorted(versions.items(), key=lambda item: _age(item[0])))
        self._loaded[name, version] = state
        if old is not None:
            self._retire(old)

    def _retire(self, service: Service) -> None:
        task = asyncio.create_task(_retire(service))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)


async def _retire(service: Service) -> None:
    await service.retire()
    del service
    await asyncio.to_thread(_give_back_memory)


def _give_back_memory() -> None:
    """Gives the memory of a model that is gone back; the C library keeps it, 6 MB of a small one, for every reload."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL('libc.so.6').malloc_trim(0)


def find_models(paths: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Returns name -> version -> file.

    Raises:
      UserError: no such file or folder, no model in it, or two models of one name.
    """
    found: dict[str, dict[str, Path]] = {}
    for path in paths:
        for name, files in _models_at(path):
            if name in found:
                raise UserError(f'two models are called {name}: {_first(found[name])} and {_first(files)}; a file is '
                                'called what it is named, a version what its folder is')
            found[name] = files
    return found


def _models_at(path: Path) -> Iterator[tuple[str, dict[str, Path]]]:
    if not path.exists():
        raise file_error(path, 'no such file or folder')
    if not path.is_dir():
        if path.suffix not in SUFFIXES:
            raise file_error(path, 'is not an exported model: launch.py export makes one')
        yield path.stem, {'1': path}
        return
    try:
        own = _versions_in(path)
        folders = [(folder.name, _versions_in(folder)) for folder in sorted(path.iterdir())
                   if folder.is_dir() and not folder.name.startswith('.')]
    except OSError as error:
        raise file_error(error.filename, f'cannot be listed: {error.strerror}') from None
    models = [(name, files) for name, files in folders if files]
    if own and models:
        raise file_error(path, f'{_first(own).name} lies beside {models[0][0]}/{_first(models[0][1]).name}: a folder '
                               'has versions of one model, or a folder for each of several')
    if own:
        models = [(path.resolve().name, own)]
    if not models:
        raise file_error(path, 'no model in this folder: there would be <name>/<version>.zip or <version>.zip')
    yield from models


def _versions_in(folder: Path) -> dict[str, Path]:
    files = [file for file in sorted(folder.iterdir())
             if file.suffix in SUFFIXES and not file.name.startswith('.') and file.is_file()]
    versions = {file.stem: file for file in files}
    if len(versions) < len(files):
        raise UserError(f'{folder}: a version is there as .zip and as .onnx')
    return versions


def _first(files: dict[str, Path]) -> Path:
    return next(iter(files.values()))


def _age(version: str) -> list[Any]:
    """What versions are sorted by: numbers in them by their value."""
    return [(1, int(part), '') if part.isdecimal() else (0, 0, part) for part in re.split(r'(\d+)', version) if part]


def _state(file: Path) -> tuple | None:
    """What changes when a file does; None where there is none."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
