"""Names, places and sizes of files that `predict`, `embed` and `neighbors` meet in the wild."""

import csv
import io
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from practicum.common.errors import UserError, printable
from practicum.inference import detection_files, output_folder, prediction
from practicum.inference.formats import format_csv
from practicum.inference.image_index import Index
from practicum.inference.run import Run

LATIN1 = os.fsdecode(b'caf\xe9.png')  # as ZIPs from Windows unpack


def csv_rows(text):
    return list(csv.reader(io.StringIO(text)))


def test_what_a_terminal_would_obey_is_escaped():
    assert printable('a ä 猫 b') == 'a ä 猫 b'
    assert printable('\x1b[2J\n\t\x00') == r'\x1b[2J\n\t\x00'
    assert printable(LATIN1) == r'caf\xe9.png'
    assert printable('\u202egnp.exe') == r'\u202egnp.exe'  # text from right to left


@pytest.mark.parametrize('name', [LATIN1, 'a\x1b[31m.png', 'two\nlines.png'])
def test_any_file_name_is_predicted_and_shown(name, call_launch, trained_run, digit_files, tmp_path):
    file = shutil.copy(digit_files / '0.png', tmp_path / name)
    args = ('predict', '--workdir', trained_run, file)
    table = call_launch(*args)
    assert table.code == 0 and printable(name) in table.out and len(table.out.splitlines()) == 1
    assert '\x1b' not in table.out + call_launch(*args, '--format', 'csv').out
    row, = json.loads(call_launch(*args, '--format', 'json').out)
    assert row['file'] == str(file)  # programs get the very name
    for suffix in ('csv', 'txt', 'json'):
        assert call_launch(*args, '--output', tmp_path / f'out.{suffix}').code == 0
        assert (tmp_path / f'out.{suffix}').stat().st_size > 0
    assert csv_rows((tmp_path / 'out.csv').read_text())[1][0] == printable(str(file))


def test_errors_do_not_reach_the_terminal_as_commands(call_launch, trained_run, tmp_path):
    (tmp_path / 'a\x1b[2J.png').write_text('no image')
    result = call_launch('predict', '--workdir', trained_run, tmp_path)
    assert result.code == 2 and r'a\x1b[2J.png' in result.err and '\x1b' not in result.err


def test_formulas_are_texts_in_csv():
    rows = [{'file': '=cmd()', 'label': '@x', 'n': -1.5}, {'file': '+1', 'label': '-', 'n': 2}, {'file': 'a=b', 'label':
            'x-y', 'n': 0}]
    assert csv_rows(format_csv(rows)) == [['file', 'label', 'n'], ["'=cmd()", "'@x", '-1.5'],
                                                     ["'+1", "'-", '2'], ['a=b', 'x-y', '0']]


def test_formulas_are_texts_in_the_table_of_boxes_too(tmp_path):
    image = detection_files.FoundBoxes('=1.png', 9, 9, np.array([[1.0, 2, 3, 4]]), np.array([0.5]), np.array([0]))
    assert detection_files.write(tmp_path, {'1': image}, ('-2',), 0.1, ('csv',)) == {tmp_path / 'detections.csv'}
    assert csv_rows((tmp_path / 'detections.csv').read_text())[1][:2] == ["'=1.png", "'-2"]


def test_files_of_an_earlier_call_are_warned_of_and_stay(tmp_path, caplog):
    (tmp_path / 'more').mkdir()
    files = [tmp_path / name for name in ('a.png', 'more/b.txt', 'predictions.json')]
    for file in files:
        file.touch()
    output_folder.warn_of_others(tmp_path, set(files))
    assert not caplog.messages
    output_folder.warn_of_others(tmp_path, files[2:])
    assert caplog.messages == [f'{tmp_path} holds 2 other file(s), of an earlier call perhaps, such as a.png: nothing '
                               'is deleted'] and all(file.exists() for file in files)


def test_a_failed_write_loses_no_earlier_result(call_launch, trained_run, digit_files, tmp_path, monkeypatch):
    output = tmp_path / 'out.csv'
    output.write_text('earlier')

    def fail(*args):
        raise OSError(28, os.strerror(28))
    monkeypatch.setattr(prediction, 'write_text', fail)
    result = call_launch('predict', '--workdir', trained_run, digit_files, '--output', output)
    assert (result.code, result.err) == (2, f'error: cannot write {output}: No space left on device\n')
    assert output.read_text() == 'earlier'


@pytest.mark.parametrize('name', ['..jpg', '...jpg', '.jpg', 'a..jpg'])
def test_no_file_name_leads_out_of_the_output_folder(name, tmp_path):
    file, folder = tmp_path / 'in' / name, tmp_path / 'out'
    file.parent.mkdir()
    file.touch()
    names = prediction.find_image_files([str(file)], None, [])
    written = prediction._write_files(folder / next(iter(names.values())), {'mask.png': np.zeros((2, 2), np.uint8)})
    assert [Path(path).parent for path in written] == [folder]
    assert {path.name for path in tmp_path.iterdir()} == {'in', 'out'}


def test_the_step_is_named(call_launch, trained_run, digit_files, tmp_path):
    args = ('predict', '--workdir', trained_run, digit_files / '0.png')
    assert call_launch(*args).err == f'step 48 (best) of {trained_run}\n'
    assert call_launch(*args, '--step', 48, '--format', 'csv').err == f'step 48 of {trained_run}\n'
    result = call_launch(*args, '--step', 'last', '--output', tmp_path / 'out.csv')
    assert '1 prediction(s) of step 48 (last) written to' in result.out


@pytest.mark.parametrize('content', [b"{'descr': (", b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b'9' * 30
                                     + b',)}', b'{[]: 1}', b'\xff\xfe'])
def test_a_damaged_index_is_one_line(content, tmp_path):
    import zipfile
    header = b'\x93NUMPY\x01\x00' + len(content).to_bytes(2, 'little') + content
    with zipfile.ZipFile(tmp_path / 'index.npz', 'w') as archive:
        archive.writestr('format.npy', header)
    with pytest.raises(UserError, match='damaged or not an index'):
        Index.load(tmp_path / 'index.npz')


def test_loading_a_run_reads_its_checkpoint_once(trained_run, monkeypatch):
    from practicum.training import checkpoints
    reads, read = [], checkpoints.read
    monkeypatch.setattr(checkpoints, 'read', lambda *args: reads.append(args) or read(*args))
    run = Run(trained_run)
    run.predict(np.zeros((8, 8), np.uint8))
    run.evaluate('test')
    assert len(reads) == 1
