"""Predictions of a list: paths and addresses in a table, answers in a table that a spreadsheet program opens."""

import csv
import http.server
import io
import json
import re
import threading

import pytest

from practicum.common.errors import UserError
from practicum.inference import download, formats, image_list


@pytest.fixture(scope='module')
def web(digit_files):
    """The address of a server of this machine: digits as /<n>.png, and what goes wrong elsewhere."""
    waiting = threading.Event()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            if self.path == '/elsewhere':
                self.send_response(302)
                self.send_header('Location', '/2.png')
                self.end_headers()
            elif self.path == '/ftp':
                self.send_response(302)
                self.send_header('Location', 'ftp://127.0.0.1/x.png')
                self.end_headers()
            elif self.path == '/slow':
                waiting.wait(5)
            elif self.path == '/half':
                self.send_response(200)
                self.send_header('Content-Length', '1000')
                self.end_headers()
                self.wfile.write(b'half')
            elif self.path == '/text':
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b'<html>')
            elif (digit_files / self.path[1:]).is_file():
                self.send_response(200)
                self.end_headers()
                self.wfile.write((digit_files / self.path[1:]).read_bytes())
            else:
                self.send_error(404)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    yield f'http://127.0.0.1:{server.server_port}'
    waiting.set()
    server.shutdown()
    server.server_close()


def table(path, *rows) -> str:
    with path.open('w', newline='') as file:
        csv.writer(file).writerows(rows)
    return str(path)


def read_table(path):
    with path.open(newline='', encoding='utf-8-sig') as file:
        return list(csv.DictReader(file))


def test_paths_and_addresses_are_answered_and_errors_lose_nothing(call_launch, trained_run, digit_files, tmp_path, web):
    (tmp_path / 'pictures').symlink_to(digit_files)
    (tmp_path / 'bad.png').write_bytes(b'no picture')
    given = [['note', 'Image', 'error'], ['=1+1', 'pictures/0.png', 'x'], ['-1.5', f'{web}/1.png', ''],
             ['gone', f'{web}/none.png', ''], ['', 'bad.png', ''], ['', '', ''], ['text', f'{web}/text', ''],
             ['other', 'ftp://host/x.png', ''], ['again', str(digit_files / '0.png'), ''],
             ['away', f'{web}/elsewhere', '']]
    listed = table(tmp_path / 'list.csv', *given)
    answers = tmp_path / 'new' / 'answers.csv'
    done = call_launch('predict', '--workdir', trained_run, listed, '--output', answers, '--top_k', 1)
    rows = read_table(answers)
    assert done.code == 2 and '4 of 8 row(s) answered' in done.out  # a row of nothing is none
    assert list(rows[0]) == ['note', 'Image', 'error', 'class_1', 'percent_1', 'predicted_error']
    assert [bool(row['class_1']) for row in rows] == [True, True, False, False, False, False, True, True]
    assert [row['Image'] for row in rows] == [cells[1] for cells in given[1:] if any(cells)]
    assert [row['note'] for row in rows] == ["'=1+1", '-1.5', 'gone', '', 'text', 'other', 'again', 'away']
    alone = call_launch('predict', '--workdir', trained_run, *(digit_files / f'{i}.png' for i in range(3)), '--format',
                        'csv', '--top_k', 1)
    expected = [row['class_1'] for row in csv.DictReader(io.StringIO(alone.out))]
    assert [rows[i]['class_1'] for i in (0, 1, 7)] == expected and rows[6]['percent_1'] == rows[0]['percent_1']
    lines = [line for line in done.err.splitlines() if line.startswith('error:')]
    for line, row, words in zip(lines, rows[2:6], ('none.png: the server answers 404', 'bad.png: is not a BMP',
                                                   'text: is not a BMP', 'ftp://host/x.png: is neither a path nor'),
                                strict=True):
        assert words in line and words in row['predicted_error'] and 'list.csv, line ' in line


def test_a_list_comes_out_as_json_and_on_the_console(call_launch, trained_run, digit_files, tmp_path):
    listed = table(tmp_path / 'list.csv', ['file', 'wie'], [digit_files / '3.png', 'schön'], ['nowhere.png', 'x'])
    done = call_launch('predict', '--workdir', trained_run, listed, '--output', tmp_path / 'out.json')
    rows = json.loads((tmp_path / 'out.json').read_text())
    assert done.code == 2 and len(rows[0]['classes']) == 3 and rows[0]['wie'] == 'schön' and rows[0]['error'] == ''
    assert 'classes' not in rows[1] and 'no such file' in rows[1]['error']
    shown = call_launch('predict', '--workdir', trained_run, listed, '--format', 'csv').out
    assert shown.startswith('file,wie,class_1')
    call_launch('predict', '--workdir', trained_run, listed, '--output', tmp_path / 'out.csv')
    assert (tmp_path / 'out.csv').read_text() == f'\ufeff{shown}'  # not ASCII: marked for spreadsheet programs
    assert ' %' in call_launch('predict', '--workdir', trained_run, listed).out


@pytest.mark.parametrize('header, args, words', [
    (['a', 'b'], (), 'none of a, b is called like the column of paths or addresses: name it with --column'),
    (['file', 'url'], (), 'file and url could both be the column'),
    (['a', 'b'], ('--column', 'c'), "--column: .* has no column 'c'; there are: a, b"),
    (['file;class'], (), 'separated by semicolons'),
    (['a', 'missing.jpg'], (), 'but missing.jpg is an image: put a line above'),
    (['https://example.org/a.png'], (), 'first line should name the columns, but https://example.org/a.png is'),
    (['file'], ('--output', 'answers.xlsx'), 'ends in .csv, which spreadsheet programs open'),
    (['file'], ('--output', 'answers.txt', '--format', 'json'), 'is for --format table; end it in .json'),
    (['file'], ('--output', 'answers.json', '--format', 'csv'), 'is for --format json; end it in .csv'),
    (['file'], ('--output', 'list.csv'), 'is the list itself'),
    (['file'], ('--heat_map',), '--heat_map writes files for each image'),
    (['file'], ('other.png',), 'is a table: give it alone'),
])
def test_mistakes_in_a_list_are_one_line(header, args, words, call_launch, trained_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    table(tmp_path / 'list.csv', header, ['x'] * len(header))
    done = call_launch('predict', '--workdir', trained_run, 'list.csv', *args)
    assert done.code == 2 and len(done.err.strip().splitlines()) == 1
    assert re.search(words, done.err)


def test_a_column_without_a_list_is_a_mistake(call_launch, trained_run, digit_files):
    done = call_launch('predict', '--workdir', trained_run, digit_files, '--column', 'file')
    assert done.code == 2 and '--column file is for a .csv' in done.err


@pytest.mark.parametrize('path, limits, words', [
    ('/slow', {'timeout': 0.1}, 'no answer within 0.1 s'),
    ('/0.png', {'most_bytes': 20}, 'is larger than 0 MiB'),
    ('/0.png', {'most_seconds': -1}, 'took longer'),
    ('/half', {}, 'was cut off after 4 of 1,000 bytes|cannot be fetched'),
    ('/ftp', {}, 'cannot be fetched: it leads to ftp://127.0.0.1/x.png'),
])
def test_what_cannot_be_fetched_is_one_line_with_its_address(path, limits, words, web):
    with pytest.raises(UserError, match=f'{web}{path}: ({words})') as error:
        download.fetch(f'{web}{path}', **limits)
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('address', ['http://', 'http://127.0.0.1:1/x', 'http://[::1', 'http://a..b/', 'http://h:port/',
                                     'http://127.0.0.1/a b', 'file:///etc/hostname', '/etc/hostname'])
def test_no_address_escapes_as_a_traceback_or_reads_a_file(address):
    with pytest.raises(UserError):
        download.fetch(address, timeout=0.2)


def test_numbers_are_no_formulas():
    rows = [{'a': text} for text in ('-1.5', '+2e-3', '-.5', '-1+cmd', '@x', '+', '- 1', '-١')]
    found = formats.format_csv(rows, numbers=True).splitlines()[1:]
    assert found == ['-1.5', '+2e-3', '-.5', "'-1+cmd", "'@x", "'+", "'- 1", "'-١"]


def test_an_answer_never_overwrites_a_column_of_the_list():
    assert image_list._free_names(['class_1', 'error'], ['class_1', 'predicted_class_1', 'a']) == {
        'class_1': 'predicted_predicted_class_1', 'error': 'error'}
