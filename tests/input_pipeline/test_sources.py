"""Where examples come from: tfds in any format, folders of images, numbers in the config; and the decoded cache."""

import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from practicum.common.dataset_info import DatasetInfo
from practicum.common.errors import UserError
from practicum.input_pipeline import memory, prepared_data, sources, tfds_source
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.folder_source import FolderSource
from practicum.input_pipeline.source import Source
from practicum.training.defaults import base

IMAGE = {'size': (8, 8), 'channels': 1}


def data(source='tfds', name='digits', **fields) -> ConfigDict:
    config = base().data
    config.update(source=source, name=str(name), **fields)
    return config


def read_all(source):
    return source.read(np.arange(len(source)))


def assert_same(a, b):
    a, b = read_all(a), read_all(b)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name])


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache of this test's own."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'decoded'


@pytest.fixture
def decoded(monkeypatch) -> list[str]:
    """The names of the sources that were decoded rather than found in the cache."""
    names, decode = [], memory._decode
    monkeypatch.setattr(memory, '_decode', lambda source: names.append(source.name) or decode(source))
    return names


# --- splits ---

@pytest.mark.parametrize('split, expected', [
    ('train', range(10)), ('train[:3]', range(3)), ('train[3:]', range(3, 10)), ('train[2:5]', range(2, 5)),
    ('train[-4:]', range(6, 10)), ('train[:-4]', range(6)), ('train[:50%]', range(5)), ('train[50%:]', range(5, 10)),
    ('train[20%:30%]', range(2, 3)), ('train[-20%:]', range(8, 10)), ('train[:]', range(10)),
    ('train[:2]+train[8:]', (0, 1, 8, 9)), ('train[8:] + train[:2]', (8, 9, 0, 1)),
    ('train[5:1000]', range(5, 10)), ('train[:33%]', range(3)), ('train[33%:]', range(3, 10)),
])
def test_parts_of_a_split(split, expected):
    config = data('arrays', arrays={'x': tuple(float(i) for i in range(10))})
    assert read_all(sources.open_split(config, IMAGE, split))['x'].tolist() == list(expected)


@pytest.mark.parametrize('percent', range(0, 101, 7))
def test_two_parts_at_the_same_cut_are_the_whole(percent):
    config = data('arrays', arrays={'x': tuple(float(i) for i in range(37))})
    parts = []
    for split in (f'train[:{percent}%]', f'train[{percent}%:]'):
        try:
            parts += read_all(sources.open_split(config, IMAGE, split))['x'].tolist()
        except UserError as error:
            assert 'empty' in str(error) and percent in (0, 1, 98, 100)
    assert parts == list(range(37))


@pytest.mark.parametrize('split, message', [
    ('train[5:5]', 'empty'), ('train[:0]', 'empty'), ('train[8:2]', 'empty'), ('train[100:]', 'empty: train has 10'),
    ('train[5]', 'not understood'), ('train[a:b]', 'not understood'), ('', 'not understood'),
    ('train+', 'not understood'), ('train[:200%]', 'there is no 200% of the examples'),
    ('train[:60%]+train[50%:]', 'has examples twice'), ('train[:' + 30 * '9' + ']', 'not understood'),
])
def test_a_part_that_is_none_is_an_error(split, message):
    config = data('arrays', arrays={'x': tuple(float(i) for i in range(10))})
    with pytest.raises(UserError, match=message):
        sources.open_split(config, IMAGE, split)


# --- digits ---

@pytest.fixture(scope='module')
def digits():
    """All three splits by name."""
    return {name: sources.open_split(data(), IMAGE, name) for name in ('train', 'validation', 'test')}


def test_digits_are_the_1797_images_of_scikit_learn(digits):
    from sklearn.datasets import load_digits
    original = load_digits()
    expected = np.round(original.images * (255 / 16)).astype(np.uint8)
    pictures = np.concatenate([read_all(source)['image'] for source in digits.values()])
    labels = np.concatenate([read_all(source)['label'] for source in digits.values()])
    assert pictures.shape == (1797, 8, 8, 1) and pictures.dtype == np.uint8 and labels.dtype == np.int32
    def key(picture, label):
        return picture.tobytes(), int(label)
    assert sorted(map(key, pictures, labels)) == sorted(map(key, expected, original.target))  # each exactly once
    assert pictures.min() == 0 and pictures.max() == 255


def test_digits_splits_are_stratified(digits):
    """70, 10 and 20 percent of every class, give or take the rounding."""
    counts = {name: np.bincount(read_all(source)['label'], minlength=10) for name, source in digits.items()}
    whole = sum(counts.values())
    assert whole.tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    for name, share in (('train', 0.7), ('validation', 0.1), ('test', 0.2)):
        assert np.abs(counts[name] - share * whole).max() <= 1
    assert digits['train'].info.to_json() == {'class_names': [str(i) for i in range(10)]}


def test_an_order_without_pattern(digits):
    """So that 'train[:10%]' has all classes."""
    assert set(digits['train'].read(np.arange(125))['label']) == set(range(10))


def test_a_split_that_is_not_there_names_those_that_are():
    with pytest.raises(UserError, match="digits has no split 'tset'.*did you mean test?"):
        sources.open_split(data(), IMAGE, 'tset')


@pytest.mark.parametrize('size, channels', [((8, 8), 3), ((5, 12), 1), ((28, 28), 3)])
def test_images_come_in_the_size_and_channels_of_the_config(size, channels, cache):
    source = sources.open_split(data(), {'size': size, 'channels': channels}, 'validation')
    assert source.read(np.arange(3))['image'].shape == (3, *size, channels)


def test_inverted_is_255_minus_the_image(digits):
    inverted = sources.open_split(data(), IMAGE, 'test', invert=True)
    np.testing.assert_array_equal(read_all(inverted)['image'], 255 - read_all(digits['test'])['image'])
    np.testing.assert_array_equal(read_all(inverted)['label'], read_all(digits['test'])['label'])


# --- tfds ---

def test_tfrecord_reads_as_array_record_does(tmp_path, cache, digits, monkeypatch):
    """A data set that somebody prepared in tfds's default format is as good, in memory; it cannot be streamed."""
    import tensorflow_datasets as tfds

    from practicum.input_pipeline import datasets
    datasets.register('digits')
    tfds.disable_progress_bar()
    tfds.builder('digits', data_dir=str(tmp_path / 'tfds'), file_format='tfrecord').download_and_prepare()
    assert list((tmp_path / 'tfds').rglob('*.tfrecord*')) and not list((tmp_path / 'tfds').rglob('*.array_record*'))
    listed = tfds_source._Listed
    monkeypatch.setattr(tfds_source, '_Listed', lambda *args: lists.append(args) or listed(*args))
    monkeypatch.setattr(memory, '_CHUNK', 10)
    lists = []
    found = sources.open_split(data(data_dir=str(tmp_path / 'tfds')), IMAGE, 'validation')
    assert found.info == digits['validation'].info
    assert_same(found, digits['validation'])
    assert len(lists) == 1, 'however many threads read, the records are listed once'
    with pytest.raises(UserError, match='TFRecord files cannot be streamed.*tfds build --file_format=array_record'):
        sources.open_split(data(data_dir=str(tmp_path / 'tfds'), memory_limit_mb=0), IMAGE, 'validation')
    assert len(lists) == 1


def test_our_own_data_set_is_prepared_on_first_use(tmp_path, cache):
    source = sources.open_split(data(data_dir=str(tmp_path / 'new')), IMAGE, 'test')
    assert len(source) > 300
    assert list((tmp_path / 'new' / 'digits').glob('1.0.0/*.array_record*'))
    assert not list((tmp_path / 'new').rglob('*incomplete*'))


@pytest.fixture
def prepared(tmp_path) -> Path:
    """A copy of the prepared digits that a test may spoil: its data_dir."""
    shutil.copytree(Path(os.environ['TFDS_DATA_DIR']) / 'digits', tmp_path / 'tfds' / 'digits')
    return tmp_path / 'tfds'


def test_the_newest_version_is_read_unless_one_is_named(prepared):
    for version in ('0.9.0', '1.0.0-beta', '1.10.0', '1.2.0'):
        shutil.copytree(prepared / 'digits' / '1.0.0', prepared / 'digits' / version)
    assert prepared_data.find_prepared(prepared, 'digits') == prepared / 'digits' / '1.10.0'
    assert prepared_data.find_prepared(prepared, 'digits:1.2.0') == prepared / 'digits' / '1.2.0'
    assert prepared_data.find_prepared(prepared, 'digits:3.0.0') is None
    assert prepared_data.find_prepared(prepared, 'mnist') is None


def test_what_another_process_is_preparing_is_waited_for(tmp_path, monkeypatch):
    folder = tmp_path / 'digits' / '1.2.0'
    turns = []

    @contextlib.contextmanager
    def one_at_a_time(what, identity):
        folder.mkdir(parents=True)  # by whose turn it was
        (folder / 'dataset_info.json').touch()
        turns.append(what)
        yield
    monkeypatch.setattr(prepared_data, 'one_at_a_time', one_at_a_time)
    monkeypatch.setattr(prepared_data, 'prepare', lambda *args, **options: pytest.fail('prepared twice'))
    data = {'name': 'digits', 'data_dir': str(tmp_path), 'manual_dir': None, 'download': False}
    assert prepared_data.prepared_folder(data) == folder and turns == ['preparing digits']


def test_where_data_are_looked_for(prepared, cache, monkeypatch):
    """config.data.data_dir goes before $TFDS_DATA_DIR, and ~ is the home."""
    shutil.move(prepared / 'digits', prepared / 'mnist')  # a name that is not prepared by itself
    with pytest.raises(UserError, match=os.environ['TFDS_DATA_DIR']):
        sources.open_split(data(name='mnist'), IMAGE, 'test')
    assert len(sources.open_split(data(name='mnist', data_dir=str(prepared)), IMAGE, 'test'))
    monkeypatch.setenv('TFDS_DATA_DIR', str(prepared))
    assert len(sources.open_split(data(name='mnist'), IMAGE, 'test'))
    with pytest.raises(UserError, match='nowhere'):
        sources.open_split(data(name='mnist', data_dir='/nowhere'), IMAGE, 'test')
    monkeypatch.delenv('TFDS_DATA_DIR')
    monkeypatch.setenv('HOME', str(prepared.parent))
    prepared.rename(prepared.parent / 'tensorflow_datasets')
    assert len(sources.open_split(data(name='mnist'), IMAGE, 'test'))
    assert len(sources.open_split(data(name='mnist', data_dir='~/tensorflow_datasets'), IMAGE, 'test'))


def test_a_data_set_of_several_configurations_wants_one_named(prepared, cache):
    (prepared / 'letters').mkdir()
    (prepared / 'digits').rename(prepared / 'letters' / 'small')
    assert len(sources.open_split(data(name='letters/small', data_dir=str(prepared)), IMAGE, 'test'))
    with pytest.raises(UserError, match='letters/small'):
        sources.open_split(data(name='letters', data_dir=str(prepared)), IMAGE, 'test')


def test_damaged_data_say_where(prepared, cache):
    info = prepared / 'digits' / '1.0.0' / 'dataset_info.json'
    info.write_text(info.read_text()[:100])
    with pytest.raises(UserError, match='dataset_info.json'):
        sources.open_split(data(data_dir=str(prepared)), IMAGE, 'test')


# --- folders ---

def write_images(root: Path, *names: str, count: int = 12) -> Path:
    """Images of <root>/<class>, each of its own grey value."""
    value = 0
    for name in names:
        (root / name).mkdir(parents=True)
        for i in range(count):
            value += 1
            Image.new('L', (10, 6), value).save(root / name / f'{i:02}.png')
    return root


def test_folder_without_splits(tmp_path, cache):
    root = write_images(tmp_path / 'animals', 'dog', 'cat')
    source = sources.open_split(data('folder', root), IMAGE, 'train')
    examples = read_all(source)
    assert source.info.to_json() == {'class_names': ['cat', 'dog']}
    assert sorted(examples['image'][:, 0, 0, 0]) == list(range(1, 25))
    np.testing.assert_array_equal(examples['label'], (examples['image'][:, 0, 0, 0] <= 12).astype(int))
    assert examples['image'].shape == (24, 8, 8, 1) and examples['label'].dtype == np.int32


def test_folder_with_splits(tmp_path, cache):
    for split, count in (('train', 5), ('test', 2)):
        write_images(tmp_path / 'animals' / split, 'cat', 'dog', count=count)
    lengths = {split: len(sources.open_split(data('folder', tmp_path / 'animals'), IMAGE, split))
               for split in ('train', 'test')}
    assert lengths == {'train': 10, 'test': 4}
    with pytest.raises(UserError, match="no split 'validation'"):
        sources.open_split(data('folder', tmp_path / 'animals'), IMAGE, 'validation')


def test_folder_order_is_shuffled_and_fixed(tmp_path):
    """The same wherever the folder lies and in whatever order the file system lists it; a part has all classes."""
    first = FolderSource(write_images(tmp_path / 'a', 'cat', 'dog', 'owl'), IMAGE)
    second = FolderSource(write_images(tmp_path / 'b', 'owl', 'dog', 'cat'), IMAGE)
    names = [[file.relative_to(tmp_path / root).as_posix() for file in source.files]
             for root, source in (('a', first), ('b', second))]
    assert names[0] == names[1] != sorted(names[0])
    assert set(first.read(np.arange(12))['label']) == {0, 1, 2}


def test_a_new_image_does_not_reorder_the_others(tmp_path):
    root = write_images(tmp_path / 'a', 'cat', 'dog')
    before = FolderSource(root, IMAGE).files
    Image.new('L', (4, 4)).save(root / 'cat' / 'new.png')
    after = FolderSource(root, IMAGE).files
    assert [file for file in after if file.name != 'new.png'] == before and len(after) == len(before) + 1


def test_folder_skips_what_is_no_image(tmp_path):
    root = write_images(tmp_path / 'a', 'cat', 'dog', count=2)
    (root / 'cat' / 'notes.txt').write_text('hello')
    (root / 'README.md').write_text('hello')
    (root / '.cache').mkdir()
    source = FolderSource(root, IMAGE)
    assert len(source) == 4 and source.info.to_json() == {'class_names': ['cat', 'dog']}


@pytest.mark.parametrize('name, message', [('', 'not a folder'), ('missing', 'not a folder'),
                                           ('empty', 'no class folders')])
def test_a_folder_that_is_no_data_set(name, message, tmp_path):
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match=message):
        sources.open_split(data('folder', tmp_path / name if name else ''), IMAGE, 'train')


# --- the decoded cache ---

def test_the_second_opening_finds_the_decoded_images(tmp_path, cache, decoded):
    root = write_images(tmp_path / 'animals', 'cat', 'dog')
    opened = [sources.open_split(data('folder', root), IMAGE, 'train') for _ in range(2)]
    assert len(decoded) == 1 and len(list(cache.iterdir())) == 1
    assert all(isinstance(source, ArraySource) for source in opened)
    assert opened[0].info == opened[1].info
    assert_same(*opened)


def test_other_sizes_and_channels_are_other_entries(tmp_path, cache, decoded):
    root = write_images(tmp_path / 'animals', 'cat', 'dog')
    for image in (IMAGE, {'size': (4, 4), 'channels': 1}, {'size': (8, 8), 'channels': 3}):
        assert sources.open_split(data('folder', root), image, 'train').arrays['image'].shape[1:] == (
            *image['size'], image['channels'])
    assert len(decoded) == 3


def changed_image(root):
    Image.new('L', (10, 6), 200).save(root / 'cat' / '00.png')


def new_image(root):
    Image.new('L', (10, 6), 200).save(root / 'cat' / 'new.png')


def moved_image(root):
    (root / 'cat' / '00.png').rename(root / 'dog' / 'was_a_cat.png')


def renamed_class(root):
    (root / 'cat').rename(root / 'lynx')


def gone_image(root):
    (root / 'dog' / '05.png').unlink()


@pytest.mark.parametrize('change', [changed_image, new_image, moved_image, renamed_class, gone_image])
def test_changed_files_are_noticed(change, tmp_path, cache, decoded):
    root = write_images(tmp_path / 'animals', 'cat', 'dog')
    sources.open_split(data('folder', root), IMAGE, 'train')
    change(root)
    cached = sources.open_split(data('folder', root), IMAGE, 'train')
    fresh = FolderSource(root, IMAGE)
    assert len(decoded) == 2
    assert cached.info == fresh.info
    assert_same(cached, fresh)


def test_changed_tfds_files_are_noticed(prepared, cache, decoded):
    config = data(data_dir=str(prepared))
    sources.open_split(config, IMAGE, 'test')
    sources.open_split(config, IMAGE, 'test')
    assert len(decoded) == 1
    record = next((prepared / 'digits' / '1.0.0').glob('digits-test*'))
    os.utime(record, (1, 1))
    sources.open_split(config, IMAGE, 'test')
    assert len(decoded) == 2


def cut_short(entry):
    path = entry / 'image.npy'
    path.write_bytes(path.read_bytes()[:-10])


def emptied(entry):
    (entry / 'image.npy').write_bytes(b'')


def without_arrays(entry):
    (entry / 'label.npy').unlink()


def without_facts(entry):
    (entry / 'facts.json').unlink()


def with_half_the_facts(entry):
    (entry / 'facts.json').write_text('{"features": {"image": [')


def with_other_facts(entry):
    (entry / 'facts.json').write_text('[]')


def of_another_length(entry):
    np.save(entry / 'label.npy', np.zeros(3, np.int32))


def pickled(entry):
    np.save(entry / 'label.npy', np.array([{}], dtype=object), allow_pickle=True)


@pytest.mark.parametrize('spoil', [cut_short, emptied, without_arrays, without_facts, with_half_the_facts,
                                   with_other_facts, of_another_length, pickled])
def test_a_broken_entry_is_built_again(spoil, tmp_path, cache, decoded):
    root = write_images(tmp_path / 'animals', 'cat', 'dog')
    source = sources.open_split(data('folder', root), IMAGE, 'train')
    whole = ArraySource({name: values.copy() for name, values in source.arrays.items()}, source.info)
    del source  # what is in use would be shared rather than read again
    spoil(next(cache.iterdir()))
    assert_same(sources.open_split(data('folder', root), IMAGE, 'train'), whole)
    assert_same(sources.open_split(data('folder', root), IMAGE, 'train'), whole)
    assert len(decoded) == 2 and len(list(cache.iterdir())) == 1


def test_parts_of_a_split_share_its_arrays(tmp_path, cache):
    root = write_images(tmp_path / 'animals', 'cat', 'dog')
    train = sources.open_split(data('folder', root), IMAGE, 'train[:50%]')
    test = sources.open_split(data('folder', root), IMAGE, 'train[50%:]')
    assert train.arrays['image'].base is test.arrays['image'].base is not None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, decoded):
    root = write_images(tmp_path / 'animals', 'cat', 'dog')
    (tmp_path / 'file').touch()
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'file' / 'cache'))
    source = sources.open_split(data('folder', root), IMAGE, 'train')
    assert isinstance(source, ArraySource) and len(source) == 24 and len(decoded) == 1


def test_a_disk_that_fills_up_leaves_no_entry(tmp_path, cache, monkeypatch):
    def full(*_, **__):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr(memory.np, 'save', full)
    root = write_images(tmp_path / 'animals', 'cat', 'dog')
    assert len(sources.open_split(data('folder', root), IMAGE, 'train')) == 24
    assert list(cache.iterdir()) == []


def test_large_data_are_not_kept_in_memory(tmp_path, cache, decoded):
    root = write_images(tmp_path / 'animals', 'cat', 'dog')
    source = sources.open_split(data('folder', root, memory_limit_mb=0), IMAGE, 'train[:50%]')
    assert not isinstance(source, ArraySource) and len(source) == 12 and not decoded and not cache.exists()


def test_the_cache_says_what_it_holds(tmp_path, cache):
    sources.open_split(data('folder', write_images(tmp_path / 'animals', 'cat', 'dog')), IMAGE, 'train')
    facts = json.loads((next(cache.iterdir()) / 'facts.json').read_text())
    assert facts['info'] == {'class_names': ['cat', 'dog']}
    assert facts['features'] == {'image': [24, 8, 8, 1], 'label': [24]}


def test_sources_without_identity_are_not_taken_for_each_other(cache, monkeypatch):
    class Same(Source):
        """An image of one value, which depends on the split."""

        def __init__(self, split):
            self.name, self.info, self.value = split, DatasetInfo(class_names=('a', 'b')), len(split)

        def __len__(self):
            return 4

        def read(self, indices, uniforms=None):
            return {'image': np.full((len(indices), 8, 8, 1), self.value, np.uint8), 'label': np.zeros(len(indices))}

    monkeypatch.setitem(sources.SOURCES, 'same', lambda data, image, split, area: Same(split))
    opened = [sources.open_split(data('same'), IMAGE, split) for split in ('train', 'test')]
    assert [read_all(source)['image'].max() for source in opened] == [5, 4]
    assert not cache.exists()
