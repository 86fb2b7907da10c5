"""Cross-validation: folds that part the examples, keep groups together, and are the same in every run."""

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import sources, splits
from practicum.input_pipeline.arrays import ArraySource
from practicum.training.defaults import base

IMAGE = {'size': (4, 4), 'channels': 1}
TOTAL = 23


def data(**fields):
    found = base().data
    found.update(source='arrays', arrays={'x': tuple(map(float, range(TOTAL)))}, **fields)
    return found


def open_x(split, **fields):
    return sources.open_split(data(**fields), IMAGE, split).arrays['x'].astype(int).tolist()


@pytest.mark.parametrize('folds', [2, 5, 23])
@pytest.mark.parametrize('train', ['train', 'train[:80%]', 'train[:5]+train[9:]'])
def test_every_example_is_held_out_once(folds, train):
    if folds == 23 and train != 'train':
        with pytest.raises(UserError, match='config.data.folds = 23: .* has only 1[89] examples'):
            open_x('fold', folds=folds, train=train)
        return
    whole = open_x(train)
    held_out = [open_x('fold', folds=folds, fold=fold, train=train) for fold in range(folds)]
    assert sorted(sum(held_out, [])) == sorted(whole)
    assert max(map(len, held_out)) - min(map(len, held_out)) <= 1
    for fold in range(folds):
        assert sorted(open_x(train, folds=folds, fold=fold, train=train) + held_out[fold]) == sorted(whole)


def test_other_splits_stay_what_they_are():
    assert open_x('train[80%:]', folds=5, train='train[:80%]') == open_x('train[80%:]')


def test_folds_stay_what_they_are():
    """If this fails, the folds of a run that is resumed, or compared with, are others."""
    assert open_x('fold', folds=5) == sorted(open_x('fold', folds=5)) == [5, 12, 14, 15, 17]


def grouped(groups) -> ArraySource:
    from practicum.common.dataset_info import DatasetInfo
    return ArraySource({'x': np.arange(len(groups))}, DatasetInfo(),
                       [{'patient': group, 'file': f'{group}/{i}.png'} for i, group in enumerate(groups)])


@pytest.mark.parametrize('group_by', ['patient', '^([^/]+)/', 'p[0-9]+'])
def test_groups_stay_together_and_folds_are_about_equal(group_by):
    groups = [f'p{i}' for i in np.random.default_rng(0).integers(0, 40, 400)]
    fold = splits.fold_of(grouped(groups), np.arange(400), 5, group_by)
    assert set(fold) == set(range(5)) and np.ptp(np.bincount(fold)) < 20
    assert all(len(set(fold[np.array(groups) == group])) == 1 for group in set(groups))
    np.testing.assert_array_equal(fold, splits.fold_of(grouped(groups), np.arange(400), 5, 'patient'))


@pytest.mark.parametrize('limit', [2048, 0])
def test_groups_by_the_names_of_files(tmp_path, limit, monkeypatch):
    """The same in memory and streaming, in training and evaluation."""
    monkeypatch.setenv('PRACTICUM_CACHE', str(tmp_path / 'cache'))
    for i in range(24):
        folder = tmp_path / 'eyes' / 'ab'[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new('L', (4, 4), i).save(folder / f'{i // 4}_{i}.png')
    fields = base().data
    fields.update(source='folder', name=str(tmp_path / 'eyes'), folds=3, fold=1, group_by='/([0-9]+)_',
                  memory_limit_mb=limit)
    found = {}
    for split, training in (('train', True), ('fold', False)):
        source = sources.open_split(fields, IMAGE, split, training=training)
        found[split] = {metadata['file'] for metadata in source.describe(np.arange(len(source)))}
    eyes = {split: {file.split('/')[1].split('_')[0] for file in files} for split, files in found.items()}
    assert not eyes['train'] & eyes['fold'] and len(eyes['fold']) == 2 and len(found['train'] | found['fold']) == 24


@pytest.mark.parametrize('fields, message', [
    ({'folds': 1}, 'config.data.folds = 1'), ({'folds': -2}, 'config.data.folds = -2'),
    ({'folds': 3, 'fold': 3}, 'config.data.fold = 3: of 3 folds'), ({'fold': 1}, 'config.data.fold = 1'),
    ({'group_by': 'patient'}, 'set config.data.folds'),
    ({'folds': 3, 'group_by': 'patient'}, "group_by = 'patient': the examples .* have no such metadata"),
])
def test_mistakes(fields, message):
    with pytest.raises(UserError, match=message) as error:
        open_x('train', **fields)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('groups, group_by, message', [
    (['a', 'b'], 'patient', 'has only 2 groups'), (['a', ''] * 5, 'patient', 'an example without'),
    (['a'] * 9, 'x([0-9])', 'matches nothing in a/0.png'), (['a'] * 9, '(', 'is no regular expression'),
])
def test_groups_that_do_not_fit(groups, group_by, message):
    with pytest.raises(UserError, match=message):
        splits.fold_of(grouped(groups), np.arange(len(groups)), 3, group_by)
