"""What a network sees, drawn: sections of a sheet, each a picture with a title and notes."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from . import contact_sheet
from .explanation import Explanation, Filters
from .maximization import Maximized
from .targets import Targets

WIDTH = 1180  # pixels that a section may take
_MARGIN, _GAP = 32, 6
_INK, _MUTED, _BLANK, _BAR = (29, 31, 33), (107, 112, 117), (236, 236, 232), (31, 111, 180)
_FRAME = (60, 220, 60)  # in none of the colours of the maps
_PANEL = 272  # side of an image and of the maps over it
_TILE = 90  # side of a feature map
_FILTER, _LABEL = 52, 34  # side of a filter of few pixels, and width of the numbers left of its row
_STAGES, _OF_A_STAGE = 12, 10  # that a sheet has at most; more are left out, and a note says so
_OF_AN_ENDPOINT = 60
_FILTERS, _INPUTS = 128, 24
_STRONG, _SIGNED = 'inferno', 'RdBu_r'
_PER_ROW = 6  # of maximised images


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of a sheet.

    Attributes:
      name: of its file.
      title, notes: text above it.
      picture: at most `WIDTH` pixels wide.
    """
    name: str
    title: str
    notes: tuple[str, ...]
    picture: Image.Image


def compose(title: str, notes: Sequence[str], sections: Sequence[Section]) -> Image.Image:
    """Returns a sheet with all sections, one below the other."""
    width = WIDTH + 2 * _MARGIN
    blocks = [_heading(title, notes, 24)]
    for section in sections:
        blocks += [Image.new('RGB', (WIDTH, 1), (227, 227, 223)), _heading(section.title, section.notes, 17),
                   section.picture]
    gap = 18
    sheet = Image.new('RGB', (width, 2 * _MARGIN + sum(block.height + gap for block in blocks) - gap), 'white')
    top = _MARGIN
    for block in blocks:
        sheet.paste(block, (_MARGIN, top))
        top += block.height + gap
    return sheet


def draw_filters(filters: Filters) -> Section:
    """Draws the filters of a layer: in colour or grey where they look at an image, else one picture for each input."""
    count, height, width, inputs = filters.kernels.shape
    title = f'Filters of {filters.layer}'
    what = f'{count:,} filters of {height} × {width}'
    scale = np.abs(filters.kernels).max(axis=(1, 2, 3), keepdims=True)
    shades = np.round(127.5 + 127.5 * filters.kernels / np.where(scale > 0, scale, 1)).astype(np.uint8)
    side = _enlarged(max(height, width), _FILTER)
    name = f'filters-{filters.layer.replace("/", "-")}'
    each = 'each is scaled by its own largest weight, and middle grey is 0'
    if inputs in (1, 3):
        shown = shades[:_FILTERS]
        columns = min(16, (WIDTH - _LABEL + _GAP) // (side + _GAP))
        some = '' if len(shown) == count else f'; the first {len(shown)} are shown'
        picture = _grid([_small(tile, side) for tile in shown], columns, side, [
            f'{first}' for first in range(0, len(shown), columns)])
        return Section(name, title, (f'{what}{some}. Numbers are those of channels; {each}.',), picture)
    columns = min(inputs, _INPUTS)
    rows = min(count, 16)
    side = min(side, (WIDTH - _LABEL) // columns - _GAP)
    tiles = [_small(shades[row, :, :, [column]].transpose(1, 2, 0), side)
             for row in range(rows) for column in range(columns)]
    some = [f'the first {shown} of {of:,} {what}' for shown, of, what in (
        (rows, count, 'filters'), (columns, inputs, 'inputs')) if shown < of]
    return Section(name, title, (f'{what} for {inputs:,} inputs: a row for each filter, a column for each input'
                                 f'{"; " * bool(some)}{", ".join(some)}. {each[0].upper()}{each[1:]}.',),
                   _grid(tiles, columns, side, [f'{row}' for row in range(rows)]))


def draw_class(found: Explanation, title: str, name: str, targets: Targets | None) -> Section:
    """Draws an image, where it speaks for a class (Grad-CAM, occlusion), and what the network says of it."""
    height, width = found.image.shape[:2]
    panels = [(_panel(found.image), f'as the network sees it: {height} × {width} pixels', None)]
    notes = []
    who = f'{found.class_name} in the frame' if found.box else found.class_name
    if found.box:
        notes.append(f'The frame is the likeliest object of class {found.class_name}: all that is shown is about it '
                     'alone, as its likeliest cell has it.')
    if found.grad_cam is not None:
        rows, columns = found.grad_cam.shape
        notes.append(f'Grad-CAM{", cell by cell (HiResCAM)" * bool(found.box)}: what of {found.endpoint} ({rows} × '
                     f'{columns} cells) speaks for {who}'
                     f'{"; scaled by its largest value." if found.grad_cam.any() else ": nothing does."}')
        panels.append((_overlay(found.image, found.grad_cam, _STRONG, signed=False), f'Grad-CAM, {found.endpoint}',
                       (_STRONG, 'nothing', 'most')))
    if found.drops is not None:
        most, strongest = float(np.abs(found.occlusion).max()), float(found.drops.max())
        falls = f'{100 * most:.2g} points' if targets.unit else f'{most:.3g}'
        alone = f'One square alone leaves {targets.text(found.share - strongest)}; t' if strongest > 0 else 'T'
        notes.append(f'Occlusion: how the {targets.share_name} of {who} ({targets.text(found.share)}) changes where a '
                     f'square of {found.patch[0]} × {found.patch[1]} pixels is hidden. {alone}he colour of a pixel is '
                     'the mean over all squares that hide it.')
        panels.append((_overlay(found.image, found.occlusion, _SIGNED, signed=True), 'Occlusion',
                       (_SIGNED, f'rises {falls}', f'falls {falls} in the mean')))
    picture = Image.new('RGB', (WIDTH, _PANEL + 58), 'white')
    pen = ImageDraw.Draw(picture)
    for number, (panel, caption, bar) in enumerate(panels):
        left = number * (_PANEL + 22)
        corner = left + (_PANEL - panel.width) // 2, (_PANEL - panel.height) // 2
        picture.paste(panel, corner)
        if found.box:
            scale = panel.width / width, panel.height / height
            box = [corner[axis % 2] + round(scale[axis % 2] * side) for axis, side in enumerate(found.box)]
            pen.rectangle([box[0], box[1], max(box[0], box[2] - 1), max(box[1], box[3] - 1)], outline=_FRAME, width=2)
        pen.text((left, _PANEL + 8), caption, _INK, _font(13))
        if bar:
            picture.paste(_colour_bar(bar[0]), (left, _PANEL + 30))
            pen.text((left, _PANEL + 42), bar[1], _MUTED, _font(11))
            pen.text((left + _PANEL, _PANEL + 42), bar[2], _MUTED, _font(11), anchor='ra')
    if targets is not None and len(panels) > 1:
        _draw_shares(pen, found, targets, len(panels) * (_PANEL + 22) + 10)
    said = f': {found.class_name} {targets.text(found.share)}' if targets is not None else ''
    return Section(f'{name}-{"class" if found.class_name else "image"}', f'{title}{said}', tuple(notes), picture)


def draw_maps(found: Explanation, stages: Sequence[str], title: str, name: str, endpoint: str = '') -> Section:
    """Draws feature maps of an image: the strongest of every stage, or many of one endpoint.

    Args:
      found: of the image.
      stages: endpoints with a grid, in order.
      title, name: of the image.
      endpoint: the only one to draw; '' for the stages.
    """
    if endpoint:
        values = found.maps[endpoint]
        rows, columns, channels = values.shape
        tiles, strongest = _maps_of(values, _OF_AN_ENDPOINT, _TILE)
        picture = _grid(tiles, 12, _TILE, below=[str(channel) for channel in strongest])
        some = f'the {len(tiles)} strongest of {channels:,}' if len(tiles) < channels else f'all {channels}, sorted'
        note = f'{rows} × {columns} cells, {some}. Numbers are channels.{_colours(values)}'
        return Section(f'{name}-maps', f'{title}: feature maps of {endpoint}', (note,), picture)
    shown = [stages[place] for place in np.unique(np.linspace(0, len(stages) - 1, min(len(stages), _STAGES)).round()
                                                  .astype(int))]
    label = 126
    tiles, below, signed = [], [], False
    for stage in shown:
        row, strongest = _maps_of(found.maps[stage], _OF_A_STAGE, _TILE)
        missing = _OF_A_STAGE - len(row)
        tiles += [*row, *[None] * missing]
        below += [*map(str, strongest), *[''] * missing]
        signed = signed or found.maps[stage].min() < 0
    grid = _grid(tiles, _OF_A_STAGE, _TILE, below=below)
    picture = Image.new('RGB', (label + grid.width, grid.height), 'white')
    picture.paste(grid, (label, 0))
    pen = ImageDraw.Draw(picture)
    pitch = grid.height // len(shown)
    for number, stage in enumerate(shown):
        rows, columns, channels = found.maps[stage].shape
        top = number * pitch + _TILE // 2
        pen.text((0, top - 18), _fitting(stage, label - 8, 14, bold=True), _INK, _font(14, bold=True))
        pen.text((0, top + 2), f'{rows} × {columns} × {channels:,}', _MUTED, _font(12))
    some = f'{len(shown)} of {len(stages)} endpoints' if len(shown) < len(stages) else 'Stage by stage'
    note = (f'{some}, of each the {_OF_A_STAGE} channels with the highest mean, whose numbers stand below. Bright is a '
            'large value, each row on a scale of its own' + (', and where values fall below 0, blue is below and red '
                                                             'above it.' if signed else '.'))
    return Section(f'{name}-maps', f'{title}: feature maps', (note,), picture)


def draw_maximized(images: Sequence[Maximized], strongest: dict[int, float]) -> Section:
    """Draws images that were made for units and classes.

    Args:
      images: of one endpoint, or of classes.
      strongest: unit -> the most that any of the user's images does to it.
    """
    def lines(one: Maximized) -> tuple[str, ...]:
        most = (f'your images: {strongest[one.unit]:.3g}',) if one.unit in strongest else ()
        rose = '' if one.after > one.before else ': did not rise'
        return one.name, f'{one.before:.2g} → {one.after:.3g}{rose}', *most
    tiles = [contact_sheet.Tile(one.image if one.image.shape[-1] in (1, 3) else _viewable(one.image), lines(one))
             for one in images]
    picture = contact_sheet.draw([tiles[first:first + _PER_ROW] for first in range(0, len(tiles), _PER_ROW)])
    endpoint = images[0].endpoint
    kind = images[0].name.partition(' ')[0]
    what = f'{kind}s of {endpoint}' if endpoint else 'classes'
    measured = ('the score before it becomes a probability' if not endpoint else
                'the mean of the channel over the image' if kind == 'channel' else 'what the unit says')
    note = (f'Made from noise by gradient ascent, not photographs. Below: {measured}, of the noise → of the image'
            f'{"; then the most that your images do" if strongest else ""}.')
    return Section(f'maximized-{endpoint or "classes"}', f'What {what} respond to most', (note,), picture)


def strongest_channels(means: Sequence[np.ndarray], count: int) -> dict[int, float]:
    """Returns the channels with the highest value in any of some arrays [channels], the highest first, and that."""
    highest = np.max(means, axis=0)
    return {int(channel): float(highest[channel]) for channel in np.argsort(-highest, kind='stable')[:count]}


# --- parts ---

@functools.cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    folder = Path(matplotlib.get_data_path()) / 'fonts' / 'ttf'
    return ImageFont.truetype(folder / f'DejaVuSans{"-Bold" * bold}.ttf', size)


def _fitting(text: str, width: int, size: int, *, bold: bool = False) -> str:
    """Returns a text, its middle left out if it is wider than that."""
    kept, short = len(text), text
    while _font(size, bold=bold).getlength(short) > width and kept > 2:
        kept -= 1
        short = f'{text[:kept // 2]}…{text[len(text) - (kept - kept // 2):]}'
    return short


def _heading(title: str, notes: Sequence[str], size: int) -> Image.Image:
    lines = [(_fitting(title, WIDTH, size, bold=True), _font(size, bold=True), _INK, size + 8)]
    for note in notes:
        lines += [(line, _font(13), _MUTED, 19) for line in _wrapped(note)]
    picture = Image.new('RGB', (WIDTH, sum(line[-1] for line in lines)), 'white')
    pen, top = ImageDraw.Draw(picture), 0
    for text, font, ink, height in lines:
        pen.text((0, top), text, ink, font)
        top += height
    return picture


def _wrapped(text: str) -> list[str]:
    lines = ['']
    for word in text.split():
        longer = f'{lines[-1]} {word}'.strip()
        if lines[-1] and _font(13).getlength(longer) > WIDTH:
            lines.append(_fitting(word, WIDTH, 13))
        else:
            lines[-1] = _fitting(longer, WIDTH, 13)
    return lines


def _enlarged(side: int, wanted: int) -> int:
    """Returns a size near `wanted` in which every pixel is as large as every other one."""
    return side * max(1, round(wanted / side)) if side <= wanted else min(side, 2 * wanted)


def _viewable(image: np.ndarray) -> np.ndarray:
    """Returns uint8 [height, width, 3] of any number of channels: their mean unless they are colours."""
    colours = image if image.shape[-1] == 3 else image.mean(axis=-1, keepdims=True).round().astype(np.uint8)
    return np.broadcast_to(colours, (*image.shape[:2], 3))


def _small(image: np.ndarray, side: int) -> Image.Image:
    """Returns an image whose longer side is that long; pixels that are enlarged stay squares."""
    picture = Image.fromarray(np.ascontiguousarray(_viewable(image)))
    scale = side / max(picture.size)
    size = tuple(max(1, round(scale * length)) for length in picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.LANCZOS)


def _panel(image: np.ndarray) -> Image.Image:
    picture = Image.fromarray(np.ascontiguousarray(_viewable(image)))
    scale = _PANEL / max(picture.size)
    size = tuple(max(1, round(scale * length)) for length in picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if scale > 4 else Image.Resampling.BICUBIC)


def _overlay(image: np.ndarray, values: np.ndarray, colours: str, *, signed: bool) -> Image.Image:
    """Returns an image in grey with values as colours over it, as large as a panel."""
    panel = _panel(image)
    most = np.abs(values).max() or 1.0
    enlarged = np.asarray(Image.fromarray((values / most).astype(np.float32)).resize(
        panel.size, Image.Resampling.BILINEAR))
    shade = matplotlib.colormaps[colours](0.5 + 0.5 * enlarged if signed else enlarged)[..., :3]
    grey = np.asarray(panel.convert('L'), np.float32)[..., None]
    return Image.fromarray(np.round(0.45 * grey + 0.55 * 255 * shade).astype(np.uint8))


def _colour_bar(colours: str) -> Image.Image:
    shades = matplotlib.colormaps[colours](np.linspace(0, 1, _PANEL))[:, :3]
    return Image.fromarray(np.round(255 * np.broadcast_to(shades, (8, _PANEL, 3))).astype(np.uint8))


def _draw_shares(pen: ImageDraw.ImageDraw, found: Explanation, targets: Targets, left: int) -> None:
    """Writes the likeliest classes with bars."""
    width = WIDTH - left
    pen.text((left, 0), targets.rank_name, _MUTED, _font(12))
    for number, (name, share) in enumerate(found.likeliest):
        top = 24 + 50 * number
        chosen = name == found.class_name
        pen.text((left, top), _fitting(name, width - 70, 14, bold=chosen), _INK, _font(14, bold=chosen))
        pen.text((left + width, top), targets.text(share), _INK, _font(14), anchor='ra')
        if targets.unit:
            pen.rectangle((left, top + 22, left + width - 1, top + 29), fill=_BLANK)
            if (length := round(width * share)) > 0:
                pen.rectangle((left, top + 22, left + length - 1, top + 29), fill=_BAR if chosen else _MUTED)


def _maps_of(values: np.ndarray, count: int, side: int) -> tuple[list[Image.Image], list[int]]:
    """Returns the strongest maps of an endpoint as tiles, on one scale, and their channels."""
    strongest = list(strongest_channels([values.mean(axis=(0, 1))], count))
    shown = values[..., strongest]
    low = min(0.0, float(np.percentile(shown, 0.1)))
    high = max(float(np.percentile(shown, 99.8)), 1e-12, -low if low < 0 else 0)
    if low < 0:
        shades = matplotlib.colormaps[_SIGNED](0.5 + 0.5 * np.clip(shown / high, -1, 1))
    else:
        shades = matplotlib.colormaps[_STRONG](np.clip(shown / high, 0, 1))
    pixels = np.round(255 * shades[..., :3]).astype(np.uint8)
    return [_small(pixels[:, :, place], side) for place in range(len(strongest))], strongest


def _colours(values: np.ndarray) -> str:
    return (' Blue is below 0, red above.' if values.min() < 0 else ' Bright is a large value, on one scale.')


def _grid(tiles: Sequence[Image.Image | None], columns: int, side: int, left: Sequence[str] = (),
          below: Sequence[str] = ()) -> Image.Image:
    """Returns tiles in rows.

    Args:
      tiles: none larger than `side`; None leaves a place empty.
      columns: of a full row.
      side: of a tile's place.
      left: a text for each row.
      below: a text for each tile.
    """
    label, line = (_LABEL if left else 0), (15 if below else 0)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    grid = Image.new('RGB', (label + columns * (side + _GAP) - _GAP, rows * (side + _GAP + line)), 'white')
    pen = ImageDraw.Draw(grid)
    for place, tile in enumerate(tiles):
        row, column = divmod(place, columns)
        corner = label + column * (side + _GAP), row * (side + _GAP + line)
        if tile is not None:
            grid.paste(tile, (corner[0] + (side - tile.width) // 2, corner[1] + (side - tile.height) // 2))
        if below:
            pen.text((corner[0] + side // 2, corner[1] + side + 2), below[place], _MUTED, _font(10), anchor='ma')
    for row, text in enumerate(left):
        pen.text((label - 8, row * (side + _GAP + line) + side // 2), text, _MUTED, _font(11), anchor='rm')
    return grid
