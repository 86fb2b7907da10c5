"""Fewer classes out of many, whatever the source."""

import logging

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import relabelling, sources
from practicum.input_pipeline.arrays import ArraySource
from practicum.input_pipeline.relabelling import ClassMerge
from practicum.training.defaults import base

GRADES = ('no_dr', 'mild', 'moderate', 'severe', 'proliferative')
IMAGE = {'size': (8, 8), 'channels': 1}


def config(**fields):
    data = base().data
    data.update(**fields)
    return data


@pytest.mark.parametrize('pairs, expected', [
    ((('healthy', ('no_dr',)), ('ill', ('.*',))), [0, 1, 1, 1, 1]),  # the first that matches
    ((('ill', ('mild', 'moderate', 'severe')), ('healthy', 'no_dr')), [1, 0, 0, 0, -1]),
    ((('m', ('m.*',)), ('s', ('sever.',))), [-1, 0, 0, 1, -1]),  # the whole name must match
])
def test_which_class_becomes_which(pairs, expected):
    merging = ClassMerge(pairs, GRADES)
    assert merging(np.arange(5)).tolist() == expected and merging(np.array([3])).dtype == np.int32
    assert merging.class_names == [name for name, _ in pairs]


def test_case_is_ignored():
    assert ClassMerge((('ill', ('Mild', 'SEV.*')),), GRADES)(np.arange(5)).tolist() == [-1, 0, -1, 0, -1]


@pytest.mark.parametrize('memory', [0, 2048])
def test_classes_are_counted(eyes, memory):
    source = sources.open_split(config(source='folder', name=str(eyes), memory_limit_mb=memory), IMAGE, 'train')
    counts = relabelling.count_labels(source)
    assert counts is None or counts == tuple(np.bincount(
        source.read(np.arange(len(source)))['label'], minlength=5).tolist())
    assert counts is not None or not memory


def test_a_name_with_special_characters_matches_itself():
    assert ClassMerge((('a', ('c++',)), ('b', ('c',))), ('c', 'c++'))(np.arange(2)).tolist() == [1, 0]


@pytest.mark.parametrize('pairs, message', [
    ((('ill', ('moderat',)),), "'moderat' matches no class; did you mean moderate"),
    ((('ill', ('sev',)),), "'sev' matches no class"),
    ((('ill', ('(',)),), 'is not a regular expression'),
    (('ill', ('mild',)), 'not a pair'),
    ((('ill', ('mild',)), ('ill', ('severe',))), "'ill' twice"),
])
def test_a_mistake_is_named(pairs, message):
    with pytest.raises(UserError, match=message):
        ClassMerge(pairs, GRADES)


@pytest.fixture
def eyes(tmp_path, monkeypatch):
    """Folder of 4 images for each grade, whose grey value is 10 * grade."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    for grade, name in enumerate(GRADES):
        (tmp_path / 'eyes' / name).mkdir(parents=True)
        for i in range(4):
            Image.new('L', (8, 8), 10 * grade).save(tmp_path / 'eyes' / name / f'{i}.png')
    return tmp_path / 'eyes'


@pytest.mark.parametrize('memory', [0, 2048])
@pytest.mark.parametrize('split, count', [('train', 16), ('train[:50%]', None)])
def test_folders_in_memory_and_streaming(eyes, memory, split, count, caplog):
    caplog.set_level(logging.INFO)
    pairs = (('ill', ('mild', 'severe', 'proliferative')), ('healthy', ('no_dr',)))
    source = sources.open_split(config(source='folder', name=str(eyes), memory_limit_mb=memory, merge_classes=pairs),
                                IMAGE, split)
    whole = sources.open_split(config(source='folder', name=str(eyes)), IMAGE, split)
    assert isinstance(source, ArraySource) == bool(memory)
    grey = source.read(np.arange(len(source)))['image'][:, 0, 0, 0]
    labels = source.read(np.arange(len(source)))['label']
    kept = whole.arrays['image'][:, 0, 0, 0] != 20
    np.testing.assert_array_equal(grey, whole.arrays['image'][kept, 0, 0, 0])  # same order, 'moderate' left out
    np.testing.assert_array_equal(labels, grey == 0)
    assert labels.dtype == np.int32 and source.info.to_json() == {'class_names': ['ill', 'healthy']}
    assert [facts['file'].split('/')[0] for facts in source.describe(np.arange(len(source)))] == [
        GRADES[value // 10] for value in grey]
    assert count in (None, len(source))
    assert f'{len(whole) - kept.sum()} of {len(whole)} examples' in caplog.text


def test_prepared_data_sets(monkeypatch, tmp_path):
    """Streaming, their labels are read once and then known; in memory and streaming agree."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path))
    pairs = (('round', ('0', '[689]')), ('one', ('1',)))
    opened = [sources.open_split(config(name='digits', merge_classes=pairs, memory_limit_mb=memory), IMAGE,
                                 'train[10%:40%]') for memory in (2048, 0)]
    a, b = (source.read(np.arange(len(source))) for source in opened)
    np.testing.assert_array_equal(a['label'], b['label'])
    np.testing.assert_array_equal(a['image'], b['image'])
    plain = sources.open_split(config(name='digits'), IMAGE, 'train[10%:40%]').arrays['label']
    assert np.bincount(a['label']).tolist() == [np.isin(plain, (0, 6, 8, 9)).sum(), (plain == 1).sum()]

    def never(*_):
        raise AssertionError('read again')
    monkeypatch.setattr(relabelling, 'parallel_map', never)
    again = sources.open_split(config(name='digits', merge_classes=pairs, memory_limit_mb=0), IMAGE, 'train[10%:40%]')
    assert len(again) == len(b['label'])


def test_all_classes_kept_shares_the_arrays(eyes):
    plain = sources.open_split(config(source='folder', name=str(eyes)), IMAGE, 'train')
    merged = sources.open_split(config(source='folder', name=str(eyes), merge_classes=(
        ('healthy', ('no_dr',)), ('ill', ('.*',)))), IMAGE, 'train')
    assert np.shares_memory(plain.arrays['image'], merged.arrays['image'])
    assert plain.info.class_names == tuple(sorted(GRADES))


def test_examples_without_labels_have_nothing_to_merge():
    with pytest.raises(UserError, match='no labels'):
        sources.open_split(config(source='arrays', arrays={'x': (1.0, 2.0)}, merge_classes=(('a', ('b',)),)), IMAGE,
                           'train')
