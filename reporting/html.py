"""HTML that cannot be broken by what it shows: elements, tables, and images inside the page.

Text becomes part of a page through `element` alone, which escapes it. Pages are ASCII: no encoding can be wrong.
"""

import base64
import html
import io
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from ..common.console import format_metric

_VOID = ('img', 'meta')
_ILLEGAL = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')  # not allowed in HTML
_MOST_PIXELS = 120_000_000  # a larger image is not opened
_LONGEST_SIDE = 2400  # a larger one is scaled down
_LOSSLESS_BYTES = 120_000  # diagrams stay as they are; what needs more is photographs


class Html(str):
    """Markup: made by `element` and put into others as it is."""


def element(name: str, /, *children: Any, **attributes: Any) -> Html:
    """Returns <name attributes>children</name>.

    Args:
      name: of the element.
      children: Html, text, numbers, None (nothing), or iterables of them. What is not Html is escaped.
      attributes: `class_` is 'class', `stroke_width` is 'stroke-width'; None and False are left out, True is one
        without a value.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is not None and value is not False:
            key = key.rstrip('_').replace('_', '-')
            parts.append(key if value is True else f'{key}="{escape(value)}"')
    opening = f"<{' '.join(parts)}>"
    return Html(opening if name in _VOID else f'{opening}{join(children)}</{name}>')


def join(children: Any) -> Html:
    """Returns Html, text, numbers, None or iterables of them as one piece of markup."""
    if isinstance(children, Html):
        return children
    if children is None:
        return Html()
    if isinstance(children, Iterable) and not isinstance(children, (str, bytes, dict)):
        return Html(''.join(map(join, children)))
    return Html(escape(children))


def escape(value: Any) -> str:
    """Returns text for between tags or in a quoted attribute, in ASCII."""
    text = html.escape(_ILLEGAL.sub('\ufffd', str(value)))
    return text.encode('ascii', 'xmlcharrefreplace').decode()


def plain(name: str) -> str:
    """Returns the name of a metric, figure or column as a person writes it."""
    return str(name).replace('_', ' ')


def is_number(value: Any) -> bool:
    """Whether a value out of a JSON file is a number, one that a float can hold; True and False are none."""
    return isinstance(value, float) or isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1e300


def metric(name: str, value: Any) -> str:
    """Returns a metric as the console shows it, and '-' for what is no number."""
    return format_metric(name, value) if is_number(value) else '-'


def shorten(text: str, length: int) -> str:
    """Returns at most so many characters of a text."""
    return text if len(text) <= length else f'{text[:length - 1]}\u2026'


def table(header: Sequence[str], rows: Iterable[Sequence[Any]], *, class_: str | None = None) -> Html:
    """Returns a table. Columns that hold nothing but numbers are on the right.

    Args:
      header: names of the columns.
      rows: cells: text, Html, numbers (shown with four digits; all of them as a tooltip), bools, None.
    """
    rows = [list(row) for row in rows]
    right = [any(is_number(row[c]) for row in rows) and all(row[c] is None or is_number(row[c]) for row in rows)
             for c in range(len(header))]

    def cell(value: Any, column: int) -> Html:
        shown, exact = _shown(value)
        return element('td', shown, class_='n' if right[column] else None, title=exact)
    head = element('tr', (element('th', name, scope='col', class_='n' if right[c] else None)
                          for c, name in enumerate(header)))
    body = (element('tr', (cell(value, c) for c, value in enumerate(row))) for row in rows)
    return element('div', element('table', element('thead', head), element('tbody', body)),
                   class_=f"scroll {class_ or ''}".strip())


def _shown(value: Any) -> tuple[Any, str | None]:
    """Returns a cell's text, and the exact value where that is not it."""
    if value is None:
        return '\u2013', None
    if isinstance(value, bool):
        return 'yes' if value else 'no', None
    if isinstance(value, int):
        return (f'{value:,}' if abs(value) < 1e15 else f'{value:.4g}' if abs(value) < 1e300 else 'huge'), None
    if isinstance(value, float):
        shown = f'{value:.4g}'
        return shown, None if shown == repr(value) or not math.isfinite(value) else repr(value)
    return value, None


def details(summary: Any, *content: Any, opened: bool = False) -> Html:
    """Returns content that is shown on a click."""
    return element('details', element('summary', summary), *content, open=opened)


def picture(path: Path, alt: str, complain: Callable[[str], None]) -> Html | None:
    """Returns a PNG file as an <img> that holds its pixels; None, after a complaint, if it is none.

    Args:
      path: of the file.
      alt: what is on it.
      complain: called with a sentence about what is wrong with the file.
    """
    from PIL import Image
    try:
        with Image.open(path, formats=('PNG',)) as image:
            if image.width * image.height > _MOST_PIXELS:
                complain(f'{path.name} is left out: {image.width} x {image.height} pixels are too many')
                return None
            image.load()
            size = image.size
            data = _compressed(image, lossless=path.stat().st_size < 4 * _LOSSLESS_BYTES)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        complain(f'{path.name} is left out: {shorten(" ".join(str(error).split()), 120)}')
        return None
    return element('img', src=f'data:image/webp;base64,{base64.b64encode(data).decode()}', alt=alt, width=size[0],
                   height=size[1], decoding='async')


def _compressed(image: Any, *, lossless: bool) -> bytes:
    """Returns an image as WebP: exact where that is tried and small, as photographs are kept otherwise."""
    if image.mode != 'RGB':
        from PIL import Image
        rgba = image.convert('RGBA')
        image = Image.new('RGB', image.size, 'white')
        image.paste(rgba, mask=rgba.getchannel('A'))
    image.thumbnail((_LONGEST_SIDE, _LONGEST_SIDE))
    buffer = io.BytesIO()
    if lossless:
        image.save(buffer, 'WEBP', lossless=True, quality=50, method=2)
    if not lossless or buffer.tell() > _LOSSLESS_BYTES:
        buffer = io.BytesIO()
        image.save(buffer, 'WEBP', quality=88, method=4)
    return buffer.getvalue()
