"""What `launch.py measure` says of exported models, and what it refuses."""

import csv
import json
import logging
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.deployment import measure, measurements, operations, runtime
from practicum.deployment.export import export_run
from practicum.inference.run import Run

FAST = {'seconds': 0.01}


@pytest.fixture(scope='module')
def exported(trained_run, tmp_path_factory):
    """Two files of one run: for batches of any size, and for those of 2 and 4."""
    folder, run = tmp_path_factory.mktemp('exported'), Run(trained_run)
    export_run(run, folder / 'any.zip', platforms=('cpu',))
    export_run(run, folder / 'fixed.zip', platforms=('cpu',), sizes=(2, 4))
    return folder


@pytest.fixture(scope='module')
def rows(exported, trained_run):
    """What is found of a run, a file, and a file that takes batches of some sizes."""
    return measure.measure([exported / 'any.zip', exported / 'fixed.zip', exported / 'any.zip'], [3, 2, 2],
                           workdir=trained_run, precisions=['float32', 'bfloat16'], **FAST)


def test_a_row_for_each_model_and_size(rows):
    names = ['run (jit, float32)', 'run (jit, bfloat16)', 'any.zip', 'any.zip (2)', 'fixed.zip']
    assert [(row['file'], row['batch']) for row in rows if row['file'] != 'fixed.zip'] == [
        (name, batch) for name in names[:-1] for batch in (2, 3)]
    assert [row['batch'] for row in rows if row['file'] == 'fixed.zip'] == [2]  # it takes no 3
    assert json.loads(json.dumps(rows)) == rows and len({tuple(row) for row in rows}) == 1
    for row in rows:
        assert 0 < row['p50_ms'] <= row['p99_ms'] and row['calls'] >= 10 and row['cpu_ms_per_image'] > 0
        assert row['first_call_seconds'] * 1e3 > row['p50_ms']  # it compiles
        assert (row['megabytes'] is None) == row['file'].startswith('run')
        assert row['accuracy'] is None and row['labelled_images'] is None


def test_throughput_is_of_images(rows):
    for row in rows:  # half of the calls take p50 or longer
        assert 0 < row['images_per_second'] <= 2.1 * row['batch'] / (row['p50_ms'] / 1e3)
    assert [row['cpu_to_first'] for row in rows[:2]] == [row['p50_to_first'] for row in rows[:2]] == [1.0, 1.0]
    assert all(row['cpu_to_first'] > 0 for row in rows)


def test_an_export_has_the_operations_of_its_run(rows):
    counts = {row['file']: (row['operations_before'], row['operations_after']) for row in rows}
    assert counts['any.zip'] == counts['fixed.zip'] == counts['run (jit, float32)']
    assert counts['run (jit, bfloat16)'][0] > counts['any.zip'][0]  # conversions


def test_sizes_a_file_does_not_take(exported, caplog):
    with caplog.at_level(logging.WARNING):
        found = measure.measure([exported / 'fixed.zip'], [1, 2, 8], **FAST)
    assert [row['batch'] for row in found] == [2]
    assert 'fixed.zip takes batches of 2, 4 alone: it is not measured on 1, 8' in caplog.text
    with pytest.raises(UserError, match=r'--batches 1: fixed.zip takes batches of 2, 4 alone'):
        measure.measure([exported / 'fixed.zip'], [1], **FAST)


@pytest.mark.parametrize('share, expected', [(0.5, 50), (0.99, 99)])
def test_quantiles_are_of_all_calls(share, expected):
    assert measure.quantile(list(range(100, 0, -1)), share) == expected
    assert measure.quantile([7.0], share) == 7.0
    assert measure.quantile([*range(1, 100), 5000], 0.99) == 99  # one call in a hundred may be late


def test_first_calls_compile(exported, monkeypatch):
    """A program out of the cache would make them look quick; afterwards the cache is in use again."""
    used, call = [], runtime.Model.__call__
    monkeypatch.setattr(runtime.Model, '__call__', lambda model, inputs: used.append(
        jax.config.jax_enable_compilation_cache) or call(model, inputs))
    before = jax.config.jax_enable_compilation_cache
    measure.measure([exported / 'any.zip'], [2], **FAST)
    assert used and not any(used) and jax.config.jax_enable_compilation_cache == before


def test_a_busy_machine_is_said(monkeypatch, caplog):
    monkeypatch.setattr(measure.os, 'getloadavg', lambda: (0.1, 0, 0))
    measure.warn_of_load()
    assert not caplog.text
    monkeypatch.setattr(measure.os, 'getloadavg', lambda: (1000.0, 0, 0))
    measure.warn_of_load()
    assert 'times by wall clock mean little' in caplog.text


@pytest.fixture
def labelled(exported, digit_files, tmp_path):
    """Eight digits in folders named as what the model takes them for."""
    files = sorted(digit_files.glob('*.png'))
    for file, row in zip(files, runtime.Model(exported / 'any.zip', verify=False).predict(files)):
        (tmp_path / row['classes'][0]).mkdir(exist_ok=True)
        (tmp_path / row['classes'][0] / file.name).write_bytes(file.read_bytes())
    return tmp_path


def test_accuracy_counts_each_image_once(exported, trained_run, labelled):
    first = next(labelled.glob('*/*.png'))
    (first.parent / 'again.png').symlink_to(first)
    (labelled / 'notes.txt').write_text('not an image')

    def found():
        return {(row['accuracy'], row['labelled_images']) for row in measure.measure(
            [exported / 'any.zip'], [3], workdir=trained_run, labelled=labelled, **FAST)}
    assert found() == {(1.0, 8)}
    wrong = labelled / str((int(first.parent.name) + 1) % 10)
    wrong.mkdir(exist_ok=True)
    (first.parent / 'again.png').unlink()
    first.rename(wrong / 'wrong.png')
    if not list(first.parent.iterdir()):
        first.parent.rmdir()
    assert found() == {(0.875, 8)}


@pytest.mark.parametrize('path, expected', [
    ('eleven', "any.zip has no class 'eleven'"),
    ('3', 'no images in this folder'),
    ('stray.png', 'is in no class'),
    ('', 'has no class folders'),
    ('absent', 'no such folder'),
])
def test_labels_that_cannot_be_used(exported, tmp_path, path, expected):
    folder = tmp_path
    if path == 'absent':
        folder = tmp_path / path
    elif path.endswith('.png'):
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / path)
    elif path:
        (tmp_path / path).mkdir()
    with pytest.raises(UserError, match=expected) as caught:
        measure.measure([exported / 'any.zip'], [2], labelled=folder, **FAST)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('arguments, expected', [
    ({'paths': []}, 'nothing to measure'),
    ({'paths': ['model.pb']}, 'neither .zip nor .onnx'),
    ({'paths': ['absent.zip']}, 'no such file'),
    ({'batches': [0]}, '--batches 0'),
    ({'batches': []}, '--batches'),
    ({'seconds': 0.0}, '--seconds 0.0'),
    ({'precisions': ['float32']}, 'are for a --workdir'),
    ({'workdir': '.', 'precisions': ['float23']}, 'did you mean float32'),
])
def test_mistakes(arguments, expected):
    with pytest.raises(UserError, match=expected):
        measure.measure(**{'paths': ['absent.zip'], **arguments})


def test_operations_before():
    """Calls count as often as they are made, repeated values and shapes not at all."""
    @jax.jit
    def twice(x):
        return jax.nn.relu(x * 2.0 + x.shape[0])

    def function(x):
        return jax.lax.fori_loop(0, 5, lambda _, y: y - 1.0, twice(twice(x)).reshape(-1))
    x = jax.ShapeDtypeStruct((2, 3), jnp.float32)
    before, after = operations.count(jax.jit(function).lower(x))
    assert before == 2 * 3 + 1 and after > 0  # multiply, add, maximum; and subtract


def test_operations_after():
    """A fusion is one, what it calls is in it; what only names memory is none; a library's subgraph is what it does."""
    text = '''HloModule jit_f, is_scheduled=true

%fused (p: f32[2]) -> f32[2] {
  %p = f32[2]{0} parameter(0)
  %negate.1 = f32[2]{0} negate(%p)
  ROOT %exp.1 = f32[2]{0} exponential(%negate.1)
}

%parallel (p.1: f32[2]) -> f32[2] {
  %p.1 = f32[2]{0} parameter(0)
  ROOT %fusion.1 = f32[2]{0} fusion(%p.1), kind=kLoop, calls=%fused
}

%body (t: (f32[2], s32[])) -> (f32[2], s32[]) {
  %t = (f32[2]{0}, s32[]) parameter(0)
  %g = f32[2]{0} get-tuple-element(%t), index=0
  %copy.1 = f32[2]{0} copy(%g)
  ROOT %tuple.1 = (f32[2]{0}, s32[]) tuple(%copy.1, %copy.1)
}

%condition (t.1: (f32[2], s32[])) -> pred[] {
  %t.1 = (f32[2]{0}, s32[]) parameter(0)
  ROOT %compare.1 = pred[] compare(%t.1, %t.1), direction=LT
}

%library (p.2: f32[2], p.3: f32[]) -> f32[2] {
  %p.2 = f32[2]{0} parameter(0)
  %convolution.1 = f32[2]{0} convolution(%p.2, %p.2), window={size=5x5}, dim_labels=b01f_01io->b01f
  %maximum.1 = f32[2]{0} maximum(%convolution.1, %p.2)
  %dot.1 = f32[2]{0} dot(%maximum.1, %p.2), lhs_contracting_dims={0}
  ROOT %reduce-window.1 = f32[2]{0} reduce-window(%dot.1, %p.3), window={size=2}, to_apply=%fused
}

ENTRY %main (x: f32[2]) -> (f32[2], s32[]) {
  %x = f32[2]{0} parameter(0)
  %constant.1 = f32[] constant(1)
  %call.1 = f32[2]{0} call(%x), to_apply=%parallel
  %call.2 = f32[2]{0} call(%call.1), to_apply=%parallel
  %ynn_fusion = f32[2]{0} fusion(%call.2, %constant.1), kind=kCustom, calls=%library, backend_config={}
  %conv = (f32[2]{0}, u8[0]{0}) custom-call(%ynn_fusion), custom_call_target="conv"
  ROOT %while.1 = (f32[2]{0}, /*index=1*/s32[]) while(%conv), condition=%condition, body=%body
}
'''
    lowered = jax.jit(jnp.negative).lower(jnp.ones(2))
    compiled = types.SimpleNamespace(as_text=lambda: text)
    fake = types.SimpleNamespace(compiler_ir=lowered.compiler_ir, compile=lambda: compiled)
    assert operations.count(fake) == (1, 2 + 3 + 1 + 2)  # calls, the library, a custom call; in the loop copy, compare


def test_what_is_written(rows, tmp_path):
    about = measurements.surroundings(seconds=2.0)
    measurements.check_output(tmp_path / 'new' / 'folder')
    files = measurements.write(rows, about, tmp_path / 'new' / 'folder')
    assert [file.name for file in files] == ['measure.csv', 'measure.md', 'measure.png', 'measure.json']
    read = list(csv.DictReader(files[0].read_text().splitlines()))
    assert [float(row['p99_ms']) for row in read] == [row['p99_ms'] for row in rows]  # all digits
    lines = files[1].read_text().splitlines()
    assert len(lines) == len(rows) + 4 and '| any.zip | 2 |' in files[1].read_text() and 'Measured' in lines[-1]
    assert 'accuracy' not in lines[0]  # nothing is known of it
    image = np.asarray(Image.open(files[2]).convert('RGB'))
    assert image.std() > 10
    found = json.loads(files[3].read_text())
    assert found['rows'] == rows and found['seconds'] == 2.0
    assert {'command', 'date', 'processor', 'devices', 'cpu_cores', 'packages', 'load_average'} <= set(found)
    files = measurements.write(rows, about, tmp_path / 'table.md')
    assert sorted(file.name for file in files) == ['table.json', 'table.md']


@pytest.mark.parametrize('name, expected', [('table.txt', 'end --output with'), ('file/below', 'cannot be made'),
                                            ('folder.csv', 'is a folder')])
def test_outputs_that_cannot_be(tmp_path, name, expected):
    (tmp_path / 'file').write_text('')
    (tmp_path / 'folder.csv').mkdir()
    with pytest.raises(UserError, match=expected):
        measurements.check_output(tmp_path / name)


def test_the_command(exported, tmp_path, call_launch):
    done = call_launch('measure', exported / 'any.zip', '--batches', '2', '--seconds', '0.01', '--output',
                       tmp_path / 'table.csv')
    header, rule, line = done.out.splitlines()
    assert done.code == 0 and header.split()[:2] == ['file', 'batch'] and line.split()[:2] == ['any.zip', '2']
    assert 'table.json' in done.err and (tmp_path / 'table.csv').exists()
    done = call_launch('measure', exported / 'any.zip', '--output', tmp_path / 'table.txt')
    assert done.code == 2 and done.err.startswith('error: ') and len(done.err.splitlines()) == 1
