"""The process of a server: its address, its signals, and how it ends without losing a request."""

import asyncio
import contextlib
import gc
import logging
import os
import re
import signal
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import uvicorn

from ..common.errors import UserError, file_error
from . import telemetry
from .server import Limits, Server

TOKEN_VARIABLE = 'PRACTICUM_TOKEN'
_BACKLOG = 2048
_ACCEPT_SECONDS = 0.1  # to take in who has connected before the address is given up
_IDLE_SECONDS = 1.0  # for a client that keeps its connection, to be told with its next answer that it ends


def serve(paths: Sequence[Path], *, host: str = '127.0.0.1', port: int = 8000, limits: Limits = Limits(),
          versions: int = 1, token: str = '', look_every: float = 2.0, log: str = 'text') -> int:
    """Serves models until SIGTERM or SIGINT; returns the exit code, 0 when all who had asked were answered.

    Says one line when it is ready. A second signal ends it at once, with 128 + its number. SIGHUP looks for changed
    files.

    Args:
      paths: of models, see `ModelStore`.
      host, port: to listen on; port 0: a free one.
      limits: see there.
      versions: of each model that are served.
      token: that requests must bear; '' for none.
      look_every: seconds between looks for changed files; 0: only on SIGHUP.
      log: 'text', what happens but requests, or 'json', requests too.

    Raises:
      UserError: the address cannot be had, or a model cannot be loaded.
    """
    telemetry.log_as(log)
    # The worker waits for each batch anyhow: a small one is computed in half the time by the thread that asks.
    jax.config.update('jax_cpu_enable_async_dispatch', False)
    logging.getLogger('uvicorn').setLevel(logging.WARNING)  # it announces what we say ourselves
    if not token and host not in ('localhost', '::1') and not host.startswith('127.'):
        logging.warning('warning: --host %s without a token: whoever reaches this machine may ask; see --token_file',
                        host)
    with contextlib.closing(_bind(host, port)) as listening:
        server = Server(paths, limits, versions=versions, token=token, log_requests=log == 'json')
        listening_to = listener(server)
        with asyncio.Runner(loop_factory=listening_to.config.get_loop_factory()) as runner:
            return runner.run(_run(server, listening_to, listening, look_every))


def listener(server: Server) -> '_Listener':
    """Returns what listens for a server: `await listener(server).serve([socket])`, until its `should_exit`."""
    return _Listener(uvicorn.Config(
        server, log_config=None, access_log=False, lifespan='off', ws='none', backlog=_BACKLOG, proxy_headers=False,
        server_header=False, timeout_graceful_shutdown=round(server.limits.timeout) + 1))


class _Listener(uvicorn.Server):
    """uvicorn, which leaves signals to `_run`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Does nothing."""
        yield


async def _run(server: Server, listener: _Listener, listening: socket.socket, look_every: float) -> int:
    begin = time.monotonic()
    await server.store.open()
    gc.collect()
    gc.freeze()  # what has been made so far stays: looking through it again and again would hold up requests
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    background = {asyncio.create_task(server.watch())}
    if look_every:
        background.add(asyncio.create_task(server.store.keep_looking(look_every)))

    def end(number: int) -> None:
        if stop.is_set():
            logging.warning('stopped at once by a second signal')
            os._exit(128 + number)
        stop.set()

    def look() -> None:
        task = asyncio.create_task(server.store.look(at_once=True))
        background.add(task)
        task.add_done_callback(background.discard)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, look)

    serving = asyncio.create_task(listener.serve(sockets=[listening]))
    while not listener.started and not serving.done():
        await asyncio.sleep(0.005)
    address = _address(listening)
    logging.info('serving %s at %s; ready after %.1f s', ', '.join(server.store.names), address,
                 time.monotonic() - begin,
                 extra={'fields': {'event': 'ready', 'address': address, 'models': server.store.names}})
    await stop.wait()
    await _drain(server, listener, listening)
    await serving
    for task in background:
        task.cancel()
    await server.close()
    logging.info('stopped; all requests are answered', extra={'fields': {'event': 'stopped'}})
    return 0


async def _drain(server: Server, listener: _Listener, listening: socket.socket) -> None:
    """Ends a server so that whoever has connected is answered.

    A connection that waits to be accepted would be reset when the address is given up, so first nobody new may join
    that queue, and it is emptied. A client that keeps its connection may send its next request in the moment in which
    the connection is closed for being idle, so it is told with an answer that it was the last one.
    """
    listening.listen(0)
    await asyncio.sleep(_ACCEPT_SECONDS)
    for accepting in listener.servers:
        accepting.close()
    server.draining = True
    end = time.monotonic() + _IDLE_SECONDS
    while listener.server_state.connections and time.monotonic() < end:
        await asyncio.sleep(0.02)
    listener.should_exit = True


def read_token(file: Path | None) -> str:
    """Returns the token that requests must bear, of a file or, without one, of the environment; '' for none.

    Raises:
      UserError: it cannot be read, or is no single word of visible ASCII.
    """
    if file is None:
        token, place = os.environ.get(TOKEN_VARIABLE), f'${TOKEN_VARIABLE}'
        if token is None:
            return ''
    else:
        place = f'--token_file {file}'
        try:
            token = file.read_text(encoding='ascii')
        except UnicodeDecodeError:
            token = ' '
        except OSError as error:
            raise file_error(file, f'cannot be read: {error.strerror}') from None
    token = token.strip()
    if not re.fullmatch('[!-~]{8,}', token):
        raise UserError(f'{place}: a token is one word of at least 8 letters, digits and signs')
    return token


def _bind(host: str, port: int) -> socket.socket:
    """Returns a socket that has the address, before anything is loaded; nobody can connect before it listens."""
    if not 0 <= port < 2**16:
        raise UserError(f'--port {port}: a port is a number from 0, for a free one, to 65535')
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM,
                                                                flags=socket.AI_PASSIVE)[0]
        listening = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(f'--host {host}: {getattr(error, "strerror", None) or error}') from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        listening.close()
        raise UserError(f'--host {host} --port {port}: {error.strerror}; --port 0 takes a free one') from None
    return listening


def _address(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f'http://{f"[{host}]" if ":" in host else host}:{port}'
