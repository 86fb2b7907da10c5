"""Promises of input_pipeline/image_search.py."""

import numpy as np
import pytest
from PIL import Image

from practicum.common import console
from practicum.common.errors import UserError
from practicum.input_pipeline import image_search, images

RGB = np.random.default_rng(0).integers(0, 256, (5, 6, 3), dtype=np.uint8)


def test_is_sorted_recursive_and_skips_what_is_hidden_or_no_image(tmp_path):
    for name in ('b/2.png', 'a/1.JPG', 'a/deep/3.tiff', '0.gif', 'notes.txt', '.hidden.png', 'a/._1.jpg',
                 '.cache/4.png'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = [str(path.relative_to(tmp_path)) for path in image_search.find_images(tmp_path)]
    assert found == ['0.gif', 'a/1.JPG', 'a/deep/3.tiff', 'b/2.png']
    assert image_search.find_images(str(tmp_path)) == image_search.find_images(tmp_path)


def test_follows_links_to_files_and_names_those_to_folders(tmp_path, caplog):
    console.warn_once.cache_clear()
    outside, folder = tmp_path / 'outside', tmp_path / 'folder'
    outside.mkdir()
    folder.mkdir()
    Image.fromarray(RGB).save(outside / 'secret.png')
    Image.fromarray(RGB).save(folder / 'a.png')
    (folder / 'linked.png').symlink_to(outside / 'secret.png')
    (folder / 'linked').symlink_to(outside)
    (folder / 'loop').symlink_to(folder)
    (folder / 'within.png').symlink_to(folder / 'a.png')
    (folder / 'itself.png').symlink_to('itself.png')
    found = [path.name for path in image_search.find_images(folder)]
    assert found == ['a.png', 'itself.png', 'linked.png', 'within.png']
    assert '2 link(s) to folders are not followed: linked, loop' in caplog.text
    with pytest.raises(UserError, match=r'itself.png: no such file \(a link to nothing\)'):
        images.read_image(folder / 'itself.png', channels=3)
    np.testing.assert_array_equal(images.read_image(folder / 'linked.png', channels=3), RGB)


def test_returns_a_file_as_itself(tmp_path):
    path = tmp_path / 'a.png'
    path.touch()
    assert image_search.find_images(path) == [path]


def test_says_when_there_is_nothing(tmp_path):
    with pytest.raises(UserError, match='no images in this folder'):
        image_search.find_images(tmp_path)
    with pytest.raises(UserError, match='missing: no such file or folder'):
        image_search.find_images(tmp_path / 'missing')
