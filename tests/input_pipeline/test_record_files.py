"""Converted data sets: the same images, labels and order, whatever the files were; whole or not there."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordReader
from PIL import Image

from practicum.common import console, interrupt
from practicum.common.errors import UserError
from practicum.input_pipeline import record_files, sources
from practicum.training.defaults import base

IMAGE = {'size': (16, 12), 'channels': 3}


def config(source: str, name: object, **fields):
    data = base().data
    data.update(source=source, name=str(name), **fields)
    return data


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    console.warn_once.cache_clear()


def photo(seed: int, size=(40, 30)) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def root(tmp_path) -> Path:
    """16 images in two classes, of all the kinds that folders have."""
    turned = Image.Exif()
    turned[0x0112] = 6
    folder = tmp_path / 'pets'
    for split in ('train', 'test'):
        for name in ('cat', 'a dog'):
            (folder / split / name).mkdir(parents=True)
            for i in range(4):
                photo(i, (40 + i, 30)).save(folder / split / name / f'{i}.jpg')
    here = folder / 'train' / 'cat'
    photo(5).save(here / 'turned.jpg', exif=turned)
    photo(6).convert('CMYK').save(here / 'print.jpg')
    photo(7).convert('L').save(here / 'grey.jpg')
    photo(8).convert('RGBA').save(here / 'clear.png')
    photo(9).save(here / 'page.tiff')
    photo(10).save(here / 'web.webp', lossless=True)
    return folder


def convert(root: Path, **fields) -> Path:
    data = config('folder', root, **fields)
    return record_files.convert(data, IMAGE, ('train', 'test'), root.parent / 'records', 'pets')


def read(data, split='train', image=IMAGE, **options):
    source = sources.open_split(data, image, split, **options)
    return source, source.read(np.arange(len(source)))


@pytest.mark.parametrize('image', [IMAGE, {'size': (30, 40), 'channels': 3, 'resize': 'crop'},
                                   {'size': (8, 8), 'channels': 1}])
@pytest.mark.parametrize('limit', [0, 2048])
def test_what_is_read_is_what_the_folder_holds(root, image, limit):
    convert(root)
    records = config('tfds', 'pets', data_dir=str(root.parent / 'records'), memory_limit_mb=limit)
    for split in ('train', 'test', 'train[:50%]'):
        (before, a), (after, b) = read(config('folder', root, memory_limit_mb=limit), split, image), read(
            records, split, image)
        assert before.info.class_names == after.info.class_names == ('a dog', 'cat')
        np.testing.assert_array_equal(a['label'], b['label'])
        np.testing.assert_array_equal(a['image'], b['image'])
        rows = np.arange(len(before))
        assert before.describe(rows) == after.describe(rows)


def test_training_crops_the_same_parts(root):
    convert(root)
    records = config('tfds', 'pets', data_dir=str(root.parent / 'records'), random_resized_crop=(0.2, 1.0))
    folder = config('folder', root, random_resized_crop=(0.2, 1.0))
    uniforms = np.random.default_rng(0).random((14, 4))
    a, b = (sources.open_split(data, IMAGE, 'train', training=True) for data in (folder, records))
    np.testing.assert_array_equal(a.read(np.arange(14), uniforms)['image'], b.read(np.arange(14), uniforms)['image'])


def test_plain_jpegs_stay_the_bytes_that_they_are(root):
    import tensorflow_datasets as tfds
    builder = tfds.builder_from_directory(str(convert(root)))
    assert builder.info.splits['test'].num_examples == 8
    records = builder.as_data_source('test', decoders={'image': tfds.decode.SkipDecoding()})
    for record in (records[i] for i in range(8)):
        assert record['image'] == (root / 'test' / record['file'].decode()).read_bytes()
    decoded = builder.as_data_source('train')
    assert {decoded[i]['image'].shape[2] for i in range(14)} == {3}


def test_there_are_as_many_files_as_their_size_asks_for(root, monkeypatch):
    monkeypatch.setattr(record_files, '_split_bytes', lambda *_: 2.6 * 2**20)
    folder = record_files.convert(config('folder', root), IMAGE, ('train',), root.parent / 'records', 'pets',
                                  shard_mb=1)
    files = sorted(folder.glob('*.array_record-*'))
    assert [file.name for file in files] == [f'pets-train.array_record-0000{i}-of-00003' for i in range(3)]
    assert [ArrayRecordReader(str(file)).num_records() for file in files] == [4, 5, 5]
    records = config('tfds', 'pets', data_dir=str(root.parent / 'records'))
    np.testing.assert_array_equal(read(records)[1]['image'], read(config('folder', root))[1]['image'])


def test_what_cannot_be_read_is_left_out(root):
    (root / 'train' / 'cat' / '2.jpg').write_bytes(b'')
    convert(root, max_unreadable=0.1)
    records = config('tfds', 'pets', data_dir=str(root.parent / 'records'))
    _, expected = read(config('folder', root, max_unreadable=0.1))
    np.testing.assert_array_equal(read(records)[1]['image'], expected['image'])
    assert len(expected['label']) == 13


def test_an_interrupted_conversion_goes_on(root, monkeypatch):
    written, whole = [], record_files._write_file

    def stops(path, *args):
        if len(written) == 1:
            raise interrupt.Interrupted
        written.append(path)
        whole(path, *args)
    monkeypatch.setattr(record_files, '_write_file', stops)
    with pytest.raises(interrupt.Interrupted):
        convert(root)
    assert not (root.parent / 'records' / 'pets' / '1.0.0').exists()
    first = written[0]
    stamp = first.stat().st_mtime_ns
    (first.parent / '.left.new').write_bytes(b'half a file')
    monkeypatch.setattr(record_files, '_write_file', whole)
    folder = convert(root)
    assert (folder / first.name).stat().st_mtime_ns == stamp
    assert sorted(file.name for file in folder.iterdir()) == [
        'dataset_info.json', 'features.json', 'label.labels.txt', 'pets-test.array_record-00000-of-00001',
        'pets-train.array_record-00000-of-00001']
    assert [entry.name for entry in folder.parent.iterdir()] == ['1.0.0']


def test_changed_data_begin_again(root, monkeypatch, caplog):
    whole, compare = record_files._write_file, record_files._compare

    def fails(*_):
        raise interrupt.Interrupted
    monkeypatch.setattr(record_files, '_compare', fails)
    with pytest.raises(interrupt.Interrupted):
        convert(root)
    photo(99).save(root / 'train' / 'cat' / '0.jpg')
    monkeypatch.setattr(record_files, '_compare', compare)
    monkeypatch.setattr(record_files, '_write_file', whole)
    with caplog.at_level('INFO'):
        convert(root)
    assert 'beginning again' in caplog.text
    records = config('tfds', 'pets', data_dir=str(root.parent / 'records'))
    np.testing.assert_array_equal(read(records)[1]['image'], read(config('folder', root))[1]['image'])


def test_a_damaged_result_is_noticed_before_it_takes_its_place(root, monkeypatch):
    monkeypatch.setattr(record_files, '_encoded', lambda source, indices: (
        {'image': io.BytesIO(source.encoded(0)), 'label': 0, 'file': ''} for _ in indices))
    with pytest.raises(RuntimeError, match='is not what'):
        convert(root)
    assert not (root.parent / 'records' / 'pets' / '1.0.0').exists()


def test_a_full_disk_is_one_line(tmp_path):
    with pytest.raises(UserError, match='cannot be written: .*No such file') as error:
        record_files._write_file(tmp_path / 'missing' / 'a', iter([b'x']), lambda count: None)
    assert '\n' not in str(error.value)


def test_other_sources_are_converted_as_they_are_read(tmp_path):
    np.savez(tmp_path / 'cells.npz', image=np.arange(10 * 48, dtype=np.uint8).reshape(10, 6, 8, 1),
             label=np.arange(10) % 2)
    image = {'size': (6, 8), 'channels': 1}
    data = config('npz', tmp_path / 'cells.npz')
    record_files.convert(data, image, ('train',), tmp_path / 'records', 'cells')
    _, found = read(config('tfds', 'cells', data_dir=str(tmp_path / 'records')), image=image)
    _, expected = read(data, image=image)
    np.testing.assert_array_equal(found['image'], expected['image'])
    np.testing.assert_array_equal(found['label'], expected['label'])


def test_mistakes_are_one_line(root, tmp_path):
    folder = convert(root)
    for call, message in (
            (lambda: convert(root), '1.0.0 is there already: use it with .*--config.data.name=pets'),
            (lambda: record_files.convert(config('folder', root), IMAGE, ('train',), tmp_path, 'My pets'), '--name'),
            (lambda: record_files.convert(config('tfds', 'digits'), IMAGE, ('train',), tmp_path, 'd'),
             'tfds convert_format'),
            (lambda: record_files.convert(config('text', 'a.txt'), IMAGE, ('train',), tmp_path, 'd'), 'one label each'),
            (lambda: record_files.convert(config('folder', root), IMAGE, ('dev',), tmp_path, 'd'), "no split 'dev'")):
        with pytest.raises(UserError, match=message) as error:
            call()
        assert '\n' not in str(error.value)
    shutil.rmtree(folder)


def test_the_command_says_how_to_read_the_result(root, call_launch, tmp_path):
    (tmp_path / 'mine.py').write_text(f'''
from practicum.training.defaults import base


def get_config():
    config = base()
    config.data.source, config.data.name = 'folder', {str(root)!r}
    config.data.train = 'train[:80%]'
    config.evaluation.sets.validation.split = 'train[80%:]'
    config.image.channels = 3
    config.model.name = 'mlp'
    return config
''')
    done = call_launch('prepare', '--config', tmp_path / 'mine.py', '--output', tmp_path / 'out', '--name', 'pets')
    assert done.code == 0, done.err
    assert done.out.endswith('--config.data.source=tfds --config.data.name=pets '
                             f'--config.data.data_dir={tmp_path}/out\n')
    assert {file.name.split('.')[0] for file in (tmp_path / 'out' / 'pets' / '1.0.0').glob('*array_record*')} == {
        'pets-train', 'pets-test'}
