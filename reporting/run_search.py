"""Which folders of runs are meant: those that are named, those of sweeps, those inside a folder such as 'runs'."""

import dataclasses
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import UserError, nearest, printable
from .run_files import is_run, read_json

SWEEP_FILE = 'sweep.json'  # makes a folder that of a sweep, whose folders are its trials
TRIAL_FILE = 'trial.json'  # what the sweep notes of a trial


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a run lies.

    Attributes:
      folder: the run's.
      trial: of its trial.json; {} for a run that is no trial, and for a repetition with another seed.
      sweep: of the sweep.json of its sweep, or {}.
    """
    folder: Path
    trial: dict[str, Any] = dataclasses.field(default_factory=dict)
    sweep: dict[str, Any] = dataclasses.field(default_factory=dict)


def find_runs(paths: Sequence[str | Path]) -> tuple[list[Place], list[str]]:
    """Finds runs.

    Args:
      paths: folders of runs, folders of sweeps, folders that hold runs or sweeps, or patterns such as 'runs/*'. Links
        are followed where they are named here, and nowhere else.

    Returns:
      The runs, each once, in the order in which they were named; and a sentence for every folder that is none.

    Raises:
      UserError: something named is not there, or there is no run at all.
    """
    notes: list[str] = []
    places: dict[tuple[int, int], Place] = {}
    for path in _expanded(paths):
        for place in _runs_of(path, notes):
            try:
                about = place.folder.stat()
            except OSError as error:  # gone meanwhile
                notes.append(f'{place.folder} cannot be read: {error.strerror}')
            else:
                places.setdefault((about.st_dev, about.st_ino), place)
    if not places:
        raise UserError(f"no runs to compare: {'; '.join(notes[:3]) or 'name folders of runs'}")
    return list(places.values()), notes


def _expanded(paths: Sequence[str | Path]) -> Iterator[Path]:
    for text in map(str, paths):
        path = Path(os.path.expanduser(text))
        if os.path.exists(path):
            yield path
        elif glob.has_magic(text):
            found = sorted(glob.glob(str(path)))
            if not found:
                raise UserError(f'nothing matches {printable(text)}')
            yield from map(Path, found)
        else:
            raise UserError(printable(f'{text} does not exist; {_neighbour(path)}'))


def _neighbour(path: Path) -> str:
    try:
        names = [str(path.parent / entry.name) for entry in os.scandir(path.parent) if entry.is_dir()]
    except FileNotFoundError:
        return f'neither does {path.parent}'
    except OSError as error:
        return f'{path.parent}: {error.strerror}'
    return nearest(str(path), names)


def _runs_of(path: Path, notes: list[str]) -> Iterator[Place]:
    """Yields the runs in a folder that was named: itself, its trials, or its folders and the trials of those."""
    if not path.is_dir():
        notes.append(f'{path} is no folder')
    elif not _is_readable(path):
        notes.append(f'{path} may not be read')
    elif (path / SWEEP_FILE).is_file():
        yield from _trials(path, _sweep(path, notes), notes)
    elif (run := _run(path, read_json(path.parent / SWEEP_FILE))):
        yield run
    else:
        folders = _folders(path, notes)
        for folder in folders or ():
            if (folder / SWEEP_FILE).is_file():
                yield from _trials(folder, _sweep(folder, notes), notes)
            elif (run := _run(folder, {})):
                yield run
            else:
                notes.append(f'{folder} is not the folder of a run: it has no config.json')
        if folders == []:
            notes.append(f'{path} is not the folder of a run, and holds none')


def _trials(folder: Path, sweep: dict[str, Any], notes: list[str]) -> Iterator[Place]:
    for path in _folders(folder, notes) or ():
        if (run := _run(path, sweep)):
            yield run
        else:
            notes.append(f'{path} has neither config.json nor {TRIAL_FILE}')


def _sweep(folder: Path, notes: list[str]) -> dict[str, Any]:
    sweep = read_json(folder / SWEEP_FILE)
    if not sweep:
        notes.append(f'{folder / SWEEP_FILE} is damaged: what was searched for is not known')
    return sweep


def _run(folder: Path, sweep: dict[str, Any]) -> Place | None:
    trial = read_json(folder / TRIAL_FILE)
    return Place(folder, trial, sweep) if trial or is_run(folder) else None


def _folders(folder: Path, notes: list[str]) -> list[Path] | None:
    """Returns the folders in a folder, sorted, but for hidden ones; links are none."""
    try:
        found = sorted(folder / entry.name for entry in os.scandir(folder)
                       if entry.is_dir(follow_symlinks=False) and not entry.name.startswith('.'))
    except OSError as error:
        notes.append(f'{folder} cannot be read: {error.strerror}')
        return None
    notes += [f'{path} may not be read' for path in found if not _is_readable(path)]
    return list(filter(_is_readable, found))


def _is_readable(folder: Path) -> bool:
    return os.access(folder, os.R_OK | os.X_OK)
