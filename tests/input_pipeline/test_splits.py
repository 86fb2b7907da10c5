"""Cross-validation: folds that part the examples, keep groups together, and are the same in every run."""

import logging

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.input_pipeline import checks, sources, splits
from practicum.input_pipeline.arrays import ArraySource
from practicum.training.defaults import base
from tests import tiny_boxes
from tests.tiny import tiny_config
from tests.tiny_text import text_config, write_corpus

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


# Examples that are both learned and evaluated


def warnings_of(config, training, caplog, **evaluated):
    """What is said of evaluation sets, by their splits."""
    caplog.clear()
    opened = {split: sources.open_split(config.data, config.image, split, text=config.text)
              for split in {training, *evaluated.values()}}
    with caplog.at_level(logging.WARNING):
        checks.say_what_is_learned(opened[training], {name: opened[split] for name, split in evaluated.items()})
    return [record.getMessage().partition(' evaluation')[0] for record in caplog.records
            if record.levelno >= logging.WARNING]


@pytest.mark.parametrize('training, evaluated, shared', [
    ('train', 'validation', ''), ('train[:90%]', 'train[90%:]', ''), ('train', 'train', '1,258 of the 1,258'),
    ('train', 'train[:10%]', '126 of the 126'), ('train[:90%]', 'train[-200:]', '74 of the 200'),
    ('train+test', 'test[5:9]+validation', '4 of the 184')])
def test_what_is_learned_and_evaluated_is_warned_of(training, evaluated, shared, caplog):
    config = tiny_config()
    assert warnings_of(config, training, caplog, mine=evaluated) == [f'{shared} examples of'] * bool(shared)
    assert warnings_of(config, training, caplog, train_once_more=evaluated) == []  # is meant to


def test_folds_share_nothing_and_folders_and_lists_what_they_have_in_common(tmp_path, own_cache, caplog):
    config = tiny_config('data.source=voc_folder', f'data.name={tiny_boxes.write_voc(tmp_path / "set")}',
                         'image.channels=3', 'data.folds=3')
    assert warnings_of(config, 'train', caplog, mine='fold') == []
    lists = tmp_path / 'set' / 'ImageSets' / 'Main'
    lists.mkdir(parents=True)
    for name, images in {'train': 'ab', 'val': 'cd', 'trainval': 'abcd'}.items():
        (lists / f'{name}.txt').write_text('\n'.join(images))
    config = tiny_config('data.source=voc_folder', f'data.name={tmp_path}/set/../set', 'image.channels=3')
    assert warnings_of(config, 'train', caplog, mine='val') == []
    assert warnings_of(config, 'trainval', caplog, mine='val', other='train[:1]') == ['2 of the 2 examples of',
                                                                                     '1 of the 1 examples of']


def test_lines_of_a_text_are_compared(tmp_path, caplog):
    config = text_config(write_corpus(tmp_path))
    assert warnings_of(config, 'train', caplog, mine='valid') == []
    shared, = warnings_of(config, 'train[:90%]', caplog, mine='train[50%:]')
    assert shared.endswith('examples of') and warnings_of(config, 'train[:50%]', caplog, mine='train[50%:]') == []
