"""A server in a thread of the test's process, how to ask it, and what."""

import asyncio
import http.client
import io
import json
import socket
import threading
import time

from PIL import Image

from practicum.deployment.server import Limits, Server

PREDICT = '/v2/models/digits/predict'


class Gate:
    """A model that computes only while it is open."""

    def __init__(self, model):
        self._model, self.open, self.batches = model, threading.Event(), []

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, inputs):
        self.batches.append(len(next(iter(inputs.values()))))
        assert self.open.wait(30)
        return self._model(inputs)


class Running:
    """A running server; `stop` ends it."""

    def __init__(self, *paths, limits=Limits(max_batch=4, queue=64), **options):
        self._ready, self._error = threading.Event(), None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run(paths, limits, options)), daemon=True)
        self._thread.start()
        assert self._ready.wait(60)
        if self._error:
            raise self._error

    async def _run(self, paths, limits, options):
        from practicum.deployment import serving
        self._stop, self._loop = asyncio.Event(), asyncio.get_running_loop()
        self.server = Server(paths, limits, **options)
        try:
            await self.server.store.open()
        except Exception as error:
            self._error = error
            return
        finally:
            if self._error:
                self._ready.set()
        listener = serving.listener(self.server)
        with socket.create_server(('127.0.0.1', 0)) as listening:
            self.port = listening.getsockname()[1]
            tasks = [asyncio.create_task(self.server.watch()), asyncio.create_task(listener.serve([listening]))]
            self._ready.set()
            await self._stop.wait()
            listener.should_exit = True
            await tasks[1]
            tasks[0].cancel()
            await self.server.close()

    def stop(self):
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)

    def call(self, coroutine):
        """Runs a coroutine in the server's loop; returns its result."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(60)

    def shut(self, name):
        """Puts a gate before a model; returns it."""
        service = self.server.store.find(name)
        service.model = Gate(service.model)
        return service.model

    def connect(self):
        return http.client.HTTPConnection('127.0.0.1', self.port, timeout=60)

    def ask(self, path, body=None, headers={}, method=None):
        """Returns status, headers and JSON of an answer."""
        connection = self.connect()
        try:
            connection.request(method or ('GET' if body is None else 'POST'), path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, dict(answer.getheaders()), json.loads(content) if content[:1] == b'{' else content
        finally:
            connection.close()


def png(size=(8, 8), mode='L', form='PNG', **options) -> bytes:
    file = io.BytesIO()
    Image.effect_noise(size, 60).convert(mode).save(file, form, **options)
    return file.getvalue()


def in_threads(count, function):
    threads = [threading.Thread(target=function, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    return threads


def wait_for(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.005)
