"""What a network sees, written: a sheet as .png or .html, or a folder with all of it."""

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..common.errors import UserError, printable
from ..common.files import replacing, write_json
from . import explanation_sheet as sheet
from . import maximization, output_folder
from .explanation import Explainer, Explanation
from .prediction import find_image_files, report_unreadable
from .run import Run

_MOST_IMAGES = {'.png': 6, '.html': 24}  # on one sheet
_UNITS, _CLASSES = 12, 6  # that images are made for
WritePage = Callable[[Path, str, Sequence[str], Sequence[sheet.Section]], None]


def explain_files(run: Run, inputs: Sequence[str], output: Path | None = None, *, write_page: WritePage,
                  endpoint: str = '', class_name: str | None = None, patch: int = 0, maximize: bool = False,
                  units: Sequence[int] = (), seed: int | None = None) -> int:
    """Draws filters, and of each image what the network sees in it, and prints what it says of it.

    Args:
      inputs: images and folders of images; none for filters, and images of `maximize`, alone.
      output: a file, .png or .html, for a sheet; else a folder that gets both of them, each part as a file of its own,
        and the numbers as explanation.json. <workdir>/explanation by default.
      write_page: writes an html page: write_page(path, title, notes, sections).
      endpoint: of the filters, maps, Grad-CAM and channels to show; '' for the first filters, the maps of all
        endpoints, and Grad-CAM and channels where features are highest. One without a grid is for filters and
        channels alone.
      class_name, patch: see `Run.explain`.
      maximize: whether to make images that channels and classes respond to most.
      units: the channels; () for those that respond most to the images, without images the first ones.
      seed: of the images of `maximize`; None for 0.

    Returns:
      Exit code: 2 if some images could not be read, else 0.

    Raises:
      UserError: what is asked for does not fit the run, has no effect, or cannot be written; before anything is
        computed.
    """
    explainer = run.explainer
    form = _form(output)
    output = run.workdir / 'explanation' if output is None else output
    folder = output if form == '' else None
    if folder is not None:
        _check_folder(folder, inputs)
    units = tuple(dict.fromkeys(units))
    _check_effects(inputs, class_name, patch, maximize, units, seed)
    of_units, of_filters = endpoint or explainer.of_units, endpoint
    if endpoint:
        explainer.check_endpoint(endpoint)
        if not explainer.has_grid(endpoint) and (maximize or not inputs):
            endpoint = ''  # there is nothing of it to be seen in an image
    explainer.check(class_name, endpoint, patch)
    if maximize:
        maximization.check(explainer, of_units, units, seed or 0)
        if not of_units and explainer.targets is None:
            raise UserError(f'--maximize: {run.config.model.name} names nothing that could be maximised')
    unreadable: list[str] = []
    names = find_image_files(inputs, folder, unreadable, explainer.reader.suffixes)
    if form and any(file.resolve() == output.resolve() for file in names):
        raise UserError(f'--output {output} is one of the images to explain; name another file')
    filters = [sheet.draw_filters(one) for one in explainer.filters(of_filters)]
    if not (filters or inputs or maximize):
        raise UserError(f'{run.workdir} has no filters that are images{f" at {of_filters}" * bool(of_filters)}: name '
                        'images to look at, or --maximize')
    most = _MOST_IMAGES[form or '.html']
    shown: list[list[sheet.Section]] = []
    rows: list[dict[str, Any]] = []
    seen: list[np.ndarray] = []
    written: set[Path] = set()
    try:
        _try_place(output if folder is not None else output.parent)
        for file, image in explainer.reader.read_files(
                dict(list(names.items())[:most]) if form else names, 'explaining', unreadable):
            found = explainer.explain(image, class_name=class_name, endpoint=endpoint, patch=patch)
            if of_units:
                seen.append(found.activities[of_units])
            sections = _sections(explainer, found, file, names[file], endpoint)
            rows.append(_row(found, file))
            print(printable(f'{file}  {_said(explainer, found)}'))
            if folder is not None:
                files = _write(folder, sections)
                rows[-1]['pictures'] = [path.relative_to(folder).as_posix() for path in files]
                written |= set(files)
            if len(shown) < most:
                shown.append(sections)
        if inputs and not rows:
            return report_unreadable(unreadable)
        made, strongest = ([], {})
        if maximize:
            strongest = sheet.strongest_channels(seen, len(seen[0])) if seen else {}
            found_classes = [row['class'] for row in rows if 'class' in row]
            known = explainer.targets.names if explainer.targets else ()
            made = _maximize(explainer, of_units, units or tuple(strongest)[:_UNITS],
                             [class_name] if class_name else [*found_classes, *known], seed or 0)
        drawn = [sheet.draw_maximized(images, {} if not images[0].endpoint else strongest) for images in made]
        title = printable(f'What {run.config.experiment} sees')
        notes = _notes(run, explainer, filters, of_filters, bool(rows))
        whole = _Whole(title, notes, filters, shown, drawn, len(names))
        if folder is not None:
            written |= set(_write(folder, [*filters, *drawn]))
            numbers = {'images': rows, 'maximized': [
                {'endpoint': one.endpoint, 'name': one.name, 'unit': one.unit, 'before': one.before,
                 'after': one.after} for images in made for one in images]}
            write_json(folder / 'explanation.json', numbers)
            written.add(folder / 'explanation.json')
        for suffix in (form,) if form else _MOST_IMAGES:
            path = output if form else folder / f'sheet{suffix}'
            whole.write(path, suffix, write_page)
            written.add(path)
        if folder is not None:
            output_folder.warn_of_others(folder, written)
    except OSError as error:
        raise UserError(f'cannot write {output}: {error.strerror or error}') from error
    logging.info('%s of %s: %s', run.chosen, run.workdir, output)
    return report_unreadable(unreadable)


def _check_effects(inputs: Sequence[str], class_name: str | None, patch: int, maximize: bool, units: Sequence[int],
                   seed: int | None) -> None:
    """Raises UserError if something is asked for that would change nothing."""
    if units and not maximize:
        raise UserError(f'--units {" ".join(map(str, units))}: they are for --maximize')
    if seed is not None and not maximize:
        raise UserError(f'--seed {seed}: it is for --maximize')
    if patch and not inputs:
        raise UserError(f'--patch {patch}: name images to hide squares of')
    if class_name is not None and not (inputs or maximize):
        raise UserError(f'--class {class_name}: name images to look for it in, or --maximize')


def _check_folder(folder: Path, inputs: Sequence[str]) -> None:
    output_folder.check(folder, inputs, 'explain', 'the explanations')
    if (folder / 'config.json').exists() or (folder / 'checkpoints').exists():
        raise UserError(f'--output {folder} is the folder of a run: give the explanations one of their own, such as '
                        f'{folder / "explanation"}')


def _try_place(folder: Path) -> None:
    """Raises OSError if nothing can be written to a folder, or to the one that it is to be made in; leaves nothing."""
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    with tempfile.TemporaryFile(dir=there):
        pass


class _Whole:
    """All sections of a sheet: `shown` are those of each image, of `count`."""

    def __init__(self, title: str, notes: list[str], filters: list[sheet.Section], shown: list[list[sheet.Section]],
                 drawn: list[sheet.Section], count: int):
        self._title, self._notes, self._count = title, notes, count
        self._filters, self._shown, self._drawn = filters, shown, drawn

    def write(self, path: Path, suffix: str, write_page: WritePage) -> None:
        """Writes a sheet with as many images as it can have."""
        shown = self._shown[:_MOST_IMAGES[suffix]]
        notes = list(self._notes)
        if len(shown) < self._count:
            notes.append(f'{len(shown)} of {self._count:,} images are shown; a folder as --output gets files of each.')
        sections = [*self._filters, *(section for sections in shown for section in sections), *self._drawn]
        path.parent.mkdir(parents=True, exist_ok=True)
        if suffix == '.html':
            write_page(path, self._title, notes, sections)
        else:
            _save(path, sheet.compose(self._title, notes, sections))


def _form(output: Path | None) -> str:
    """Returns '.png', '.html', or '' for a folder."""
    if output is None or output.is_dir():
        return ''
    suffix = output.suffix.lower()
    if suffix in ('', *_MOST_IMAGES):
        if suffix == '' and output.exists():
            raise UserError(f'--output {output} is a file: name a folder, or a file that ends in .png or .html')
        return suffix
    raise UserError(f'--output {output}: it ends in .png or .html, or is a folder for all there is')


def _sections(explainer: Explainer, found: Explanation, file: Path, name: str, endpoint: str) -> list[sheet.Section]:
    title = printable(file.name)
    sections = [sheet.draw_class(found, title, name, explainer.targets)]
    if explainer.maps:
        sections.append(sheet.draw_maps(found, explainer.maps, title, name, endpoint))
    return sections


def _maximize(explainer: Explainer, endpoint: str, units: Sequence[int], classes: Sequence[str], seed: int
              ) -> list[list[maximization.Maximized]]:
    made = []
    if endpoint:
        units = units or range(min(_UNITS, explainer.endpoints[endpoint][-1]))
        made.append(maximization.maximize_units(explainer, endpoint, list(units), seed=seed))
    if explainer.targets is not None:
        chosen = list(dict.fromkeys(classes))[:_CLASSES]
        made.append(maximization.maximize_classes(explainer, chosen, seed=seed))
    return made


def _notes(run: Run, explainer: Explainer, filters: Sequence[sheet.Section], endpoint: str, images: bool) -> list[str]:
    notes = [printable(f'{run.config.model.name}, {run.chosen} of {run.workdir}.')]
    if explainer.targets is None:
        why = 'A body without a head' if run.task is None else f'The task {run.config.task.name}'
        notes.append(f'{why} knows no classes: neither Grad-CAM nor occlusion.')
    if not explainer.maps:
        notes.append(f'No endpoint of {run.config.model.name} has a grid of cells: neither feature maps nor Grad-CAM.')
    elif images and endpoint and not explainer.has_grid(endpoint):
        notes.append(f'{endpoint} has no grid of cells: feature maps are those of all endpoints'
                     f'{f", Grad-CAM is of {explainer.endpoint}" * (explainer.targets is not None)}.')
    if not filters:
        notes.append(f'The filters{f" of {endpoint}" * bool(endpoint)} are no images: 1x1 convolutions, or no weights '
                     'on images.')
    return notes


def _row(found: Explanation, file: Path) -> dict[str, Any]:
    row = {'file': str(file), 'endpoints': {name: list(values.shape) for name, values in found.maps.items()}}
    if found.class_name:
        row |= {'class': found.class_name, 'share': found.share, 'likeliest': dict(found.likeliest),
                'grad_cam_endpoint': found.endpoint, 'hidden_square': list(found.patch),
                'largest_drop': float(found.drops.max())}
        if found.box:
            row['box'] = list(found.box)
    return row


def _said(explainer: Explainer, found: Explanation) -> str:
    if not found.class_name:
        count = len(explainer.maps)
        return f'feature maps of {count} endpoint{"s" * (count > 1)}' if count else 'no feature maps'
    text = explainer.targets.text
    drop = float(found.drops.max())
    least = f'; a hidden square leaves {text(found.share - drop)}' if drop > 0 else ''
    return f'{found.class_name} : {text(found.share)}{least}'


def _write(folder: Path, sections: Sequence[sheet.Section]) -> list[Path]:
    """Writes each section as a file of its own."""
    files = []
    for section in sections:
        files.append(folder / f'{section.name}.png')
        files[-1].parent.mkdir(parents=True, exist_ok=True)
        _save(files[-1], section.picture)
    return files


def _save(path: Path, picture: Image.Image) -> None:
    with replacing(path) as file:
        picture.save(file, 'png')
