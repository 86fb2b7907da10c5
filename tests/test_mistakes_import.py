"""The user errs in `launch.py import`: one line that says what to do, and nothing is written."""

import numpy as np
import pytest
from safetensors.numpy import save_file

from practicum import models
from tests import tiny_network, torch_files
from tests.test_mistakes import assert_one_line
from tests.torch_files import Call, Name


@pytest.fixture
def call_import(call_launch, monkeypatch, tmp_path):
    """Returns call(*options, **changed options): an import of tmp_path/tiny.safetensors that would work."""
    monkeypatch.setitem(models.MODELS, 'tiny_net', tiny_network.TinyNet)
    save_file(tiny_network.state_dict(), tmp_path / 'tiny.safetensors')

    def call(*more, **changes):
        options = {'from': 'torchvision', 'arch': 'tiny_net', 'weights': tmp_path / 'tiny.safetensors',
                   'output': tmp_path / 'out', **changes}
        return call_launch('import', *(word for key, value in options.items() for word in (f'--{key}', value)), *more)
    return call


def rewrite(path, **changes):
    """Writes the weights with other or without some (None) arrays; '__' in a keyword is a dot."""
    arrays = tiny_network.state_dict() | {name.replace('__', '.'): value for name, value in changes.items()}
    save_file({name: value for name, value in arrays.items() if value is not None}, path)
    return path


@pytest.mark.parametrize('changes, parts', [
    ({'from': 'torchvison'}, ('--from torchvison', 'did you mean torchvision?')),
    ({'arch': 'resnet5'}, ('--arch resnet5', 'did you mean resnet50?')),
    ({'arch': 'resnet50', 'from': 'lpips'}, ('--arch resnet50', 'alexnet, vgg16')),
    ({'weights': 'nowhere.pth'}, ('nowhere.pth: No such file',)),
    ({'weights': '.'}, ('.: Is a directory',)),
    ({'class_names': 'nowhere.txt'}, ('nowhere.txt: No such file',)),
])
def test_a_wrong_word_is_one_line(changes, parts, call_import, tmp_path):
    assert_one_line(call_import(**changes), *parts)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('changes', [{'from': 'x' * 5000}, {'arch': 'x' * 5000}, {'arch': 'resnet50' * 500}])
def test_a_mistake_in_a_long_word_is_a_line_that_one_can_read(changes, call_import, tmp_path):
    result = call_import(**changes)
    assert_one_line(result, 'x ... x' if 'from' in changes else ' ... ')
    assert len(result.err) < 1000
    assert not (tmp_path / 'out').exists()


def test_a_long_reason_keeps_its_begin_and_its_end(call_import, tmp_path):
    path = rewrite(tmp_path / 'other.safetensors', **{'fc1.' + 'l' * 5000: np.ones(1)})
    result = call_import(weights=path)
    assert_one_line(result, f'{path}: these are not the weights of tiny_net: fc1.lll', '--arch')
    assert len(result.err) < 320 + len(str(path))


@pytest.mark.parametrize('options, parts', [
    (('--std', 0.5, 0, 0.5), ('--mean and --std are of pixels in [0, 1]',)),
    (('--mean', 'nan', 0, 0), ('--mean and --std',)),
    (('--mean', 0.5, 0.5), ('--mean', 'expected 3')),
    (('--size', 0, 224), ('--size 0 224', 'height and width')),
    (('--size', 'large', 224), ('--size', "'large'")),
    (('--meen', 0, 0, 0), ('--meen', 'did you mean --mean?')),
    (('--config.seed=1',), ('import takes no --config.seed=1',)),
])
def test_a_wrong_option_is_one_line(options, parts, call_import, tmp_path):
    assert_one_line(call_import(*options), *parts)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('changes, parts', [
    ({'fc1__bias': None}, ('not the weights of tiny_net', 'no tensor for params/hidden/bias;', '--arch')),
    ({'fc1__bias': None, 'fc1__weight': None}, ('no tensor for params/hidden/bias (and 1 more)',)),
    ({'features__0__conv__weight': np.zeros((5, 3, 5, 5))},
     ('features.0.conv.weight has shape (5, 3, 5, 5), tiny_net needs (5, 3, 3, 3) there',)),
    ({'fc1__weight': np.zeros((7, 119))}, ('fc1.weight has shape (7, 119), tiny_net needs (7, 120) there',)),
    ({'fc2__bias': np.zeros(4)}, ('fc2.', 'there',)),
    ({'fc2__weight': np.zeros(7)}, ('fc2.weight has shape (7,)',)),
    ({'fc1__bias': np.full(7, np.nan)}, ('fc1.bias holds a NaN',)),
    ({'fc1__bias': np.full(7, 1e300)}, ('fc1.bias holds a NaN or an infinity',)),
    ({'fc1__bias': np.full(7, True)}, ('fc1.bias is of type bool',)),
    ({'features__1__conv__weight': np.zeros((5, 5, 3, 3))}, ('features.1.conv.weight has no place in tiny_net',)),
])
def test_tensors_that_do_not_fit_are_one_line(changes, parts, call_import, tmp_path):
    path = rewrite(tmp_path / 'other.safetensors', **changes)
    assert_one_line(call_import(weights=path), str(path), *parts)
    assert not (tmp_path / 'out').exists()


def test_another_architecture_is_named(call_import, tmp_path):
    save_file(tiny_network.state_dict(depth=2), tmp_path / 'deep.safetensors')
    assert_one_line(call_import(weights=tmp_path / 'deep.safetensors'), 'these look like tiny_net_deep',
                    '--arch tiny_net_deep')
    assert_one_line(call_import(arch='tiny_net_deep'), 'these look like tiny_net: --arch tiny_net')
    assert_one_line(call_import(arch='vgg11'), 'these look like tiny_net: --arch tiny_net')


def test_a_file_that_is_damaged_or_would_run_code_is_one_line(call_import, tmp_path):
    path = tmp_path / 'w.pth'
    path.write_bytes(b'')
    assert_one_line(call_import(weights=path), f'{path}: it is empty')
    path.write_bytes((tmp_path / 'tiny.safetensors').read_bytes()[:-10])
    assert_one_line(call_import(weights=path), f'{path}: it is damaged or cut off')
    np.savez(tmp_path / 'words.npz', **tiny_network.state_dict() | {'fc2.bias': np.array(['a', 'b', 'c'])})
    assert_one_line(call_import(weights=tmp_path / 'words.npz'), 'fc2.bias is of type <U1, not of real numbers')
    torch_files.write_zip(path, Call(Name('os', 'system'), (f'touch {tmp_path / "made"}',)))
    assert_one_line(call_import(weights=path), f'{path}: needs os.system', 'convert it to safetensors')
    assert not (tmp_path / 'made').exists() and not (tmp_path / 'out').exists()


@pytest.mark.parametrize('name, content, parts', [
    ('names.txt', 'a\nb\n', ('it has 2 names, the weights have 3 classes',)),
    ('names.txt', 'a\n\nb\n', ('an empty line',)),
    ('names.json', '{"a": 1}', ('a list of names',)),
    ('names.json', '["a", "b"', ('cannot be read',)),
    ('names.txt', b'\xff\xfe\xff', ('cannot be read',)),
])
def test_class_names_that_do_not_fit_are_one_line(name, content, parts, call_import, tmp_path):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_one_line(call_import(class_names=tmp_path / name), str(tmp_path / name), *parts)
    assert not (tmp_path / 'out').exists()


def test_an_output_with_checkpoints_is_never_touched(call_import, tmp_path):
    assert call_import().code == 0
    before = sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / 'out').rglob('*'))
    assert_one_line(call_import(), f'--output {tmp_path / "out"} has checkpoints already')
    assert sorted((path, path.stat().st_mtime_ns) for path in (tmp_path / 'out').rglob('*')) == before
    assert_one_line(call_import(output=tmp_path / 'tiny.safetensors'), 'tiny.safetensors is a file; name a folder')
