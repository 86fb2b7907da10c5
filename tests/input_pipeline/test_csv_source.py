"""Tables: inputs, targets and image files by column, and the line and column of whatever is wrong."""

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.training.defaults import base

IMAGE = {'size': (4, 4), 'channels': 1}
HEADER = 'height,width,kind,price'
ROWS = ['1,2,cat,0.5', '3,4,dog,1.5', '5,6,cat,2.5', '7,8,owl,3.5']


def write(path, rows=ROWS, header=HEADER):
    path.write_text('\n'.join([header, *rows, '']))
    return path


def open_split(path, split='train', **fields):
    data = base().data
    data.update(source='csv', name=str(path), **fields)
    return sources.open_split(data, IMAGE, split)


def by_line(source):
    """Examples as dicts, in the order of the file."""
    examples = source.read(np.arange(len(source)))
    rows = [{name: values[i].tolist() for name, values in examples.items()} | metadata
            for i, metadata in enumerate(source.describe(np.arange(len(source))))]
    return sorted(rows, key=lambda row: row['line'])


def refused(call, *parts):
    with pytest.raises(UserError) as error:
        call()
    assert '\n' not in str(error.value) and all(part in str(error.value) for part in parts), error.value


def test_a_column_of_texts_is_classes(tmp_path):
    source = open_split(write(tmp_path / 'a.csv'), target='kind', columns=('width', 'height'))
    assert isinstance(source, ArraySource) and source.info.to_json() == {'class_names': ['cat', 'dog', 'owl']}
    rows = by_line(source)
    assert [row['x'] for row in rows] == [[2, 1], [4, 3], [6, 5], [8, 7]]
    assert [row['label'] for row in rows] == [0, 1, 0, 2] and [row['line'] for row in rows] == [2, 3, 4, 5]
    assert rows[3]['price'] == '3.5'


def test_numbers_are_targets_and_all_other_columns_the_input(tmp_path):
    path = write(tmp_path / 'a.csv', ['1,2,0.5', '3,4,1.5'], 'a,b,c')
    source = open_split(path, target='c')
    assert source.info.to_json() == {'targets': 1}
    assert [(row['x'], row['y']) for row in by_line(source)] == [([1, 2], 0.5), ([3, 4], 1.5)]
    source = open_split(path, target='b,c')
    assert source.info.targets == 2 and [row['y'] for row in by_line(source)] == [[2, 0.5], [4, 1.5]]


def test_whole_numbers_are_classes_and_numbers(tmp_path):
    source = open_split(write(tmp_path / 'a.csv', ['1,2', '3,10', '5,2'], 'a,b'), target='b')
    assert source.info.to_json() == {'class_names': ['2', '10'], 'targets': 1}
    assert [(row['label'], row['y']) for row in by_line(source)] == [(0, 2), (1, 10), (0, 2)]


def test_splits_have_the_classes_of_all_of_them(tmp_path):
    write(tmp_path / 'train.csv', ROWS[:3])
    write(tmp_path / 'test.csv', ROWS[3:])
    train, test = (open_split(tmp_path, split, target='kind', columns=('height',)) for split in ('train', 'test'))
    assert train.info == test.info and by_line(test)[0]['label'] == 2
    refused(lambda: open_split(tmp_path, 'tset', target='kind'), 'no tset.csv', 'did you mean test')
    refused(lambda: open_split(tmp_path / 'train.csv', 'test', target='kind'), "all of it is 'train'")


def test_the_order_is_a_fixed_shuffle(tmp_path):
    path = write(tmp_path / 'a.csv', [f'{i},{i // 50}' for i in range(100)], 'a,kind')
    orders = [open_split(path, target='kind').arrays['x'][:, 0].tolist() for _ in range(2)]
    assert orders[0] == orders[1] != sorted(orders[0]) == list(range(100))
    assert set(open_split(path, 'train[:20%]', target='kind').arrays['label']) == {0, 1}


@pytest.mark.parametrize('limit', [2048, 0])
def test_image_files_with_targets(tmp_path, limit, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    (tmp_path / 'images').mkdir()
    for i in range(4):
        Image.new('L', (6, 6), 10 * i).save(tmp_path / 'images' / f'{i}.png')
    path = write(tmp_path / 'a.csv', [f'images/{i}.png,{i / 2},p{i // 2}' for i in range(4)], 'file,score,patient')
    source = open_split(path, target='score', image_column='file', memory_limit_mb=limit)
    assert isinstance(source, ArraySource) == bool(limit)
    rows = by_line(source)
    assert [(np.max(row['image']), row['y'], row['patient'], row['file']) for row in rows] == [
        (10 * i, i / 2, f'p{i // 2}', f'images/{i}.png') for i in range(4)]
    write(tmp_path / 'a.csv', [f'images/{i}.png,1.5,p{i // 2}' for i in range(4)], 'file,score,patient')
    again = open_split(path, target='score', image_column='file', memory_limit_mb=limit)
    assert [row['y'] for row in by_line(again)] == [1.5] * 4  # also from the cache
    (tmp_path / 'images' / '1.png').write_bytes(b'')
    refused(lambda: open_split(path, target='score', image_column='file', memory_limit_mb=limit),
            '1 of 4 images', '1.png: is empty')


@pytest.mark.parametrize('text, fields, parts', [
    ('', {}, ('holds no rows',)), ('a,b\n', {}, ('holds no rows',)),
    ('1,2\n3,4\n', {}, ('first line should name the columns',)),
    ('a,a\n3,4\n', {}, ('first line should name the columns',)),
    ('a,b\n1,2\n3\n', {'target': 'b'}, ('line 3 has 1 cells, the header has 2',)),
    ('a,b\n1,2\nx,2\n', {'target': 'b'}, ("line 3, column 'a': 'x' is not a number",)),
    ('a,b\n1,2\n,2\n', {'target': 'b'}, ("line 3, column 'a': '' is not a number",)),
    ('a,b\n1,2\nnan,2\n', {'target': 'b'}, ("line 3, column 'a': 'nan' is not a number",)),
    ('a,b\n1,2.5\n1,3.5\n1,n/a\n', {'target': 'b'}, ("line 4, column 'b': 'n/a' is not a number",)),
    ('a,b\n1,cat\n1,\n', {'target': 'b'}, ("line 3, column 'b' is empty",)),
    ('price,b\n1,2\n', {'target': 'prcie'}, ("no column 'prcie'", 'did you mean price')),
    ('price,b\n1,2\n', {'columns': ('bb',)}, ('config.data.columns', 'did you mean b')),
    ('a,b\n1,2\n', {'target': 'b', 'columns': ('b',)}, ("config.data.columns names 'b', which is a target",)),
    ('a,b\n1,2\n', {'image_column': 'file'}, ('config.data.image_column', "no column 'file'")),
    ('a,b\n,2\n', {'image_column': 'a'}, ("line 2, column 'a' names no image file",)),
    ('a,b\n1,"2\n', {'target': 'b'}, ('line 2',)),
])
def test_mistakes_name_the_file_the_line_and_the_column(tmp_path, text, fields, parts):
    (tmp_path / 'a.csv').write_text(text)
    refused(lambda: open_split(tmp_path / 'a.csv', **fields), 'a.csv' if 'columns' not in fields else '', *parts)


def test_other_encodings_and_missing_files(tmp_path):
    (tmp_path / 'a.csv').write_bytes('a,b\n1,caf\xe9\n'.encode('latin1'))
    refused(lambda: open_split(tmp_path / 'a.csv', target='b'), 'is not UTF-8')
    refused(lambda: open_split(tmp_path / 'b.csv'), 'neither a .csv file nor a folder')
    refused(lambda: open_split('a' * 300), 'a' * 60)
    refused(lambda: open_split(''), 'config.data.name is empty')
    (tmp_path / 'c.csv').write_bytes('\ufeffa,b\r\n1,x\r\n2,y\r\n'.encode())
    assert open_split(tmp_path / 'c.csv', target='b').arrays['x'].ravel().tolist().sort() is None
