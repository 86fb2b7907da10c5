"""Pages from the templates of this folder (Jinja2): every text is escaped, and the page is ASCII."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOM = Path(__file__).parent
_ILLEGAL = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')  # not allowed in HTML


def render(name: str, filters: Mapping[str, Callable[..., Any]], **values: Any) -> str:
    """Returns a template's page, its style that of page.css. No encoding can be wrong: it is ASCII.

    Args:
      name: of the template, 'report.html'.
      filters: that it uses; names that begin with 'is_' are tests, `x is finite` for 'is_finite'.
      **values: that it shows, of any shape: what is not there is empty.
    """
    import jinja2
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(ROOM), autoescape=True, trim_blocks=True,
                                     lstrip_blocks=True, keep_trailing_newline=True,
                                     undefined=jinja2.ChainableUndefined)
    for key, function in filters.items():
        if key.startswith('is_'):
            environment.tests[key.removeprefix('is_')] = function
        else:
            environment.filters[key] = function
    html = environment.get_template(name).render(style=read('page.css'), **values)
    return _ILLEGAL.sub('\ufffd', html).encode('ascii', 'xmlcharrefreplace').decode()


def read(name: str) -> str:
    """Returns a file of this folder."""
    return (ROOM / name).read_text(encoding='ascii')
