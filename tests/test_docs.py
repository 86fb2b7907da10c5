"""README.md and docs/: links lead somewhere, files, config fields and commands that they name exist, code runs."""

import re
import shlex

import jax
import numpy as np
import pytest

from practicum.commands.arguments import parse
from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import sources
from practicum.training import config as config_lib
from practicum.training.defaults import base
from tests.conftest import ROOT

PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').rglob('*.md'))]
MADE = {'experiments/bolts.py', 'experiments/mine.py', 'experiments/outlines.py'}  # by those who read the pages
FREE = ('data.arrays', 'model', 'task', 'optimizer.arguments', 'schedule.arguments', 'evaluation.sets')
EXAMPLES = re.findall(r'```python\n(.*?)```', (ROOT / 'docs' / 'how-to' / 'add-your-own.md').read_text(), re.DOTALL)


def page_id(page) -> str:
    """The name of a test case."""
    return page.relative_to(ROOT).as_posix()


def prose(page) -> str:
    """A page without its blocks of code."""
    return re.sub(r'^```.*?^```$', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)


def anchors(page) -> set[str]:
    """What links can name of a page: its headings, as GitHub writes them."""
    headings = re.findall(r'^#+ (.+)$', prose(page), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    links = re.findall(r'\]\(([^)\s]+)\)', prose(page)) + re.findall(r'src="([^"]+)"', prose(page))
    for link in links:
        if '://' in link:
            continue
        file, _, anchor = link.partition('#')
        target = (page.parent / file).resolve() if file else page
        assert target.exists() and ROOT in target.parents, link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize('page', PAGES, ids=page_id)
def test_prose_has_lines_of_at_most_120_characters(page):
    lines = prose(page).splitlines()
    assert [line for line in lines if len(line) > 120 and not line.startswith(('|', '>'))] == []


@pytest.mark.parametrize('page', PAGES, ids=page_id)
def test_files_of_the_repository_exist(page):
    rooms = '|'.join(sorted(path.name for path in ROOT.iterdir() if path.is_dir() and path.name not in ('runs', 'data')
                            and not path.name.startswith('.')))
    named = set(re.findall(rf'(?<![\w./<-])(?:{rooms})/[\w./-]*\.(?:py|md|png|txt|sbatch|ipynb)\b', page.read_text()))
    written = set(re.findall(r'^# (\S+\.py)$', page.read_text(), re.MULTILINE))  # the first line of an example
    assert sorted(name for name in named - MADE - written if not (ROOT / name).exists()) == []


@pytest.mark.parametrize('page', PAGES, ids=page_id)
def test_fields_of_the_config_exist(page):
    unknown = set()
    for field in re.findall(r'\bconfig\.([a-z_]\w*(?:\.[a-z_]\w*)*)', page.read_text()):
        section = base()
        for depth, key in enumerate(parts := field.split('.')):
            if '.'.join(parts[:depth]) in FREE or field in ('json', 'get'):  # config.json, config.get(...)
                break
            if not hasattr(section, 'keys') or key not in section:
                unknown.add(field)
                break
            section = section.get(key)
    assert unknown == set()


def commands(page) -> list[list[str]]:
    """The arguments of every whole launch.py command in a page's blocks of code."""
    blocks = re.findall(r'^```\w*$(.*?)^```$', page.read_text(), re.DOTALL | re.MULTILINE)
    lines = [line.strip() for block in blocks for line in block.replace('\\\n', ' ').splitlines()]
    return [shlex.split(line, comments=True)[2:] for line in lines
            if line.startswith('.venv/bin/python launch.py') and '...' not in line]


@pytest.mark.parametrize('page', [page for page in PAGES if commands(page)], ids=page_id)
def test_commands_are_understood(page):
    for command in commands(page):
        train = command[0].startswith('-')
        args, overrides = parse(['train', *command] if train else command)
        if train and args.config not in MADE:
            try:
                config_lib.load(args.config, overrides)
            except UserError as error:
                pytest.fail(f'{shlex.join(command)}: {error}')


def example(file: str) -> dict:
    """Runs a block of code as the module it says it is; returns its names."""
    code, = [block for block in EXAMPLES if block.startswith(f'# {file}')]
    name = 'practicum.' + file.removesuffix('.py').replace('/', '.')
    names = {'__name__': name, '__package__': name.rpartition('.')[0]}
    exec(compile(code, file, 'exec'), names)
    return names


def data_config(**fields) -> dict:
    """Returns config.data of these fields."""
    return base().data.to_dict() | fields


def test_the_example_of_a_source(tmp_path, monkeypatch):
    """Its splits are told apart, and parts of them can be had."""
    open_split = example('input_pipeline/npy_source.py')['open_split']
    monkeypatch.setitem(sources.SOURCES, 'npy', open_split)
    for split, count in (('train', 10), ('test', 4)):
        np.save(tmp_path / f'{split}-images.npy', np.full((count, 4, 4, 1), count, np.uint8))
        np.save(tmp_path / f'{split}-labels.npy', np.arange(count) % 2)
    image = base().image.to_dict() | {'size': (4, 4)}
    data = data_config(source='npy', name=str(tmp_path))
    half, test = sources.open_split(data, image, 'train[:50%]'), sources.open_split(data, image, 'test')
    assert (len(half), len(test)) == (5, 4)
    assert half.read(np.arange(2))['image'].max() == 10 and test.read(np.arange(2))['image'].max() == 4
    assert test.read(np.arange(4))['label'].tolist() == [0, 1, 0, 1]


def test_the_example_of_arrays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, = [block for block in EXAMPLES if 'np.savez' in block]
    exec(code, {})
    image = base().image.to_dict() | {'size': (32, 32), 'channels': 5}
    test = sources.open_split(data_config(source='npz', name='cells.npz'), image, 'test')
    assert len(test) == 100 and test.info.class_names == ('alive', 'dead')
    assert 'patient' in test.describe(np.arange(1))[0]


def test_the_example_of_a_model():
    model = example('models/tinynet.py')['TinyNet'](num_classes=3)
    logits, _ = jax.jit(lambda images: model.init_with_output(jax.random.key(0), images))(np.zeros((2, 8, 8, 1)))
    assert logits.shape == (2, 3)


def test_the_example_of_a_task():
    """Its metrics leave out padding; the ratio is of sums, which a mean of ratios would not be."""
    task = example('tasks/counting.py')['Counting']({'name': 'counting'}, DatasetInfo())
    scores = task.score(np.log([[2.0], [5.0], [9.0]], dtype=np.float32), {'y': np.array([1.0, 7.0, 2.0], np.float32)})
    found = task.eval_metrics.single_from_model_output(**scores, mask=np.array([1.0, 1.0, 0.0])).compute()
    assert found['relative_error'] == pytest.approx(3 / 8)
    row = task.predict(np.log([4.0]), None, {}, 1).row
    assert row == {'count': pytest.approx(4.0)}
