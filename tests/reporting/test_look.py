"""`launch.py look`: what the page and its numbers say of data whose faults are known."""

import html
import json
import types
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

import practicum
from practicum.common.errors import UserError
from practicum.input_pipeline import mixing, preprocessing
from practicum.reporting.look import examples
from practicum.reporting.look import mean_image as mean_images
from practicum.reporting.look.data_sets import open_sets
from practicum.reporting.look.look import as_json, console_lines, find, look
from practicum.reporting.look.page import render
from practicum.training import config as config_lib
from practicum.training.step import make_train_step
from tests import tiny_boxes, tiny_captions, tiny_segmentation, tiny_text
from tests.conftest import ROOT
from tests.reporting.pages import Page
from tests.tiny import tiny_config

SIDE = 36


def scene(seed, side=SIDE):
    """A smooth random picture, as photographs are."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC))


@pytest.fixture(scope='module')
def pets(tmp_path_factory) -> Path:
    """Ten cats and three dogs to learn from, one of them both, one damaged; of four to validate, two are known."""
    root = tmp_path_factory.mktemp('look') / 'pets'

    def save(name, pixels):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / name)
    for i in range(9):
        save(f'train/cat/{i}.png', scene(i))
    save('train/cat/large.png', scene(50, 2 * SIDE))
    for i in range(2):
        save(f'train/dog/{i}.png', scene(20 + i))
    save('train/dog/also_a_cat.png', scene(3))
    (root / 'train/dog/damaged.png').write_bytes(b'\x89PNG\r\n\x1a\n and no more')
    save('validation/cat/new.png', scene(30))
    save('validation/cat/old.png', scene(4))
    save('validation/dog/new.png', scene(31))
    save('validation/dog/brightened.png', (scene(21) * 0.7 + 40).astype(np.uint8)[:, ::-1])
    return root


def pets_config(pets, *overrides):
    return tiny_config('data.source=folder', f'data.name={pets}', f'image.size=({SIDE},{SIDE})', 'image.channels=3',
                       'image.mean=(0.5,)', 'image.std=(0.25,)', "evaluation.final=()", *overrides)


@pytest.fixture(scope='module')
def looked(pets) -> types.SimpleNamespace:
    """What a look at the pets found, its page and its numbers."""
    output = pets.parent / 'page.html'
    found = look(pets_config(pets), output)
    return types.SimpleNamespace(found=found, page=Page(output), output=output,
                                 numbers=json.loads(output.with_suffix('.json').read_text()))


def test_classes_and_files_are_counted(looked):
    train = looked.numbers['sets']['train']
    assert train['examples'] == 13 and train['classes']['counts'] == {'cat': 10, 'dog': 3}
    assert looked.numbers['sets']['validation']['classes']['counts'] == {'cat': 2, 'dog': 2}
    assert 'cat76.9 %102' in looked.page.texts('tr')
    assert looked.numbers['sizes'] == {'files': 13, 'height': {'lowest': 36, 'median': 36.0, 'highest': 72},
                                       'width': {'lowest': 36, 'median': 36.0, 'highest': 72}}


def test_unreadable_files_are_named_however_many(looked):
    """One of 14 is more than config.data.max_unreadable allows a training; a look says so and goes on."""
    unreadable, = looked.numbers['sets']['train']['unreadable']
    assert unreadable['file'] == 'dog/damaged.png' and 'damaged' in unreadable['reason']
    assert any('1 of 14 examples cannot be read: more than config.data.max_unreadable = 0.01' in line
               for line in looked.numbers['findings'])
    assert 'dog/damaged.png' in looked.page.texts('td')


def test_what_is_there_twice_is_found_within_and_between_sets(looked):
    found = {(one['set'], one['compared_with']): one for one in looked.numbers['repeats']}
    assert found['train', 'train'] | {'set': 0, 'compared_with': 0} == {
        'set': 0, 'compared_with': 0, 'examples': 13, 'shared': 0, 'same': 2, 'same_with_other_target': 2, 'alike': 0}
    across = found['validation', 'train']
    assert (across['same'], across['same_with_other_target'], across['alike']) == (1, 0, 1)
    assert any('1 of 4 examples of validation are in train, too' in line for line in looked.numbers['findings'])
    assert any('1 of 4 images of validation is almost the same' in line for line in looked.numbers['findings'])
    pairs = [[(pair.first[0], pair.second[0], pair.likeness is None) for pair in one.pairs]
             for one in looked.found.repeats]
    assert pairs == [[('train', 'train', True)], [], [('validation', 'train', True), ('validation', 'train', False)]]


def test_mean_and_std_are_those_of_all_pixels_and_printed_to_be_pasted(looked):
    source = looked.found.data_set.source
    pixels = source.read(np.arange(len(source)))['image'] / 255
    mean, std = pixels.mean((0, 1, 2)), pixels.std((0, 1, 2))
    np.testing.assert_allclose(looked.numbers['sets']['train']['pixels']['mean'], mean, rtol=1e-6)
    np.testing.assert_allclose(looked.numbers['sets']['train']['pixels']['std'], std, rtol=1e-6)
    line = next(line for line in console_lines(looked.found) if line.startswith('config.image.mean = '))
    np.testing.assert_allclose(eval(line.partition('= ')[2]), mean, rtol=1e-3)
    np.testing.assert_allclose(looked.found.surveys['train'].pixels.mean_image, pixels.mean(0), atol=1e-6)


def test_the_mean_image_becomes_a_file_and_the_lines_a_config(looked, pets, tmp_path):
    mean_image = looked.found.surveys['train'].pixels.mean_image
    mean_images.write(tmp_path / 'mean.npy', mean_image)
    mean_images.write(tmp_path / 'mean.png', mean_image)
    np.testing.assert_allclose(np.load(tmp_path / 'mean.npy'), mean_image, rtol=1e-6)
    np.testing.assert_allclose(np.asarray(Image.open(tmp_path / 'mean.png')) / 255, mean_image, atol=0.5 / 255 + 1e-9)
    config = pets_config(pets).unlock()
    pasted = [line for line in console_lines(looked.found) if line.startswith('config.')]
    exec('\n'.join(pasted), {'config': config})
    source = looked.found.data_set.source
    prepared = preprocessing.build(config.image)({'image': source.read(np.arange(len(source)))['image']}, None)
    pixels = np.asarray(prepared['image'])
    np.testing.assert_allclose(pixels.mean((0, 1, 2)), 0, atol=1e-3)
    np.testing.assert_allclose(pixels.std((0, 1, 2)), 1, atol=1e-3)


@pytest.mark.parametrize('name, message', [('mean.jpg', r'it ends in .png \(a picture\) or .npy'),
                                           ('nowhere/mean.npy', 'there is no such folder')])
def test_a_mean_image_that_cannot_be_written_is_refused_at_once(name, message, pets, tmp_path):
    with pytest.raises(UserError, match=message):
        look(pets_config(pets), tmp_path / 'page.html', mean_image=tmp_path / name)
    assert not (tmp_path / 'page.html').exists()


def test_pictures_are_what_the_network_gets_and_the_same_ones_every_time(looked, pets):
    shown = [np.asarray(image) for alt, image in looked.page.images() if alt.startswith('cat ')]
    source = looked.found.data_set.source
    images = source.read(np.arange(len(source)))['image'][source.labels == 0]
    assert len(shown) == 10
    assert {image.tobytes() for image in shown} == {image.tobytes() for image in images}
    again = find(pets_config(pets), 'train', '')
    assert as_json(again) == looked.numbers
    first, second = ([group.places.tolist() for group in examples.choose(
        one.surveys['train'], one.classes['train'], '', 'image', 0)] for one in (again, looked.found))
    assert first == second
    alone, = examples.choose(again.surveys['train'], again.classes['train'], 'dog', 'image', 0)
    assert alone.title == 'dog' and alone.total == len(alone.places) == 3


def test_augmented_pictures_are_those_of_the_train_step(pets):
    """What the real step hands to the network, caught there, is what is shown."""
    config = pets_config(pets, 'augment.shift=0.0', 'augment.brightness=0.3', 'augment.mixup=0.4', 'seed=7')
    train = open_sets(config, 'train')[0]['train']
    places, caught = np.array([4, 0, 11, 7]), []
    originals, _, steps = examples.augmented(config, train, places, 2)

    class Caught(Exception):
        pass

    def forward(variables, batch, **how):
        caught.append(batch)
        raise Caught
    step = make_train_step(forward, types.SimpleNamespace(train_metrics=types.SimpleNamespace(empty=dict),
                                                          needs_rng=False, collects=False),
                           types.SimpleNamespace(stop_frozen=lambda params: params), lambda step: 1.0,
                           preprocessing.build(config.image, config.augment), mix=mixing.build(config.augment))

    @jax.jit
    def given(number, batch):
        state = types.SimpleNamespace(step=number, params={'w': 1.0}, batch_stats={}, carry={}, experience={},
                                      hyperparameters={'seed': np.uint32(config.seed)})
        with pytest.raises(Caught):
            step(state, batch)
        return caught[0]
    wanted = given(1, originals)
    assert np.abs(steps[0]['image'] - steps[1]['image']).max() > 0.1
    for name in ('image', 'mix', 'mixed_label'):
        np.testing.assert_allclose(steps[1][name], wanted[name], atol=1e-4)


def test_a_damaged_image_of_a_set_that_streams_is_found_while_looking(pets, own_cache):
    found = find(pets_config(pets, 'data.memory_limit_mb=0', 'augment.shift=0.0'), 'train', '')
    assert [file for file, _ in found.sets['train'].unreadable] == ['dog/damaged.png']
    assert found.classes['train'].counts.tolist() == [10, 3]


def test_an_evaluation_set_that_cannot_be_opened_is_a_finding(pets):
    config = pets_config(pets, "evaluation.final=('test',)")
    found = find(config, 'train', '')
    assert list(found.sets) == ['train', 'validation'] and found.wrong[0].startswith('test cannot be opened: ')
    with pytest.raises(UserError, match='no split'):
        find(config, 'test', '')


def test_objects_are_counted_and_drawn(tmp_path):
    tiny_boxes.write_voc(tmp_path / 'owls')
    config = tiny_config('data.source=voc_folder', f'data.name={tmp_path}/owls', 'image.size=(40,40)',
                         'image.channels=3', 'augment.shift=0.0', 'evaluation.periodic=()', 'evaluation.final=()')
    found = look(config, tmp_path / 'look.html')
    assert as_json(found)['sets']['train']['classes']['counts'] == {'cat': 3, 'dog': 2, 'owl': 1}  # crowds apart
    assert found.classes['train'].shown_in.tolist() == [2, 2, 1]
    groups = [text for text in Page(tmp_path / 'look.html').texts('h3') if ' of ' in text]
    assert [text.partition(' ')[0] for text in groups] == ['cat', 'dog', 'owl', 'no']
    kinds = {values['title'] for name, values, _ in Page(tmp_path / 'look.html').tags if name == 'figure'
             and 'tile' in values.get('class', '')}
    assert any('e.png' in title for title in kinds)


def test_masks_are_drawn_beside_their_images(tmp_path):
    root = tiny_segmentation.masks_and_images(tmp_path / 'discs', count=4, splits=('train', 'test'))
    config = config_lib.load(tiny_segmentation.__file__, [f'data.name={root}', 'evaluation.periodic=()'])
    found = look(config, tmp_path / 'look.html', 'test')
    masks = np.stack([tiny_segmentation.disc(100 + i)[1] for i in range(4)])
    counts = found.classes['test'].counts
    assert counts.tolist() == [int((masks == 0).sum()), int((masks == 1).sum())]
    tiles = [image for alt, image in Page(tmp_path / 'look.html').images() if alt.startswith('foreground ')]
    assert len(tiles) == 2 * 4 and {image.size for image in tiles} == {(48, 48), (288, 288)}


def test_captions_are_texts_beside_their_images(tmp_path):
    folder = tiny_captions.write_folder(tmp_path / 'colours')
    config = config_lib.load(tiny_captions.__file__, [f'data.name={folder}'])
    found = look(config, tmp_path / 'look.html', chosen='red')
    page = Page(tmp_path / 'look.html')
    shown = [text for text in page.texts('figcaption') if 'picture' in text]
    source = found.data_set.source
    assert len(shown) == sum('red' in facts['captions'][0] for facts in source.describe(np.arange(len(source))))
    assert all('A picture that is red .' in text and 'It is red, all of it' in text for text in shown)
    assert found.words['train'].tokens == 16 * (5 + 6) and found.words['train'].unknown == 0
    with pytest.raises(UserError, match='--class rad: captions have no such word; did you mean red?'):
        look(config, tmp_path / 'none.html', chosen='rad')
    assert sorted(file.name for file in tmp_path.iterdir()) == ['colours', 'look.html', 'look.json']


def test_texts_have_words_unknown_ones_and_excerpts(tmp_path):
    corpus = tiny_text.write_corpus(tmp_path / 'corpus')
    learned = (corpus / 'train.txt').read_text().splitlines()
    known = next(line for line in learned if len(line.split()) >= 6)
    with (corpus / 'valid.txt').open('a') as file:
        file.write(f'zebra zebra\n{known}\n')
    found = look(tiny_text.text_config(corpus), tmp_path / 'look.html', 'validation', 'gnu')
    words = found.words['validation']
    assert words.unknown_words == [('zebra', 2)] and words.unknown == 2
    assert found.words['train'].distinct == 12 and as_json(found)['vocabulary'] == 16
    repeated, total = found.repeated_texts['validation']
    assert repeated >= 1 and any(f'{repeated} of {total} long lines of validation' in line for line in found.wrong)
    page = Page(tmp_path / 'look.html')
    assert 'gnu' in page.texts('mark', 'chosen')[0]


def test_tables_have_columns_and_rows_that_contradict_each_other(tmp_path):
    rows = [(width, 2 * width, 'large' if width > 5 else 'small') for width in range(10)]
    rows += [(1, 2, 'large'), (7, 14, 'large')]
    (tmp_path / 'bolts.csv').write_text('width,height,kind\n' + ''.join(f'{a},{b},{c}\n' for a, b, c in rows))
    config = tiny_config('data.source=csv', f'data.name={tmp_path}/bolts.csv', 'data.target=kind',
                         'evaluation.periodic=()', 'evaluation.final=()')
    found = look(config, tmp_path / 'look.html')
    assert [(one.name, one.low, one.high, one.distinct) for one in found.columns] == [
        ('width', 0.0, 9.0, 10), ('height', 0.0, 18.0, 10)]
    one, = found.repeats
    assert (one.same, one.other_targets) == (4, 2)
    assert 'height over width' in ''.join(Page(tmp_path / 'look.html').texts('figcaption'))


def test_float_images_beyond_0_and_1_are_measured_though_no_training_takes_them(tmp_path):
    images = np.random.default_rng(0).normal(100, 30, (20, 8, 8, 2)).astype(np.float32)
    np.savez(tmp_path / 'cells.npz', image=images, label=np.arange(20) % 2)
    config = tiny_config('data.source=npz', f'data.name={tmp_path}/cells.npz', 'image.channels=2',
                         'augment.shift=0.0', 'evaluation.periodic=()', 'evaluation.final=()')
    found = look(config, tmp_path / 'look.html')
    assert any('set config.image.mean and std' in line for line in found.wrong)
    np.testing.assert_allclose(found.surveys['train'].pixels.mean, images.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found.surveys['train'].pixels.std, images.std((0, 1, 2)), rtol=1e-4)
    said = tiny_config(*(f'image.{name}={values}' for name, values in zip(('mean', 'std'), found.mean_and_std())),
                       'data.source=npz', f'data.name={tmp_path}/cells.npz', 'image.channels=2', 'augment.shift=0.0',
                       'evaluation.periodic=()', 'evaluation.final=()')
    assert not find(said, 'train', '').wrong


@pytest.mark.parametrize('arguments, parts', [
    (('--set', 'vaildation'), ('--set vaildation', 'did you mean validation?')),
    (('--class', 'seven'), ('--class seven', 'there are: 0, 1, 2')),
    (('--output', 'look.pdf'), ('look.pdf', '.html')),
    (('--output', 'nowhere/look.html'), ('nowhere/look.html', 'no such folder')),
    (('--output', 'result.html'), ('result.json', 'holds something else')),
    (('--config.data.name=digitss',), ('digitss',)),
], ids=['set', 'class', 'suffix', 'folder', 'json', 'data'])
def test_mistakes_are_one_line_and_nothing_is_written(call_launch, tmp_path, monkeypatch, arguments, parts):
    (tmp_path / 'result.json').write_text('{"metrics": {}}')
    monkeypatch.chdir(tmp_path)
    result = call_launch('look', '--config', ROOT / 'tests' / 'tiny.py', *arguments)
    assert result.code == 2 and result.err.startswith('error: ') and result.err.count('\n') == 1, result.err
    assert all(part in result.err for part in parts), result.err
    assert [file.name for file in tmp_path.iterdir()] == ['result.json']
    assert (tmp_path / 'result.json').read_text() == '{"metrics": {}}'


def test_the_command_prints_what_to_paste_and_python_returns_it(call_launch, tmp_path):
    output = tmp_path / 'digits.html'
    result = call_launch('look', '--config', ROOT / 'tests' / 'tiny.py', '--output', output)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[-1] == str(output) and any(line.startswith('config.image.mean = (0.3') for line in lines)
    assert 'As the training sees them' in Page(output).text and output.stat().st_size < 300_000
    numbers = json.loads(output.with_suffix('.json').read_text())
    assert practicum.look(ROOT / 'tests' / 'tiny.py', output) == numbers
    assert numbers['augmentation'] == {'augment.shift': 0.1} and numbers['sets']['test']['examples'] > 300


def test_the_noise_of_a_task_is_what_the_training_sees():
    config = tiny_config('augment.shift=0', 'image.mean=(0.0,)', 'image.std=(1.0,)')
    assert not examples.is_augmented(config)
    with config.unlocked():
        config.task = {'name': 'reconstruction', 'noise': 0.5}
    assert examples.is_augmented(config) and examples.augmentations(config) == {'task.noise': 0.5}
    data_set = open_sets(config, 'train')[0]['train']
    places = np.array([7, 3])
    originals, _, steps = examples.augmented(config, data_set, places, 2)
    clean = originals['image'] / 255
    seen = [step['image'] for step in steps]
    assert not np.array_equal(*seen) and all(0.1 < np.abs(one - clean).mean() < 0.5 for one in seen)


@pytest.mark.parametrize('shown, task, prefix, why', [
    ('train', 'classification', 'config.image.', ''), ('train', 'reconstruction', '', 'stay (0.0,) and (1.0,)'),
    ('test', 'classification', '', 'those of all of train')])
def test_only_what_fits_the_experiment_is_there_to_be_pasted(shown, task, prefix, why):
    found = find(tiny_config(f'task.name={task}'), shown, '')
    lines = console_lines(found)
    assert [line for line in lines if 'mean = (' in line] == [f'{prefix}mean = {found.mean_and_std()[0]}']
    assert lines[-1].endswith(f'{why}.') if why else lines[-1].startswith('config.image.std')


@pytest.mark.parametrize('field, why, sentence', [
    ('samplewise_center=True', 'They are of the pixels, and config.image.mean and std come after',
     'each image minus its own mean, then (pixel \u2212 config.image.mean) / config.image.std; mean and std here'),
    ('zca_epsilon=0.1', 'config.image.zca_epsilon takes the mean image off',
     'config.image.std, then whitened (config.image.zca_epsilon); mean and std here')])
def test_pixels_that_are_standardised_or_whitened_give_nothing_to_paste(field, why, sentence):
    found = find(tiny_config(f'image.{field}'), 'train', '')
    lines = console_lines(found)
    assert lines[-1].startswith(why) and not any(line.startswith('config.image.mean') for line in lines)
    assert sentence in html.unescape(render(found))
