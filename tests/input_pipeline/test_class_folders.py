"""Large folders: listed once, all changes to what lies in them noticed, and few bytes for a name."""

import hashlib
import logging
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from practicum.common import console
from practicum.common.errors import UserError
from practicum.input_pipeline import class_folders, folder_source, image_search, memory, sources
from practicum.input_pipeline.batches import EvalBatches
from practicum.input_pipeline.file_list import FileList, NameCollector
from practicum.input_pipeline.folder_source import FolderSource
from practicum.training.defaults import base

IMAGE = {'size': (4, 4), 'channels': 1}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch) -> Path:
    """An empty cache, and folders that count as settled as soon as they are written."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    monkeypatch.setattr(class_folders, '_SETTLED_NS', -10**18)
    console.warn_once.cache_clear()
    return tmp_path / 'cache'


@pytest.fixture
def root(tmp_path) -> Path:
    for k, name in enumerate(('cat', 'dog', 'dog/small')):
        (tmp_path / 'pets' / name).mkdir(parents=True)
        for i in range(4):
            Image.new('L', (4, 4), 60 * k + i).save(tmp_path / 'pets' / name / f'{i}.png')
    return tmp_path / 'pets'


@pytest.fixture
def listed(monkeypatch) -> list[str]:
    """The folders that are looked into."""
    folders, walk = [], image_search.walk_images
    monkeypatch.setattr(image_search, 'walk_images', lambda folder, *suffixes: folders.append(
        Path(folder).name) or walk(folder, *suffixes))
    return folders


def names(found: class_folders.ClassFolders) -> list[str]:
    return [found.files.name(i) for i in range(len(found.files))]


def test_the_order_is_that_of_the_hashes_of_paths(root):
    found = class_folders.find(root)
    paths = [path.relative_to(root).as_posix() for path in root.rglob('*.png')]
    assert names(found) == sorted(paths, key=lambda name: hashlib.md5(name.encode()).digest())
    assert [found.classes[label] for label in found.labels] == [name.split('/')[0] for name in names(found)]


def test_a_folder_is_listed_once(root, listed):
    first = class_folders.find(root)
    assert listed == ['cat', 'dog', 'small']
    second = class_folders.find(root)
    assert listed == ['cat', 'dog', 'small']
    assert first.files == second.files and first.classes == second.classes and first.links == second.links
    np.testing.assert_array_equal(first.labels, second.labels)


def new_file(root):
    shutil.copy(root / 'cat' / '0.png', root / 'cat' / 'new.png')


def new_file_deep_down(root):
    shutil.copy(root / 'cat' / '0.png', root / 'dog' / 'small' / 'new.png')


def removed_file(root):
    (root / 'dog' / '3.png').unlink()


def renamed_file(root):
    (root / 'dog' / '3.png').rename(root / 'dog' / '4.png')


def new_class(root):
    shutil.copytree(root / 'cat', root / 'lynx')


def renamed_class(root):
    (root / 'cat').rename(root / 'lynx')


def exchanged_classes(root):
    (root / 'cat').rename(root / 'x')
    (root / 'dog').rename(root / 'cat')
    (root / 'x').rename(root / 'dog')


def file_whose_folder_has_its_old_time(root):
    """As rsync and tar leave it."""
    times = (root / 'cat').stat()
    new_file(root)
    os.utime(root / 'cat', ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize('change', [new_file, new_file_deep_down, removed_file, renamed_file, new_class, renamed_class,
                                    exchanged_classes, file_whose_folder_has_its_old_time])
def test_a_change_is_noticed(root, change):
    class_folders.find(root)
    change(root)
    assert sorted(names(class_folders.find(root))) == sorted(p.relative_to(root).as_posix()
                                                             for p in root.rglob('*.png'))


def test_a_folder_that_was_changed_just_now_is_listed_again(root, monkeypatch, listed):
    """It may change once more within the tick of its clock."""
    monkeypatch.setattr(class_folders, '_SETTLED_NS', 2 * 10**9)
    for _ in range(2):
        class_folders.find(root)
    assert listed == 2 * ['cat', 'dog', 'small']


def test_a_damaged_list_is_made_again(root, cache):
    expected = names(class_folders.find(root))
    file = next((cache / 'listed').iterdir())
    whole = file.read_bytes()
    for position in np.random.default_rng(0).integers(0, len(whole), 60).tolist():
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 16]) + whole[position + 1:])
        assert names(class_folders.find(root)) == expected
        file.write_bytes(whole[:position])
        assert names(class_folders.find(root)) == expected


def test_links_to_folders_are_named_every_time(root, caplog):
    (root / 'cat' / 'more').symlink_to(root / 'dog')
    for _ in range(2):
        console.warn_once.cache_clear()
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            assert len(class_folders.find(root).files) == 12
        assert '1 link(s) to folders are not followed: more' in caplog.text


def test_a_class_without_images_is_an_error(root):
    (root / 'bird').mkdir()
    for _ in range(2):
        with pytest.raises(UserError, match='bird: no images in this folder'):
            class_folders.find(root)


# --- names ---

def test_names_come_back_as_they_are(tmp_path):
    given = ['a/1.png', 'b/\udce9.png', 'b/ä b.jpg', 'c/' + 'x' * 200 + '.png']
    collector = NameCollector()
    collector.add(given[:1])
    collector.add(given[1:])
    files, order = collector.sorted(tmp_path)
    assert [files.name(i) for i in range(4)] == [given[i] for i in order] and len(files) == 4
    assert files[0] == tmp_path / given[order[0]] and files[-1] == files[3] and files[1:3] == [files[1], files[2]]
    assert list(files.paths()) == [str(tmp_path / given[i]) for i in order]
    assert [files.name(np.int64(i)) for i in (0, -1)] == [given[order[0]], given[order[3]]]
    for index in (4, -5):
        with pytest.raises(IndexError):
            files.name(index)
    again = pickle.loads(pickle.dumps(files))
    assert again == files and again.digest() == files.digest()
    assert FileList(tmp_path, *NameCollector().sorted(tmp_path)[0].arrays().values()).digest() != files.digest()


def test_a_name_takes_its_bytes_and_eight_more(tmp_path):
    collector = NameCollector()
    collector.add([f'n{i % 1000:08}/n{i % 1000:08}_{i}.JPEG' for i in range(20_000)])
    arrays = collector.sorted(tmp_path)[0].arrays()
    assert sum(values.nbytes for values in arrays.values()) <= 20_000 * (30 + 8)


# --- what is noticed of more files than are looked at one by one ---

@pytest.fixture
def few(monkeypatch):
    """Twelve files are many."""
    monkeypatch.setattr(folder_source, '_MOST_LOOKED_AT', 5)


def open_split(root, **fields):
    data = base().data
    data.update(source='folder', name=str(root), **fields)
    return sources.open_split(data, IMAGE, 'train')


def test_a_file_written_anew_is_never_stale_in_memory(root, few):
    before = open_split(root).arrays['image'].copy()
    index = FolderSource(root, IMAGE).files[:].index(root / 'cat' / '1.png')
    Image.new('L', (4, 4), 255).save(root / 'cat' / '1.png')
    memory._loaded.clear()
    after = open_split(root).arrays['image']
    assert (after[index] == 255).all() and (before[index] == 1).all()


def test_a_file_written_anew_is_read_anew_when_streaming(root, few):
    for value in (100, 200):
        Image.new('L', (4, 4), value).save(root / 'cat' / '1.png')
        found = EvalBatches(open_split(root, memory_limit_mb=0), 12)(0)['image']
        assert value in found[:, 0, 0, 0]


def test_many_files_are_checked_again_when_a_folder_changes(root, few, monkeypatch):
    checked, check = [], FolderSource.check
    monkeypatch.setattr(FolderSource, 'check', lambda self, i, *, pixels: checked.append(i) or check(
        self, i, pixels=pixels))
    for _ in range(2):
        open_split(root, memory_limit_mb=0)
    assert len(checked) == 12
    (root / 'cat' / '1.png').unlink()
    (root / 'cat' / '1.png').write_bytes(b'')
    assert len(open_split(root, memory_limit_mb=0, max_unreadable=0.1)) == 11
    assert len(checked) == 24


def test_the_files_of_many_are_not_looked_at_one_by_one(root, few, monkeypatch):
    open_split(root, memory_limit_mb=0)
    looked, stat = [], os.stat
    monkeypatch.setattr(os, 'stat', lambda path, **options: looked.append(path) or stat(path, **options))
    open_split(root, memory_limit_mb=0)
    assert looked and not [path for path in looked if str(path).endswith('.png')]
