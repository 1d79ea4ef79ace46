"""Serves the application on one socket until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn
from fastapi import FastAPI

log = logging.getLogger(__name__)

GRACEFUL_SECONDS = 3
"""How long requests in flight may take after SIGTERM: together with closing the storage less than
the five seconds in which `docker stop` is to end."""

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s for which ingress-nginx keeps idle connections to a pod: who closes first must be
the proxy, or it sends a request into a closing connection and its client sees a 502."""


class CannotListen(Exception):
    """The address cannot be listened on; the message says why and what to do."""


async def serve(app: FastAPI, *, host: str, port: int) -> None:
    """Serves until SIGTERM or SIGINT, then finishes what is in flight and returns.

    Raises CannotListen before anything else is opened, and what the application's lifespan raises.
    """
    with _listen(host, port) as listener:
        opening = asyncio.current_task()
        assert opening is not None
        _on_signal(opening.cancel)  # the storage may take its time: PID 1 would ignore a signal without a handler
        try:
            # uvicorn would turn an error of the lifespan into a logged traceback and exit code 3: it is run
            # here, so that the caller gets the error itself.
            async with app.router.lifespan_context(app):
                await _Server(_config(app), app.state.feed.end).serve(sockets=[listener])
        except asyncio.CancelledError:
            log.info("Ended by a signal before it was ready")


def _config(app: FastAPI) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        lifespan="off",
        loop="uvloop",
        http="httptools",
        log_config=None,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACEFUL_SECONDS,
    )


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, end_streams: Callable[[], None]) -> None:
        super().__init__(config)
        self._end_streams = end_streams

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn's own would raise the signal again after a clean end, for an exit code of 143.
        _on_signal(self._end)
        yield

    def _end(self) -> None:
        self.force_exit = self.should_exit  # a second signal does not wait for what is in flight
        self.should_exit = True
        self._end_streams()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or []:
            host, port, *_ = listener.getsockname()
            url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
            log.info("Listening on %s (documentation: %s/docs, health: %s/health)", url, url, url)


def _on_signal(action: Callable[[], object]) -> None:
    """Does `action` at SIGTERM and SIGINT, in the place of what they did before."""
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, action)


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise CannotListen(
                f"Port {port} on {host} is taken. End what uses it (`lsof -i :{port}` names it) "
                f"or choose another: TASKS_PORT={port + 1}"
            ) from error
        raise CannotListen(f"Cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}") from error
    return listener
