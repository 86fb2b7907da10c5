"""Damaged caches, odd file names and requests to stop: found, said in a line, and never a traceback or wrong data."""

import gzip
import json
import logging
import os

import numpy as np
import pytest
from PIL import Image

from practicum.common import console, interrupt
from practicum.common.errors import UserError
from practicum.input_pipeline import memory, sources, text_source
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.batches import TrainBatches, stream
from practicum.training.defaults import base

IMAGE = {'size': (6, 6), 'channels': 1}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    console.warn_once.cache_clear()
    return tmp_path / 'cache' / 'decoded'


@pytest.fixture
def root(tmp_path):
    for i in range(12):
        folder = tmp_path / 'pets' / ('cat', 'dog')[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new('L', (6, 6), 20 * i).save(folder / f'{i}.png')
    return tmp_path / 'pets'


def open_split(root, split='train', *, training=False, **fields):
    data = base().data
    data.update(source='folder', name=str(root), **fields)
    return sources.open_split(data, IMAGE, split, training=training)


# --- the decoded cache ---

def flipped(file, bit):
    content = bytearray(file.read_bytes())
    content[bit // 8] ^= 1 << bit % 8
    file.write_bytes(content)


@pytest.mark.parametrize('name', ['image.npy', 'label.npy', 'facts.json'])
def test_a_flipped_bit_anywhere_is_found(root, cache, name, caplog):
    """In the pixels, the labels, the names of the classes or numpy's header."""
    source = open_split(root)
    expected, info = {key: values.copy() for key, values in source.arrays.items()}, source.info
    del source
    entry = next(cache.iterdir())
    sound = (entry / name).read_bytes()
    for bit in np.random.default_rng(0).integers(0, 8 * len(sound), 40).tolist():
        (entry / name).write_bytes(sound)
        flipped(entry / name, bit)
        caplog.clear()
        loaded = memory._read(entry)
        if loaded is None:
            assert 'are damaged' in caplog.text and caplog.text.count('\n') == 1
            continue
        # Bits of numpy's header may mean nothing, such as blanks.
        assert loaded.info == info
        for key, values in expected.items():
            np.testing.assert_array_equal(loaded.arrays[key], values)
    flipped(entry / name, 8 * len(sound) - 12)
    with caplog.at_level(logging.INFO):
        again = open_split(root)
    assert 'decoding again' in caplog.text
    for key, values in expected.items():
        np.testing.assert_array_equal(again.arrays[key], values)


def test_facts_of_somebody_else_are_not_taken(root, cache):
    open_split(root)
    entry = next(cache.iterdir())
    facts = json.loads((entry / 'facts.json').read_text())
    facts['info']['class_names'].reverse()
    (entry / 'facts.json').write_text(json.dumps(facts))
    assert memory._read(entry) is None


# --- names and links ---

def test_names_that_are_not_utf_8_train_and_stream(root, caplog):
    Image.new('L', (6, 6), 255).save(os.fsdecode(os.fsencode(root / 'cat') + b'/caf\xe9.png'))
    for fields in ({}, {'memory_limit_mb': 0}):
        source = open_split(root, training=True, **fields)
        assert len(source) == 13
        files = [metadata['file'] for metadata in source.describe(np.arange(13))]
        assert 'cat/caf\\xe9.png' in files and '\n'.join(files).encode()
        list(stream(TrainBatches(source, 13, 0), range(2), source=source))


def test_a_link_to_itself_is_one_unreadable_image(root, caplog):
    (root / 'cat' / 'loop.png').symlink_to('loop.png')
    for limit in (2048, 0):
        assert len(open_split(root, memory_limit_mb=limit, max_unreadable=0.1)) == 12
    assert '1 of 13 images' in caplog.text and 'loop.png: no such file (a link to nothing)' in caplog.text


def test_a_farm_of_links_is_a_data_set(root, tmp_path):
    for file in root.rglob('*.png'):
        (tmp_path / 'links' / file.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / 'links' / file.parent.name / file.name).symlink_to(file)
    np.testing.assert_array_equal(open_split(tmp_path / 'links').arrays['image'], open_split(root).arrays['image'])


@pytest.mark.parametrize('source', ['folder', 'mask_folder', 'caption_folder', 'npz', 'csv', 'text', 'tfds'])
def test_a_name_that_is_too_long_is_one_line(source):
    data = base().data
    data.update(source=source, name='a' * 300)
    with pytest.raises(UserError) as error:
        sources.open_split(data, IMAGE, 'train')
    assert '\n' not in str(error.value)


def test_a_name_that_tfds_does_not_take_is_one_line(tmp_path):
    data = base().data
    data.update(name='digits:..', data_dir=str(tmp_path))
    with pytest.raises(UserError, match="config.data.name = 'digits:..'") as error:
        sources.open_split(data, IMAGE, 'train')
    assert '\n' not in str(error.value)


def test_a_compressed_text_is_unpacked_up_to_a_limit(tmp_path, monkeypatch):
    (tmp_path / 'a.txt.gz').write_bytes(gzip.compress(b'word ' * 1000))
    assert len(text_source.read_text(tmp_path / 'a.txt.gz')) == 5000
    monkeypatch.setattr(text_source, '_MAX_BYTES', 4999)
    with pytest.raises(UserError, match='a.txt.gz: unpacks to more than'):
        text_source.read_text(tmp_path / 'a.txt.gz')


# --- captions and damage found late ---

def test_an_image_that_replaces_a_damaged_one_brings_its_own_captions(tmp_path):
    (tmp_path / 'own' / 'images').mkdir(parents=True)
    for i in range(8):
        Image.new('L', (6, 6), 20 * i).save(tmp_path / 'own' / 'images' / f'{i}.png')
    (tmp_path / 'own' / 'captions.txt').write_text('image,caption\n' + ''.join(f'{i}.png,w{i}\n' for i in range(8)))
    fields = base()
    fields.data.update(source='caption_folder', name=str(tmp_path / 'own'), memory_limit_mb=0, max_unreadable=0.5)
    source = sources.open_split(fields.data, IMAGE, 'train', training=True, text=fields.text)
    file = tmp_path / 'own' / 'images' / '3.png'
    file.write_bytes(file.read_bytes()[:48])  # header sound, pixels not
    examples = source.read(np.arange(8))
    entries = source.info.vocabulary['entries']
    words = [entries[row[0, 1]] for row in examples['captions']]
    assert words == [f'w{value // 20}' for value in examples['image'][:, 0, 0, 0]] and 'w3' not in words


# --- requests to stop ---

@pytest.mark.parametrize('fields', [{}, {'memory_limit_mb': 0}])
def test_long_preparation_hears_a_request_to_stop(root, fields):
    interrupt.request()
    try:
        with pytest.raises(interrupt.Interrupted):
            open_split(root, **fields)
    finally:
        interrupt.clear()
    assert len(open_split(root, **fields)) == 12


def test_what_is_in_the_cache_needs_no_stop(root):
    assert isinstance(open_split(root), ArraySource)
    interrupt.request()
    try:
        assert len(open_split(root)) == 12
    finally:
        interrupt.clear()
