"""`launch.py serve` beside LitServe, BentoML and Ray Serve on an exported model of digits: requests/s, latency, memory.

    python benchmarks/serving.py digits.zip --litserve VENV/bin/python --bentoml VENV/bin/python --ray VENV/bin/python

Peers run in environments of their own, with jax, flatbuffers, safetensors, pillow; those not named are left out. All
get the same image, each in the form it takes: a PNG as it is (ours, Ray Serve), in base64 in JSON (LitServe), its
pixels as JSON (BentoML). The load comes from one process on the same machine, over connections that are kept, without
pauses. Processor time is that of the server with all its processes, so what else the machine does counts less in it.
`--minutes 10` adds a mixed load on our server, with its memory each half minute. Writes OUTPUT.md and OUTPUT.json.
"""

import argparse
import asyncio
import base64
import contextlib
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import launch  # noqa: F401  a checkout becomes the package `practicum`

BASELINES = ROOT / 'benchmarks' / 'baselines'
_START_SECONDS = 180


class Client(asyncio.Protocol):
    """Sends one request after the other on one connection and keeps how long each took.

    Attributes:
      seconds: of each answer.
      statuses: of each answer, as often as it came.
    """

    def __init__(self, requests: Sequence[bytes], end: float):
        self._requests, self._end, self.seconds, self.statuses = requests, end, [], {}
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport, self._received = transport, b''
        self._send()

    def _send(self) -> None:
        self._begin = time.perf_counter()
        self._transport.write(self._requests[len(self.seconds) % len(self._requests)])

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, body = self._received.partition(b'\r\n\r\n')
        if not found:
            return
        length = re.search(rb'\r\ncontent-length: *(\d+)', head, re.IGNORECASE)
        whole = len(body) >= int(length.group(1)) if length else body.endswith(b'0\r\n\r\n')  # in chunks
        if not whole:
            return
        status = int(head.split()[1])
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.seconds.append(time.perf_counter() - self._begin)
        self._received = b''
        if time.perf_counter() < self._end:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(error)


def load(port: int, requests: Sequence[bytes], concurrency: int, seconds: float) -> dict[str, Any]:
    """Returns requests a second, latencies in milliseconds and counts of statuses."""
    async def run() -> list[Client]:
        loop, end = asyncio.get_running_loop(), time.perf_counter() + seconds
        clients = [(await loop.create_connection(lambda: Client(requests, end), '127.0.0.1', port))[1]
                   for _ in range(concurrency)]
        await asyncio.gather(*(client.done for client in clients))
        return clients
    begin = time.perf_counter()
    clients = asyncio.run(run())
    wall = time.perf_counter() - begin
    times = sorted(second for client in clients for second in client.seconds)
    statuses: dict[int, int] = {}
    for client in clients:
        for status, count in client.statuses.items():
            statuses[status] = statuses.get(status, 0) + count
    return {'requests': len(times), 'requests/s': len(times) / wall, 'p50 ms': 1e3 * times[len(times) // 2],
            'p99 ms': 1e3 * times[int(0.99 * len(times))], 'statuses': statuses}


def request(port: int, path: str, body: bytes, kind: str) -> bytes:
    """Returns a whole HTTP request."""
    head = f'POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}'
    return head.encode() + b'\r\n\r\n' + body


def family(pid: int) -> list[int]:
    """Returns a process and all its descendants."""
    parents: dict[int, list[int]] = {}
    for folder in Path('/proc').iterdir():
        if folder.name.isdecimal():
            with contextlib.suppress(OSError, IndexError):
                parent = int((folder / 'stat').read_text().rpartition(')')[2].split()[1])
                parents.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for one in found:
        found += parents.get(one, [])
    return found


def cpu_seconds(pid: int) -> float:
    """Returns the processor time of a process and its descendants."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f'/proc/{one}/stat').read_text().rpartition(')')[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / os.sysconf('SC_CLK_TCK')


def megabytes(pid: int) -> float:
    """Returns the memory of a process and its descendants; what they share is counted once."""
    total = 0
    for one in family(pid):
        with contextlib.suppress(OSError, AttributeError):
            total += int(re.search(r'^Pss:\s+(\d+)', Path(f'/proc/{one}/smaps_rollup').read_text(), re.M).group(1))
    return total / 1e3


@contextlib.contextmanager
def started(command: Sequence[str], port: int, first: bytes, environment: dict[str, str], cwd: str
            ) -> Iterator[tuple[int, float]]:
    """Starts a server; yields its process and after how many seconds it answered `first` with 200; ends it."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, cwd=cwd, env={**os.environ, **environment}, stdout=subprocess.DEVNULL,
                               stderr=open(Path(cwd) / 'log', 'wb'), start_new_session=True)
    try:
        while True:
            with contextlib.suppress(OSError, IndexError, ValueError):
                if load(port, [first], 1, 0)['statuses'].get(200):
                    break
            if process.poll() is not None or time.perf_counter() - begin > _START_SECONDS:
                raise SystemExit(f'{command[:3]} did not start:\n' + (Path(cwd) / 'log').read_text()[-3000:])
            time.sleep(0.05)
        yield process.pid, time.perf_counter() - begin
    finally:
        members = family(process.pid)
        process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(20)
        for one in members:
            with contextlib.suppress(OSError):
                os.kill(one, signal.SIGKILL)


def free_port() -> int:
    with socket.create_server(('127.0.0.1', 0)) as listening:
        return listening.getsockname()[1]


def ray_example() -> str:
    """Returns the program for Ray Serve that docs/how-to/serve.md shows."""
    page = (ROOT / 'docs' / 'how-to' / 'serve.md').read_text()
    code, = re.findall(r'```python\n(# ray_digits\.py\n.*?)```', page, re.DOTALL)
    return code


def servers(args: argparse.Namespace, folder: str) -> dict[str, tuple[list[str], int, bytes, dict[str, str]]]:
    """Returns name -> command, port, request and environment."""
    import numpy as np
    from PIL import Image
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, 'PNG')
    png, model = file.getvalue(), str(args.model.resolve())
    ours = [sys.executable, str(ROOT / 'launch.py'), 'serve', model, '--port']
    name = f'/v2/models/{args.model.stem}/predict'
    found = {}
    for what, more in (('practicum', []), ('practicum, batches of 1', ['--max_batch', '1'])):
        port = free_port()
        found[what] = ([*ours, str(port), *more], port, request(port, name, png, 'image/png'), {})
    environment = {'MODEL': model, 'LOADER_FOLDER': folder, 'PYTHONPATH': f'{BASELINES}:{folder}'}
    if args.litserve:
        port = free_port()
        body = json.dumps({'image': base64.b64encode(png).decode()}).encode()
        found['LitServe'] = ([args.litserve, str(BASELINES / 'serving_litserve.py'), model, str(port)], port,
                             request(port, '/predict', body, 'application/json'), environment)
    if args.bentoml:
        port = free_port()
        body = json.dumps({'images': pixels[None, ..., None].tolist()}).encode()
        found['BentoML'] = ([args.bentoml, '-m', 'bentoml', 'serve', 'serving_bentoml:Digits', '--port', str(port),
                             '--working-dir', str(BASELINES)], port,
                            request(port, '/classify', body, 'application/json'), environment)
    if args.ray:
        (Path(folder) / 'ray_digits.py').write_text(ray_example())
        with contextlib.suppress(FileExistsError):
            (Path(folder) / 'digits.zip').symlink_to(model)
        subprocess.run([sys.executable, '-m', 'zipfile', '-e', model, folder], check=True)
        port = free_port()
        code = ('import time, ray; from ray import serve; from ray_digits import app; '
                f'ray.init(include_dashboard=False); serve.start(http_options={{"port": {port}}}); serve.run(app); '
                'time.sleep(10**6)')
        found['Ray Serve'] = ([args.ray, '-c', code], port, request(port, '/', png, 'image/png'), environment)
    return found


def mixed(args: argparse.Namespace, folder: str) -> list[dict[str, float]]:
    """Loads our server with images small and large, tensors and mistakes; returns its memory each half minute."""
    from PIL import Image
    port = free_port()
    bodies = []
    for size, form in (((8, 8), 'PNG'), ((28, 28), 'PNG'), ((640, 480), 'JPEG'), ((1600, 1200), 'JPEG')):
        file = io.BytesIO()
        Image.effect_noise(size, 60).save(file, form)
        bodies.append(('predict', file.getvalue()))
    tensor = {'name': 'image', 'shape': [5, 8, 8, 1], 'datatype': 'UINT8', 'data': [7] * 320}
    bodies += [('infer', json.dumps({'inputs': [tensor]}).encode()), ('infer', b'{"inputs": ['), ('predict', b'hello'),
               ('predict', bodies[2][1][:9000])]
    base = f'/v2/models/{args.model.stem}/'
    requests = [request(port, base + path, body, 'application/octet-stream') for path, body in bodies]
    rows = []
    with started([sys.executable, str(ROOT / 'launch.py'), 'serve', str(args.model), '--port', str(port)], port,
                 requests[0], {}, folder) as (pid, _):
        end = time.monotonic() + 60 * args.minutes
        while time.monotonic() < end:
            found = load(port, requests, 16, 30)
            rows.append({'megabytes': round(megabytes(pid), 1), 'requests/s': round(found['requests/s'], 1),
                         'statuses': found['statuses']})
            print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', type=Path, help='exported, of digits of 8x8 pixels')
    for name in ('litserve', 'bentoml', 'ray'):
        parser.add_argument(f'--{name}', metavar='PYTHON', help='interpreter of an environment that has it')
    parser.add_argument('--seconds', type=float, default=4)
    parser.add_argument('--rounds', type=int, default=1, help='of all servers in turns; the median counts')
    parser.add_argument('--concurrency', type=int, nargs='+', default=(1, 8, 64))
    parser.add_argument('--minutes', type=float, default=0, help='of a mixed load on our server')
    parser.add_argument('--output', type=Path, default=Path('serving'))
    args = parser.parse_args()
    import statistics
    rows: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            for name, (command, port, body, environment) in servers(args, folder).items():
                with started(command, port, body, environment, folder) as (pid, ready):
                    row: dict[str, Any] = {'ready s': ready}
                    for concurrency in args.concurrency:
                        load(port, [body], concurrency, 0.5)
                        before = cpu_seconds(pid)
                        found = load(port, [body], concurrency, args.seconds)
                        used = cpu_seconds(pid) - before
                        assert set(found['statuses']) == {200}, found
                        row[f'c={concurrency}'] = [found['requests/s'], found['p50 ms'], found['p99 ms'],
                                                   1e3 * used / found['requests']]
                    row['MB'] = megabytes(pid)
                    rows.setdefault(name, []).append(row)
                    print(name, row, flush=True)
        memory = mixed(args, folder) if args.minutes else []
    columns = [f'c={concurrency}' for concurrency in args.concurrency]

    def median(name: str, *keys: Any) -> float:
        def get(row: Any) -> float:
            for key in keys:
                row = row[key]
            return row
        return statistics.median(get(row) for row in rows[name])
    lines = [f'| server | ready s | MB | {" | ".join(f"{column}: req/s, p50, p99, CPU ms" for column in columns)} |',
             '|---|' + '---|' * (len(columns) + 2)]
    for name in rows:
        cells = [f'{median(name, column, 0):,.0f}, {median(name, column, 1):.1f}, {median(name, column, 2):.1f}, '
                 f'{median(name, column, 3):.2f}' for column in columns]
        lines.append(f'| {name} | {median(name, "ready s"):.1f} | {median(name, "MB"):.0f} | {" | ".join(cells)} |')
    if memory:
        lines += ['', f'Mixed load for {args.minutes:g} minutes, MB each half minute: '
                      + ', '.join(f'{row["megabytes"]:.0f}' for row in memory)]
    text = '\n'.join(lines) + '\n'
    print(text)
    args.output.with_suffix('.md').write_text(text)
    args.output.with_suffix('.json').write_text(json.dumps({'servers': rows, 'memory': memory}, indent=1) + '\n')


if __name__ == '__main__':
    main()
