"""Drawn points, what linear models and polynomials make of them, and the pictures of it."""

import json

import numpy as np
import pytest
from PIL import Image

import practicum
from practicum.common.errors import UserError
from practicum.inference.numbers import predict_numbers
from practicum.input_pipeline import point_source, sources
from practicum.models.polynomial import Polynomial
from practicum.tasks import fit_figures
from practicum.training import config as config_lib
from practicum.training.defaults import base
from practicum.training.loop import train


@pytest.mark.parametrize('name', point_source.KINDS)
def test_points_are_always_the_same_and_splits_differ(name):
    def points(split):
        data = base().data
        data.source, data.name = 'points', name
        source = sources.open_split(data, base().image, split)
        examples = source.read(np.arange(len(source)))
        return examples['x'], examples['label'], source
    x, label, source = points('train')
    assert x.shape == (2000, 2) and x.dtype == np.float32 and source.info.class_names == ('blue', 'orange')
    assert 0.45 < label.mean() < 0.55 and np.abs(x).max() < 4
    np.testing.assert_array_equal(x, points('train')[0])
    assert len(np.intersect1d(x[:, 0], points('test')[0][:, 0])) < 5


def test_a_straight_line_parts_only_what_is_separable():
    """By least squares on the signs, which finds a boundary wherever there is a wide one."""
    def accuracy(name):
        label = np.random.default_rng(0).integers(0, 2, 2000)
        x = point_source.KINDS[name](label, np.random.default_rng(1))
        inputs = np.concatenate([x, np.ones((2000, 1))], axis=1)
        weights = np.linalg.lstsq(inputs, 2 * label - 1, rcond=None)[0]
        return ((inputs @ weights > 0) == label).mean()
    found = {name: accuracy(name) for name in point_source.KINDS}
    assert found['separable'] == 1.0
    assert found['xor'] < 0.7 and found['spirals'] < 0.75 and 0.8 < found['moons'] < 0.95


@pytest.mark.parametrize('fields, message', [
    ({'name': 'moon'}, "it is one of separable, xor, .*did you mean moons"),
    ({'name': 'moons', 'train': 'training'}, "has no split 'training'"),
])
def test_a_slip_in_the_config_is_named(fields, message):
    data = base().data
    data.source = 'points'
    data.update(fields)
    with pytest.raises(UserError, match=message):
        sources.open_split(data, base().image, data.train)


def test_a_polynomial_spans_what_powers_do():
    x = np.linspace(-1, 1, 50, dtype=np.float32)
    model = Polynomial(degree=4)
    # T4 = 8 x^4 - 8 x^2 + 1, T1 = x
    variables = {'params': {'coefficients': np.float32([0, 3, 0, 0, 2])}}
    np.testing.assert_allclose(model.apply(variables, x), 16 * x**4 - 16 * x**2 + 3 * x + 2, atol=1e-5)


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """A few steps of a linear model on points of a plane, and of a polynomial, with their pictures."""
    folder = tmp_path_factory.mktemp('points')
    few = ['parallel.devices=1', 'tensorboard=False', 'evaluation.every=2 steps']
    early = ['early_stopping.metric=validation/loss', 'early_stopping.patience=1', 'early_stopping.min_delta=100.0',
             'total=10 steps']
    for name, spec, how in (('plane', 'points:separable', ['total=4 steps']), ('curve', 'polynomial', early)):
        assert train(config_lib.load(spec, [*few, *how]), folder / name) == 0
    return folder


def test_regions_and_curves_are_pictures_and_films(runs):
    for name, figure in (('plane', 'regions'), ('curve', 'fit')):
        assert Image.open(runs / name / f'{figure}.png').size[0] > 400
        assert Image.open(runs / name / f'{figure}_film.gif').n_frames == 2


def test_a_region_has_the_colour_of_its_class():
    """Left of zero the first class, right the second, surely."""
    def probabilities(points):
        right = (points[:, 0] > 0).astype(float)
        return np.stack([1 - right, right], axis=1)
    points = {'x': np.float32([[-1, -1], [1, 1]]), 'label': np.int32([0, 1])}
    figure = fit_figures.draw_regions(probabilities, {'train': points}, ('blue', 'orange'))
    picture = figure.axes[0].images[0].get_array()
    red, _, blue = np.moveaxis(picture[80], -1, 0)
    assert (blue[:75] > red[:75]).all() and (red[85:] > blue[85:]).all()


def test_numbers_are_predicted_from_the_command_line(runs, tmp_path, capsys):
    plane, curve = practicum.load(runs / 'plane'), practicum.load(runs / 'curve')
    assert predict_numbers(curve, ['0.5', '-1'], form='json') == 0
    rows = json.loads(capsys.readouterr().out)
    expected = curve.predict(np.float32([0.5, -1]))
    assert [(row['file'], row['value']) for row in rows] == [('0.5', pytest.approx(expected[0]['value'])),
                                                            ('-1', pytest.approx(expected[1]['value']))]
    assert predict_numbers(plane, ['0.5,-1'], top_k=1, output=tmp_path / 'found.csv') == 0
    header, row = (tmp_path / 'found.csv').read_text().splitlines()
    assert header == 'file,class_1,percent_1' and row.startswith('"0.5,-1",')


@pytest.mark.parametrize('name, inputs, message', [
    ('curve', ['cat.png'], "'cat.png' is not a number, and this run was trained on numbers"),
    ('curve', ['nan'], "'nan' is not a number"),
    ('curve', ['1,2'], 'gives 2 numbers for this example, it learned to give 1'),
    ('plane', ['1,2', '3'], r"'3' is 1 number\(s\), an example has 2"),
    ('plane', ['1,2,3'], r'is 3 number\(s\), an example has 2'),
])
def test_what_is_no_example_is_refused(runs, name, inputs, message):
    with pytest.raises(UserError, match=message):
        predict_numbers(practicum.load(runs / name), inputs)
