"""A report as tests see it, and folders of runs to make reports of."""

import base64
import io
import json
from html.parser import HTMLParser

import numpy as np
from PIL import Image

VOID = ('img', 'meta')
LOADING = ('src', 'srcset', 'href', 'xlink:href', 'action', 'data', 'poster', 'background', 'formaction')


class Page(HTMLParser):
    """A parsed report; asserts what must hold of every one.

    Args:
      path: of the file.
      script: what its only script must be; '' where it has none.
    """

    def __init__(self, path, script=''):
        super().__init__(convert_charrefs=True)
        self._script = script
        text = path.read_bytes().decode('ascii')  # whatever encoding a reader takes it for
        self.tags, self.ids, self.text, self._open = [], set(), '', []  # tags: (name, attributes, text up to its end)
        self.feed(text)
        self.close()
        assert not self._open
        assert all(values['href'][1:] in self.ids for _, values, _ in self.tags if 'href' in values)
        style, = (text for name, _, text in self.tags if name == 'style')
        assert 'url(' not in style and '@import' not in style
        assert self.texts('script') == ([script] if script else [])

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        assert len(values) == len(attributes)
        assert tag != 'script' or self._script and not values
        assert tag not in ('link', 'iframe', 'object', 'embed', 'base', 'form', 'foreignobject')
        for name, value in attributes:
            assert not name.startswith('on') and name != 'style'
            if name in LOADING:
                assert value.startswith('data:image/webp;base64,') if name == 'src' else value.startswith('#')
            assert 'url(' not in (value or '') and (name != 'id' or value not in self.ids)
            self.ids |= {value} if name == 'id' else set()
        entry = [tag, values, '']
        self.tags.append(entry)
        if tag not in VOID:
            self._open.append(entry)

    def handle_startendtag(self, tag, attributes):
        raise AssertionError(f'<{tag}/> is not HTML')

    def handle_endtag(self, tag):
        name, _, text = self._open.pop()
        assert name == tag
        if self._open:
            self._open[-1][2] += text

    def handle_data(self, data):
        self.text += data
        if self._open:
            self._open[-1][2] += data

    def texts(self, tag, class_=None):
        return [text for name, values, text in self.tags
                if name == tag and (class_ is None or class_ in (values.get('class') or '').split())]

    def images(self):
        return [(values['alt'], Image.open(io.BytesIO(base64.b64decode(values['src'].partition(',')[2]))))
                for name, values, _ in self.tags if name == 'img']


def make_run(folder, **files):
    """Writes the files of a run: dicts as JSON, lists of dicts as JSON lines, arrays as PNG; 'a.png' is a__png."""
    folder.mkdir(exist_ok=True)
    for name, content in files.items():
        path = folder / name.replace('__', '.')
        if isinstance(content, np.ndarray):
            Image.fromarray(content).save(path)
        elif isinstance(content, str):
            path.write_text(content)
        elif path.suffix == '.jsonl':
            path.write_text(''.join(json.dumps(row) + '\n' for row in content))
        else:
            path.write_text(json.dumps(content))
    return folder
