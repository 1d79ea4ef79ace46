"""Serves the application on one socket until a signal ends it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import logging
import math
import os
import signal
import socket
from collections.abc import Callable, Iterator, Sequence

import uvicorn
from fastapi import FastAPI

from chassis.connection import bounded
from chassis.health import Vitals
from chassis.service import Service
from chassis.settings import Settings

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s for which ingress-nginx keeps idle connections to a pod: who closes first must be
the proxy, or it sends a request into a closing connection and its client sees a 502."""

BACKLOG = 2048
"""Connections that may wait to be accepted; uvicorn's own default."""


EVERY_ADDRESS = "::"
NO_SUCH_FAMILY = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class CannotListen(Exception):
    """The address cannot be listened on; the message says why and what to do."""


async def serve(app: FastAPI, settings: Settings, *, fds: Sequence[int] = ()) -> None:
    """Serves until SIGTERM or SIGINT, then drains, finishes what is in flight and returns.

    Answers from the first moment, if only that it is not ready yet: the service is opened meanwhile.
    fds: sockets that listen already, from the parent process. Raises CannotListen before anything else is opened, and
    what the application's lifespan raises.
    """
    with contextlib.ExitStack() as closing:
        listeners = [socket.socket(fileno=fd) for fd in fds] or listen(settings)
        for listener in listeners:
            closing.enter_context(listener)
        server = _Server(app, settings)
        opening = asyncio.current_task()
        assert opening is not None
        _on_signal(opening.cancel)  # the storage may take its time: PID 1 would ignore a signal without a handler
        serving = asyncio.create_task(server.serve(sockets=listeners))
        try:
            # uvicorn would turn an error of the lifespan into a logged traceback and exit code 3: it is run
            # here, so that the caller gets the error itself.
            async with app.router.lifespan_context(app):
                # What is there now stays for good. To look through it again and again takes the garbage collector 8 %
                # of the CPU of a request, and 40 ms each time, in which nobody is answered.
                gc.collect()
                gc.freeze()
                _on_signal(server.drain)
                _announce(listeners[0])
                if settings.rate_limit and not settings.trusted_proxies:
                    log.warning(
                        "%s counts those without a token by address, and behind a proxy"
                        " they all have the proxy's: name it in %s",
                        settings.variable("rate_limit"),
                        settings.variable("trusted_proxies"),
                    )
                await serving
        except asyncio.CancelledError:
            log.info("Ended by a signal before it was ready")
        finally:
            _on_signal(server.hurry)
            server.should_exit = True
            await serving


class _Server(uvicorn.Server):
    def __init__(self, app: FastAPI, settings: Settings) -> None:
        service: Service = app.state.service
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="off",
                root_path=settings.root_path,
                loop="uvloop",
                http=bounded(settings.head_seconds, settings.write_seconds, service.metrics.slow_clients_total),
                ws="none",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=bool(settings.trusted_proxies),
                forwarded_allow_ips=settings.trusted_proxies,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(settings.graceful_seconds),
            )
        )
        self._vitals: Vitals = app.state.vitals
        self._service = service
        self._drain_seconds = settings.drain_seconds

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield  # uvicorn's own would raise the signal again after a clean end, for an exit code of 143

    def drain(self) -> None:
        """The first signal: not ready, streams end, answers close their connections; then the end. A second hurries."""
        if self._vitals.draining:
            self.hurry()
            return
        self._vitals.draining = True
        self._service.end_streams()
        if self._drain_seconds:
            log.info("Draining for %g s; a second signal hurries", self._drain_seconds)
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def hurry(self) -> None:
        """Ends without waiting for what is in flight."""
        self.force_exit = self.should_exit = True

    def _stop(self) -> None:
        self.should_exit = True


def _announce(listener: socket.socket) -> None:
    host, port, *_ = listener.getsockname()
    url = f"http://{_with_port(host, port)}"
    log.info("Listening on %s (documentation: %s/docs, health: %s/health)", url, url, url)


def _with_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _on_signal(action: Callable[[], object]) -> None:
    """Does `action` at SIGTERM and SIGINT, in the place of what they did before."""
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, action)


def listen(settings: Settings) -> list[socket.socket]:
    """One socket for each address of the host, on one port: `::` is every address, of IPv6 and IPv4.

    Raises CannotListen.
    """
    host, port = settings.host, settings.port
    try:
        found = socket.getaddrinfo(
            None if host == EVERY_ADDRESS else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        raise CannotListen(
            f"{settings.variable('host')}: {host!r} is no address of this machine, nor the name of one. "
            "127.0.0.1 is for this machine alone, :: for all that reach it."
        ) from None
    listeners: list[socket.socket] = []
    absent: OSError | None = None
    for family, _, _, _, address in sorted(set(found), key=lambda each: each[0] == socket.AF_INET):
        try:
            if listeners:  # on the port that the first was given, where 0 asked for any
                port = listeners[0].getsockname()[1]
            listeners.append(_listener(family, (address[0], port, *address[2:])))
        except OSError as error:
            if error.errno in NO_SUCH_FAMILY:  # IPv6 is switched off, in the kernel or for the container
                absent = error
                continue
            for listener in listeners:
                listener.close()
            if error.errno == errno.EADDRINUSE:
                raise CannotListen(
                    f"Port {port} on {host} is taken. End what uses it (`lsof -i :{port}` names it) "
                    f"or choose another: {settings.variable('port')}={port + 1}"
                ) from error
            raise _cannot_listen(settings, error) from error
    if absent is not None and not listeners:
        raise _cannot_listen(settings, absent) from absent
    return listeners


def _listener(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a socket of its own: through this one its clients would be ::ffff:10.0.0.1, which is in none of
            # the networks that trusted_proxies names.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # from here on clients wait for the server and are not refused
    except OSError:
        listener.close()
        raise
    return listener


def _cannot_listen(settings: Settings, error: OSError) -> CannotListen:
    where = _with_port(settings.host, settings.port)
    return CannotListen(f"Cannot listen on {where}: {os.strerror(error.errno or 0)}")
