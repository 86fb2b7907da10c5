"""What a network sees as one HTML file that needs nothing else."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..common.files import write_text
from . import images, templates


def write_page(path: Path, title: str, notes: Sequence[str], sections: Sequence[Any]) -> None:
    """Writes a page.

    Args:
      path: of the file.
      title, notes: at its top.
      sections: with 'title', 'notes' and a Pillow image 'picture', see inference/explanation_sheet.py.

    Raises:
      OSError: the file cannot be written.
    """
    shown = [{'title': section.title, 'notes': section.notes, 'image': images.embed_drawn(section.picture)}
             for section in sections]
    write_text(path, templates.render('explanation.html', {}, title=title, notes=notes, sections=shown))
