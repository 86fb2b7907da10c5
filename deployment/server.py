"""`launch.py serve`: exported models behind HTTP, the REST part of the Open Inference Protocol v2 and more.

    GET  /                                     a page to try them on
    GET  /v2, /v2/models                       the server; the names of its models
    GET  /v2/health/live, /v2/health/ready     whether it runs; whether it takes more requests
    GET  /v2/models/NAME[/versions/V][/ready]  what a model takes and gives; whether it is ready
    POST /v2/models/NAME[/versions/V]/infer    JSON tensors in, JSON tensors out
    POST /v2/models/NAME[/versions/V]/predict  an image file in, what the model's task says of it out
    GET  /metrics                              for Prometheus

What is wrong is told as {"error": one line} with a status of 400 and above.
"""

import asyncio
import dataclasses
import hmac
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from ..common.errors import UserError, printable, shortened
from ..input_pipeline import images
from . import protocol
from .batcher import Full
from .model_store import ModelStore, NoSuchModel
from .runtime import Model
from .service import ImageRequest, Service, warmed_up
from .telemetry import CONTENT_TYPE, Metrics

_PAGE = Path(__file__).with_name('page')
_PAGE_FILES = {'/': ('page.html', 'text/html; charset=utf-8'), '/page.css': ('page.css', 'text/css; charset=utf-8'),
               '/page.js': ('page.js', 'text/javascript; charset=utf-8')}
_PAGE_HEADERS = {
    'Content-Security-Policy': "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; "
                               "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    'X-Content-Type-Options': 'nosniff', 'Referrer-Policy': 'no-referrer', 'Cache-Control': 'no-cache'}
_OPEN = (*_PAGE_FILES, '/v2/health/live', '/v2/health/ready')  # without a token: they tell nothing of the models
_LARGE_JSON = 2**16  # bytes of a body that is read in another thread, so that the others are heard meanwhile
_WATCH_SECONDS = 0.1
_RETRY_SECONDS = '1'
_GONE = 499  # what nginx logs of a client that did not wait for the answer; nobody reads it

Scope = MutableMapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Limits:
    """What is asked too much.

    Attributes:
      max_batch: rows that are computed together.
      queue: requests that may wait for a model.
      timeout: seconds from a request's arrival to its answer.
      max_body: bytes of a body.
      max_pixels: of an image.
    """
    max_batch: int = 32
    queue: int = 128
    timeout: float = 30.0
    max_body: int = 20_000_000
    max_pixels: int = 25_000_000


class Server:
    """An ASGI application: models, their addresses, who may ask, and what is counted.

    Args:
      paths: of models, see `ModelStore`.
      limits: see there.
      versions: of each model that are served.
      token: that requests must bear; '' for none.
      log_requests: whether each request becomes a line of the log.

    Attributes:
      store: the models.
      metrics: what is counted.
      draining: whether it is about to stop: not ready, and connections end with their next answer.
    """

    def __init__(self, paths: Sequence[Path], limits: Limits = Limits(), *, versions: int = 1, token: str = '',
                 log_requests: bool = False):
        self.limits, self.metrics, self.draining = limits, Metrics(), False
        self._token, self._log_requests = token.encode(), log_requests
        # As many threads as cores: each reads an image, which may take a hundred megabytes.
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, 'images')
        self.store = ModelStore(paths, load=self._load, start=self._start, versions=versions,
                                on_load=lambda name, outcome: self.metrics.reloads.labels(name, outcome).inc())
        self._watched: dict[asyncio.Task, _Watched] = {}
        self._page = {path: ((_PAGE / name).read_bytes(), kind) for path, (name, kind) in _PAGE_FILES.items()}
        model = '/v2/models/{name}'
        routes = []  # the first that fits is taken: what is asked most comes first
        for base in (model, model + '/versions/{version}'):
            routes += [Route(base + '/predict', self._asked(self._predict), methods=['POST']),
                       Route(base + '/infer', self._asked(self._infer), methods=['POST']),
                       Route(base, self._model), Route(base + '/ready', self._model_ready)]
        routes += [Route('/v2', self._about), Route('/v2/health/live', self._live),
                   Route('/v2/health/ready', self._ready), Route('/v2/models', self._models),
                   Route('/metrics', self._metrics), *(Route(path, self._page_file) for path in _PAGE_FILES)]
        self._app = Starlette(routes=routes, exception_handlers={HTTPException: _refused, Exception: _failed})
        self._app.router.redirect_slashes = False  # an address that there is not gets its line

    def _load(self, path: Path) -> Model:
        return warmed_up(path, self.limits.max_batch)

    def _start(self, name: str, version: str, model: Model) -> Service:
        self.metrics.watch(name, lambda: self.store.waiting(name))
        return Service(name, version, model, queue=self.limits.queue, max_pixels=self.limits.max_pixels,
                       pool=self._pool, on_batch=self.metrics.batch.labels(name).observe)

    async def __call__(self, scope: Scope, receive: Callable[[], Awaitable[Any]],
                       send: Callable[[Any], Awaitable[None]]) -> None:
        """Answers a request: who asks, then what, then it is counted."""
        if scope['type'] != 'http':
            if scope['type'] == 'websocket':
                await send({'type': 'websocket.close', 'code': 1000})
            return
        begin, status = time.perf_counter(), 500

        async def counted(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message['type'] == 'http.response.start':
                status = message['status']
                if self.draining:
                    message['headers'] = [*message['headers'], (b'connection', b'close')]
            await send(message)
        try:
            if self._token and scope['path'] not in _OPEN and not self._may(scope):
                refused = _error(401, 'a token is needed: "Authorization: Bearer TOKEN"',
                                 {'WWW-Authenticate': 'Bearer'})
                await refused(scope, receive, counted)
            else:
                await self._app(scope, receive, counted)
        finally:
            name, operation = scope.get('practicum', ('', 'other'))
            seconds = time.perf_counter() - begin
            self.metrics.request(name, operation, status, seconds)
            if self._log_requests:
                client = scope.get('client')
                logging.info('%s %s %d', scope['method'], printable(scope['path']), status, extra={'fields': {
                    'event': 'request', 'model': name, 'operation': operation, 'status': status,
                    'milliseconds': round(1e3 * seconds, 2), 'client': client[0] if client else ''}})

    def _may(self, scope: Scope) -> bool:
        given = next((value for key, value in scope['headers'] if key == b'authorization'), b'')
        kind, _, token = given.partition(b' ')
        return hmac.compare_digest(token.strip(), self._token) and kind.lower() == b'bearer'

    # --- what is asked about models ---

    def _asked(self, answer: Callable[[Request, Service, bytes], Awaitable[Response]]
               ) -> Callable[[Request], Awaitable[Response]]:
        """Returns an endpoint: the body is read, the answer awaited for as long as allowed and as somebody waits."""
        operation = answer.__name__.strip('_')

        async def endpoint(request: Request) -> Response:
            try:
                service = self._service(request, operation)
                if service.is_full:
                    raise Full
                task = asyncio.current_task()
                watched = self._watched[task] = _Watched(request, time.monotonic())
                try:
                    body = await self._body(request)
                    watched.reading = False
                    return await answer(request, self._service(request, operation), body)  # perhaps swapped meanwhile
                except asyncio.CancelledError:
                    if not watched.reason:
                        raise
                    task.uncancel()
                    return _error(watched.reason, f'no answer within {self.limits.timeout:g} s')
                finally:
                    del self._watched[task]
            except Full:
                return _error(503, 'too many requests wait already; try again', {'Retry-After': _RETRY_SECONDS})
            except NoSuchModel as error:
                return _error(404, str(error))
            except _TooLong as error:
                return _error(413, str(error))
            except images.TooLarge as error:
                return _error(413, f'{error}: {self.limits.max_pixels:,} are taken')
            except UserError as error:
                return _error(400, str(error))
            except ClientDisconnect:
                return _error(_GONE, 'the client has gone')
        return endpoint

    async def watch(self) -> None:
        """Cancels, for ever, requests that took too long, and those that nobody waits for any more."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            now = time.monotonic()
            for task, watched in list(self._watched.items()):
                if now - watched.begin > self.limits.timeout:
                    watched.cancel(task, 408 if watched.reading else 504)
                elif not watched.reading and now - watched.begin > _WATCH_SECONDS:
                    if await watched.request.is_disconnected():
                        watched.cancel(task, _GONE)

    def _service(self, request: Request, operation: str) -> Service:
        service = self.store.find(request.path_params['name'], request.path_params.get('version'))
        request.scope['practicum'] = service.name, operation
        return service

    async def _body(self, request: Request) -> bytes:
        """Returns a body of a size that is allowed."""
        length = request.headers.get('content-length', '')
        if length.isdecimal() and int(length) > self.limits.max_body:
            raise _TooLong(self.limits.max_body)
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > self.limits.max_body:
                raise _TooLong(self.limits.max_body)
            parts.append(part)
        return parts[0] if len(parts) == 1 else b''.join(parts)

    async def _infer(self, request: Request, service: Service, body: bytes) -> Response:
        large = len(body) > _LARGE_JSON
        inputs, wanted, identity = (await asyncio.to_thread(protocol.read_request, body) if large
                                    else protocol.read_request(body))
        outputs = await service.infer(inputs)

        def write() -> Response:
            return _json(protocol.write_response(service.name, service.version, outputs, wanted, identity))
        large = sum(values.nbytes for values in outputs.values()) > _LARGE_JSON
        return await asyncio.to_thread(write) if large else write()

    async def _predict(self, request: Request, service: Service, body: bytes) -> Response:
        begin = time.perf_counter()
        asked = ImageRequest(images.Content(body), **_options(request))
        said = await service.predict(asked)
        files = {'files': said.pop('files')} if 'files' in said else {}
        return _json({'model_name': service.name, 'model_version': service.version, 'prediction': said, **files,
                      'milliseconds': round(1e3 * (time.perf_counter() - begin), 2)})

    async def _model(self, request: Request) -> Response:
        try:
            service = self._service(request, 'metadata')
            name, meta = service.name, service.model.meta
            reader = service.model.reader
            return _json({
                'name': name, 'versions': self.store.versions(name), 'platform': 'practicum',
                'inputs': protocol.tensors(meta['inputs']), 'outputs': protocol.tensors(meta['outputs']),
                'parameters': {'version': service.version, 'experiment': meta.get('experiment'),
                               'step': meta.get('step'), 'task': meta['task'].get('name'),
                               'labels': meta.get('labels') or [], 'metrics': meta.get('metrics') or {},
                               'image_size': list(reader.size) if reader else None,
                               'channels': reader.channels if reader else None,
                               'frames': reader.frames if reader else 1,
                               'writes_files': service.model.task.writes_files,
                               'takes_top_k': service.model.task.takes_top_k}})
        except NoSuchModel as error:
            return _error(404, str(error))

    async def _model_ready(self, request: Request) -> Response:
        try:
            return _json({'name': self._service(request, 'ready').name, 'ready': True})
        except NoSuchModel as error:
            return _error(404, str(error))

    # --- the rest ---

    async def _about(self, request: Request) -> Response:
        return _json({'name': 'practicum', 'version': '2', 'extensions': ['predict', 'models', 'metrics']})

    async def _models(self, request: Request) -> Response:
        return _json({'models': self.store.names})

    async def _live(self, request: Request) -> Response:
        return _json({'live': True})

    async def _ready(self, request: Request) -> Response:
        return _json({'ready': not self.draining}, 503 if self.draining else 200)

    async def _metrics(self, request: Request) -> Response:
        return Response(await asyncio.to_thread(self.metrics.text), media_type=CONTENT_TYPE)

    async def _page_file(self, request: Request) -> Response:
        content, kind = self._page[request.url.path]
        return Response(content, media_type=kind, headers=_PAGE_HEADERS)

    async def close(self) -> None:
        """Ends after all requests."""
        await self.store.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


@dataclasses.dataclass(slots=True)
class _Watched:
    """A request that is being answered, since when, and why it was cancelled: a status, or 0."""
    request: Request
    begin: float
    reading: bool = True
    reason: int = 0

    def cancel(self, task: asyncio.Task, reason: int) -> None:
        if not self.reason:
            self.reason = reason
            task.cancel()


class _TooLong(images.TooLarge):
    def __init__(self, most: int):
        super().__init__(f'the body is too large; {most:,} bytes are taken')


def _options(request: Request) -> dict[str, Any]:
    """Returns the fields of an ImageRequest that an address's query gives.

    Raises:
      UserError: another field, or a value that is none.
    """
    found: dict[str, Any] = {}
    if not request.scope['query_string']:
        return found
    for name, value in request.query_params.multi_items():
        if name in found:
            raise UserError(f'{name} is given twice')
        if name == 'top_k':
            if not (value.isascii() and value.isdecimal() and 0 < int(value[:9]) < 10**6):
                raise UserError('top_k is a whole number from 1 to 999999')
            found[name] = int(value[:9])
        elif name == 'invert':
            if value not in ('true', 'false', '1', '0'):
                raise UserError('invert is true or false')
            found[name] = value in ('true', '1')
        elif name == 'files':
            found[name] = tuple(part for part in value.split(',') if part)
        else:
            raise UserError(printable(f'no option {name[:80]!r}; there are: files, invert, top_k'))
    return found


def _json(values: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    try:
        content = json.dumps(values, allow_nan=False, separators=(',', ':')).encode()
    except ValueError:
        return _error(500, 'the model answers with numbers that are not finite')
    return Response(content, status, headers, 'application/json')


def _error(status: int, line: str, headers: dict[str, str] | None = None) -> Response:
    return _json({'error': shortened(' '.join(printable(line).split()), 300)}, status, headers)


async def _refused(request: Request, error: HTTPException) -> Response:
    """Starlette's own refusals, of addresses that there are not, say."""
    line = {404: f'no such address: {request.url.path[:200]}',
            405: f'{request.method} is not for {request.url.path[:200]}'}.get(error.status_code, str(error.detail))
    return _error(error.status_code, line, dict(error.headers or {}))


async def _failed(request: Request, error: Exception) -> Response:
    return _error(500, 'internal error; the log of the server has it')
