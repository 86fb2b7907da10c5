"""Promises of `launch.py serve`: deployment/server.py, service.py, model_store.py, protocol.py, serving.py."""

import http.client
import io
import json
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from practicum.common.errors import UserError
from practicum.deployment import serving
from practicum.deployment.runtime import Model
from practicum.deployment.server import Limits
from practicum.tasks.classification import Classification
from tests.conftest import ROOT
from tests.deployment.running import PREDICT, Running, in_threads, png, wait_for

INFER = '/v2/models/digits/infer'


@pytest.fixture(scope='module')
def model(exported):
    return Model(exported, largest=4)


@pytest.fixture(scope='module')
def running(exported):
    found = Running(exported, limits=Limits(max_batch=4, max_body=200_000, max_pixels=1_000_000))
    yield found
    found.stop()


@pytest.fixture
def own(exported, request):
    """A server of its own, for tests that hold it up; `request.param` are its limits."""
    found = Running(exported, limits=Limits(max_batch=2, **request.param))
    yield found
    found.stop()


def tensor(**changed) -> dict:
    return {'name': 'image', 'shape': [1, 8, 8, 1], 'datatype': 'UINT8', 'data': [0] * 64} | changed


def infer_body(**changed) -> str:
    return json.dumps({'inputs': [tensor(**changed)]})


# --- what is answered ---

def test_an_image_is_told_what_predict_says(running, model, tmp_path):
    for content in (png(), png((300, 200), 'RGB', 'JPEG', quality=99)):  # one that the worker reads, one for the pool
        (tmp_path / 'image').write_bytes(content)
        expected, = model.predict(tmp_path / 'image', top_k=2)
        del expected['file']
        status, _, said = running.ask(PREDICT + '?top_k=2', content)
        assert status == 200 and said['prediction']['classes'] == expected['classes']
        assert said['prediction']['percent'] == pytest.approx(expected['percent'], abs=1e-3)
        assert (said['model_name'], said['model_version']) == ('digits', '1') and said['milliseconds'] > 0


def test_the_negative_can_be_asked_about(running):
    image = Image.open(io.BytesIO(png()))
    file = io.BytesIO()
    Image.fromarray(255 - np.asarray(image)).save(file, 'PNG')
    _, _, negative = running.ask(PREDICT + '?invert=true', png_of(image))
    assert negative['prediction'] == running.ask(PREDICT, file.getvalue())[2]['prediction']


def png_of(image) -> bytes:
    file = io.BytesIO()
    image.save(file, 'PNG')
    return file.getvalue()


@pytest.mark.parametrize('rows', [1, 3, 9])  # 9 are three batches
def test_tensors_are_answered_as_the_model_answers(running, model, rows):
    pixels = np.random.default_rng(rows).integers(0, 256, (rows, 8, 8, 1), np.uint8)
    body = {'id': 'a\u00e4\ud800', 'inputs': [tensor(shape=[rows, 8, 8, 1], data=pixels.tolist())]}
    status, _, said = running.ask(INFER, json.dumps(body))
    assert status == 200 and said['id'] == body['id'] and said['model_name'] == 'digits'
    output, = said['outputs']
    assert (output['name'], output['datatype'], output['shape']) == ('logits', 'FP32', [rows, 10])
    np.testing.assert_allclose(np.reshape(output['data'], (rows, 10)), model({'image': pixels})['logits'], atol=1e-5)
    flat = running.ask(INFER, infer_body(shape=[rows, 8, 8, 1], data=pixels.ravel().tolist()))
    assert flat[2]['outputs'] == said['outputs']


def test_no_row_is_answered_with_none(running):
    status, _, said = running.ask(INFER, infer_body(shape=[0, 8, 8, 1], data=[]))
    assert status == 200 and said['outputs'][0]['shape'] == [0, 10] and said['outputs'][0]['data'] == []


def test_the_protocols_other_addresses(running):
    ask = running.ask
    assert ask('/v2')[2]['name'] == 'practicum'
    assert ask('/v2/health/live')[2] == {'live': True} and ask('/v2/health/ready')[2] == {'ready': True}
    assert ask('/v2/models')[2] == {'models': ['digits']}
    for path in ('/v2/models/digits', '/v2/models/digits/versions/1'):
        told = ask(path)[2]
        assert told['inputs'] == [{'name': 'image', 'datatype': 'UINT8', 'shape': [-1, 8, 8, 1]}]
        assert told['outputs'] == [{'name': 'logits', 'datatype': 'FP32', 'shape': [-1, 10]}]
        assert told['versions'] == ['1'] and told['parameters']['labels'] == list('0123456789')
        assert ask(path + '/ready')[2] == {'name': 'digits', 'ready': True}
        assert ask(path + '/infer', infer_body())[0] == 200


def test_metrics_count_what_was_asked(running):
    def value(line):
        text = running.ask('/metrics')[2].decode()
        return next((float(row.split()[-1]) for row in text.splitlines() if row.startswith(line)), 0)
    line = 'practicum_requests_total{model="digits",operation="predict",status="%d"}'
    before = value(line % 200), value(line % 400)
    running.ask(PREDICT, png())
    running.ask(PREDICT, b'no image')
    assert (value(line % 200), value(line % 400)) == (before[0] + 1, before[1] + 1)
    assert value('practicum_batch_rows_count{model="digits"}') > 0 and value('practicum_waiting') == 0
    assert value('practicum_request_seconds_count{model="digits",operation="predict"}') > 0


# --- what is refused ---

BAD_TENSORS = [
    {'name': 'images'}, {'name': 3}, {'name': None}, {'name': 'x' * 10_000}, {'shape': [8, 8]}, {'shape': [1, 8, 8, 2]},
    {'shape': [-1, 8, 8, 1]}, {'shape': [1.0, 8, 8, 1]}, {'shape': [True, 8, 8, 1]}, {'shape': '1'}, {'shape': None},
    {'shape': [10**30]}, {'shape': [0, 2**40, 2**40], 'data': []},
    {'shape': [1] * 40}, {'shape': []}, {'shape': [2, 8, 8, 1]}, {'datatype': 'FP32'},
    {'datatype': 'uint8'}, {'datatype': 'BYTES'}, {'datatype': 8}, {'datatype': []}, {'data': [0] * 63},
    {'data': [256] + [0] * 63}, {'data': [-1] + [0] * 63}, {'data': [0.5] * 64}, {'data': ['0'] * 64},
    {'data': ['x' * 1000] + [0] * 63}, {'data': [None] * 64}, {'data': [{}] * 64}, {'data': [[0], [0, 0]]},
    {'data': [10**30] * 64}, {'data': [10**400] * 64}, {'data': 'AAAA'}, {'data': None}, {'data': {}}, {'data': 5},
    {'data': [True] * 64, 'datatype': 'FP32'}, {'data': [[[[0] * 8] * 8]]}]
BAD_JSON = [
    b'', b'{', b'nothing', b'[]', b'3', b'null', b'"text"', b'{}', b'{"inputs": []}', b'{"inputs": {}}',
    b'{"inputs": null}', b'{"inputs": [3]}', b'{"inputs": [{}]}', b'\xff\xfe', b'\x00' * 100, b'[' * 100_000,
    b'{"inputs":' * 10_000, b'1' * 10_000, infer_body().replace('[0,', '[NaN,').encode(),
    infer_body().replace('[0,', '[Infinity,').encode(), infer_body().replace('[0,', '[1e999,').encode(),
    json.dumps({'inputs': [tensor(), tensor()]}).encode(), json.dumps({'inputs': [tensor()], 'id': 3}).encode(),
    json.dumps({'inputs': [tensor()], 'outputs': 'logits'}).encode(),
    json.dumps({'inputs': [tensor()], 'outputs': [{'name': 'logit'}]}).encode(), png()]
BAD_IMAGES = [
    b'', b'hello', b'\x89PNG\r\n\x1a\n', png()[:60], png(form='BMP')[:-20], png(form='JPEG')[:300], b'GIF89a',
    b'%!PS\n1 0 div', b'<svg xmlns="http://www.w3.org/2000/svg"/>', b'\x00' * 5000, b'\x00' * 128 + b'DICM',
    b'RIFF\x00\x00\x00\x00WEBP', b'II*\x00\x08\x00\x00\x00\xff\xff', b'P5 99999 99999 255\n', b'BM' + b'\xff' * 60]


def bad_bodies():
    yield from ((INFER, infer_body(**changed).encode()) for changed in BAD_TENSORS)
    yield from ((INFER, body) for body in BAD_JSON)
    yield from ((PREDICT, body) for body in BAD_IMAGES)


def test_bad_bodies_are_told_in_one_line_what_is_wrong(running):
    cases = list(bad_bodies())
    assert len(cases) >= 60
    wrong = []
    for path, body in cases:
        status, _, said = running.ask(path, body)
        line = said.get('error', '') if isinstance(said, dict) else ''
        if not (400 <= status < 500 and list(said) == ['error'] and 8 < len(line) < 400 and line.isprintable()):
            wrong.append((path, body[:80], status, said))
    assert wrong == []
    assert running.ask(PREDICT, png())[0] == 200  # and the server goes on


@pytest.mark.parametrize('path, body, status, words', [
    ('/v2/models/digit/infer', '{}', 404, 'did you mean digits?'),
    ('/v2/models/digits/versions/2/infer', '{}', 404, 'there are: 1'),
    ('/v2/models/digit', None, 404, 'digits'), ('/v2/models/digits/versions/9/ready', None, 404, '1'),
    ('/nowhere', None, 404, '/nowhere'), (PREDICT, None, 405, 'GET'), ('/v2', '{}', 405, 'POST'),
    (PREDICT + '?top_k=0', b'x', 400, 'top_k'), (PREDICT + '?top_k=%D9%A3', b'x', 400, 'top_k'),
    (PREDICT + '?invert=yes', b'x', 400, 'invert'), (PREDICT + '?topk=3', b'x', 400, "'topk'"),
    (PREDICT + '?top_k=2&top_k=3', png(), 400, 'top_k is given twice'), (PREDICT + '?files=all', png(), 400, 'none'),
    (PREDICT + '?files=mask.png', png(), 400, 'mask.png'), ('/v2/models/digits/', None, 404, 'no such address'),
])
def test_what_else_is_refused(running, path, body, status, words):
    found, _, said = running.ask(path, body)
    assert found == status and words in said['error'] and '\n' not in said['error']


def test_what_tells_one_answer_is_not_asked_for_several(running, monkeypatch):
    monkeypatch.setattr(Classification, 'takes_top_k', False)
    status, _, said = running.ask(PREDICT + '?top_k=2', png())
    assert status == 400 and said['error'] == 'top_k is for classifiers; the task of digits is classification'
    assert running.ask(PREDICT, png())[0] == 200
    assert running.ask('/v2/models/digits')[2]['parameters']['takes_top_k'] is False


def test_large_bodies_and_images_are_refused(running):
    status, _, said = running.ask(PREDICT, b'x' * 200_001)
    assert status == 413 and '200,000 bytes' in said['error']
    status, _, said = running.ask(PREDICT, iter([b'x' * 100_000] * 3))  # of a length not told
    assert status == 413
    for form in ('PNG', 'JPEG'):  # few bytes, many pixels
        file = io.BytesIO()
        Image.new('L', (1200, 1000)).save(file, form)
        assert len(file.getvalue()) < 200_000
        status, _, said = running.ask(PREDICT, file.getvalue())
        assert status == 413 and '1200x1000 pixels' in said['error']


# --- too many, too slow, gone ---

@pytest.mark.parametrize('own', [{'queue': 3}], indirect=True)
def test_a_full_queue_says_when_to_come_back(own):
    gate, service = own.shut('digits'), own.server.store.find('digits')
    answers = []
    threads = in_threads(1, lambda number: answers.append(own.ask(PREDICT, png())[0]))
    wait_for(lambda: gate.batches == [1])
    threads += in_threads(3, lambda number: answers.append(own.ask(PREDICT, png())[0]))
    wait_for(lambda: service.waiting == 3)
    for path, body in ((PREDICT, png()), (INFER, infer_body()), (PREDICT, png((300, 300)))):
        status, headers, said = own.ask(path, body)
        assert status == 503 and headers['retry-after'] == '1' and 'try again' in said['error']
    gate.open.set()
    for thread in threads:
        thread.join()
    assert answers == [200] * 4 and own.ask(PREDICT, png())[0] == 200


@pytest.mark.parametrize('own', [{'timeout': 0.3}], indirect=True)
def test_an_answer_that_takes_too_long_is_a_504(own):
    gate, service = own.shut('digits'), own.server.store.find('digits')
    status, _, said = own.ask(PREDICT, png())
    assert status == 504 and '0.3 s' in said['error'] and service.inside == 0
    status, _, said = own.ask(PREDICT, png())  # this one waited behind the first, and is not computed
    assert status == 504 and service.waiting == 0
    gate.open.set()
    assert own.ask(PREDICT, png())[0] == 200 and gate.batches == [1, 1]


@pytest.mark.parametrize('own', [{'timeout': 0.3}], indirect=True)
def test_a_body_that_does_not_come_is_a_408(own):
    with socket.create_connection(('127.0.0.1', own.port), timeout=30) as client:
        client.sendall(f'POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc'.encode())
        assert client.recv(1000).startswith(b'HTTP/1.1 408')


@pytest.mark.parametrize('own', [{}], indirect=True)
def test_a_client_that_goes_is_not_computed_for(own):
    gate, service = own.shut('digits'), own.server.store.find('digits')
    first = in_threads(1, lambda number: own.ask(PREDICT, png()))
    wait_for(lambda: gate.batches == [1])
    gone = own.connect()
    gone.request('POST', PREDICT, png())
    wait_for(lambda: service.waiting == 1)
    gone.close()
    wait_for(lambda: service.waiting == 0)
    gate.open.set()
    first[0].join()
    assert gate.batches == [1] and own.ask(PREDICT, png())[0] == 200


def test_requests_at_one_time_are_one_batch(exported):
    running = Running(exported, limits=Limits(max_batch=4))
    gate, service = running.shut('digits'), running.server.store.find('digits')
    answers = []
    threads = in_threads(1, lambda number: answers.append(running.ask(PREDICT, png())[0]))
    wait_for(lambda: gate.batches == [1])
    threads += in_threads(4, lambda number: answers.append(
        running.ask(*((PREDICT, png()) if number % 2 else (INFER, infer_body())))[0]))
    wait_for(lambda: service.waiting == 4)
    gate.open.set()
    for thread in threads:
        thread.join()
    running.stop()
    assert gate.batches == [1, 4] and answers == [200] * 5


# --- tokens ---

def test_a_token_guards_all_but_the_page_and_health(exported):
    running = Running(exported, token='secret-token')
    for path in ('/', '/page.js', '/v2/health/live', '/v2/health/ready'):
        assert running.ask(path)[0] == 200
    for headers in ({}, {'Authorization': 'Bearer'}, {'Authorization': 'Bearer other-token'},
                    {'Authorization': 'Basic secret-token'}, {'Authorization': 'secret-token'}):
        for path, body in ((PREDICT, png()), ('/v2/models', None), ('/metrics', None), ('/nowhere', None)):
            status, told, said = running.ask(path, body, headers)
            assert status == 401 and told['www-authenticate'] == 'Bearer' and 'token' in said['error']
    assert running.ask(PREDICT, png(), {'Authorization': 'Bearer secret-token'})[0] == 200
    assert running.ask('/v2/models', headers={'Authorization': 'bearer secret-token'})[0] == 200
    running.stop()


def test_tokens_come_from_a_file_or_the_environment(tmp_path, monkeypatch):
    file = tmp_path / 'token'
    file.write_text('a-long-token\n')
    monkeypatch.delenv(serving.TOKEN_VARIABLE, raising=False)
    assert serving.read_token(file) == 'a-long-token' and serving.read_token(None) == ''
    monkeypatch.setenv(serving.TOKEN_VARIABLE, 'another-token')
    assert serving.read_token(None) == 'another-token' and serving.read_token(file) == 'a-long-token'
    for content in (b'', b'short', b'two words here', b'one-line-here\nanother-line', b'\xff' * 20):
        file.write_bytes(content)
        with pytest.raises(UserError, match='one word of at least 8'):
            serving.read_token(file)
    monkeypatch.setenv(serving.TOKEN_VARIABLE, '')
    with pytest.raises(UserError, match='PRACTICUM_TOKEN'):
        serving.read_token(None)


# --- the command ---

def test_mistakes_are_one_line(call_launch, exported, tmp_path, monkeypatch):
    monkeypatch.delenv(serving.TOKEN_VARIABLE, raising=False)
    (tmp_path / 'no.zip').write_bytes(b'no zip')
    (tmp_path / 'digits').mkdir()
    shutil.copy(exported, tmp_path / 'digits' / '1.zip')
    with socket.create_server(('127.0.0.1', 0)) as taken:
        cases = [([exported, '--port', taken.getsockname()[1]], 'in use'),
                 ([exported, '--port', 70000], '--port 70000'),
                 ([exported, '--host', 'no.invalid'], '--host'), ([tmp_path / 'x.zip', '--port', 0], 'no such file'),
                 ([tmp_path / 'no.zip', '--port', 0], 'not an exported model'),
                 ([exported, tmp_path / 'digits', '--port', 0], 'two models are called digits'),
                 ([exported, '--token_file', tmp_path / 'none'], 'none'),
                 ([exported, '--max_batch', 0], '--max_batch 0'), ([exported, '--timeout', -1], '--timeout'),
                 ([exported, '--timeout', 'inf'], '--timeout inf')]
        for args, words in cases:
            found = call_launch('serve', *args)
            assert found.code == 2 and words in found.err and found.err.count('\n') == 1, (args, found)


@pytest.fixture
def process(exported, tmp_path):
    """A server in a process of its own, with a log of JSON lines; it is killed in the end."""
    found = subprocess.Popen([sys.executable, str(ROOT / 'launch.py'), 'serve', str(exported), '--port', '0', '--log',
                              'json', '--max_batch', '2'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                             cwd=tmp_path)
    yield found
    found.kill()
    found.communicate()


def test_sigterm_under_load_loses_no_request(process):
    """Whoever has connected is answered; new connections are refused; the exit code is 0."""
    ready = json.loads(process.stdout.readline())
    assert ready['event'] == 'ready' and ready['models'] == ['digits']
    host, port = ready['address'].removeprefix('http://').split(':')
    answers, lost, body = [], [], png()

    def client(number):
        while True:
            connection = http.client.HTTPConnection(host, int(port), timeout=30)
            try:
                connection.connect()
            except OSError:
                return  # it listens no more
            try:
                while connection.sock:  # until the server says that it closes the connection
                    connection.request('POST', PREDICT, body)
                    answer = connection.getresponse()
                    answer.read()
                    answers.append(answer.status)
            except (OSError, http.client.HTTPException) as error:
                lost.append(repr(error))
                return
    threads = in_threads(6, client)
    wait_for(lambda: len(answers) > 50)
    process.send_signal(signal.SIGHUP)  # looks for changed files, and finds none
    wait_for(lambda: len(answers) > 100)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    for thread in threads:
        thread.join()
    lines = [json.loads(line) for line in out.splitlines()]
    asked = [line for line in lines if line['event'] == 'request']
    assert lost == [] and set(answers) == {200} and process.returncode == 0 and err == ''
    assert len(asked) == len(answers) and lines[-1]['event'] == 'stopped'
    assert asked[0]['operation'] == 'predict' and asked[0]['milliseconds'] > 0 and asked[0]['status'] == 200


@pytest.mark.thorough
def test_a_second_signal_stops_at_once(process):
    ready = json.loads(process.stdout.readline())
    host, port = ready['address'].removeprefix('http://').split(':')
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f'POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nabc'.encode())
        process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 128 + signal.SIGTERM
