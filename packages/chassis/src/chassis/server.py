"""Serves the application until a signal stops it."""

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

from chassis.connection import connection_protocol
from chassis.health import HealthState
from chassis.service import Service
from chassis.settings import Settings

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75
"""Longer than the 60 s for which ingress-nginx keeps idle connections to a pod: the proxy must close first,
or it sends a request on a closing connection and its client gets a 502."""

BACKLOG = 2048
"""Connections that may wait to be accepted; uvicorn's default."""

ANY_ADDRESS = "::"
FAMILY_UNAVAILABLE = {errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL}


class CannotListen(Exception):
    """Listening on the address failed; the message says why and what to do."""


async def serve(app: FastAPI, settings: Settings, *, fds: Sequence[int] = ()) -> None:
    """Serves until SIGTERM or SIGINT, then drains, completes the requests in flight and returns.

    Responds to requests while the service is still opening, at least with "not ready".
    fds: listening sockets inherited from the parent process. Raises CannotListen before anything else is opened, and
    the exceptions of the application's lifespan.
    """
    with contextlib.ExitStack() as closing:
        listeners = [socket.socket(fileno=fd) for fd in fds] or listen(settings)
        for listener in listeners:
            closing.enter_context(listener)
        server = _Server(app, settings)
        opening = asyncio.current_task()
        assert opening is not None
        interrupted = False

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            opening.cancel()

        _handle_signals(interrupt)  # opening may take long, and PID 1 ignores a signal without a handler
        serving = asyncio.create_task(server.serve(sockets=listeners))
        try:
            # uvicorn would turn an error of the lifespan into a logged traceback and exit code 3. Run here, it raises
            # the error to the caller.
            async with app.router.lifespan_context(app):
                # The objects that exist now are permanent. Scanning them takes 8 % of the CPU of a request, and
                # pauses the process for 40 ms each time.
                gc.collect()
                gc.freeze()
                _handle_signals(server.drain)
                _log_url(listeners[0])
                if settings.rate_limit and not settings.trusted_proxies:
                    log.warning(
                        "%s counts requests without a token by client address, and behind a proxy they all have"
                        " the proxy's address: set %s",
                        settings.variable("rate_limit"),
                        settings.variable("trusted_proxies"),
                    )
                await asyncio.shield(serving)  # if cancelled, uvicorn still has to close the connections
        except asyncio.CancelledError:
            if not interrupted:
                raise
            log.info("Received a signal during startup; exiting")
        finally:
            _handle_signals(server.force_shutdown)
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
                http=connection_protocol(
                    settings.head_seconds, settings.write_seconds, service.metrics.slow_clients_total
                ),
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
        self._health_state: HealthState = app.state.health_state
        self._service = service
        self._drain_seconds = settings.drain_seconds

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # uvicorn would install its own handlers, which skip the drain, and re-raise the signal after a clean shutdown,
        # for exit code 143.
        yield

    def drain(self) -> None:
        """First signal: not ready, streams end, responses close their connections; then the server stops. A second
        signal stops it immediately."""
        if self._health_state.draining:
            self.force_shutdown()
            return
        self._health_state.draining = True
        self._service.end_streams()
        if self._drain_seconds:
            log.info("Draining for %g s; a second signal stops the server immediately", self._drain_seconds)
        asyncio.get_running_loop().call_later(self._drain_seconds, self._stop)

    def force_shutdown(self) -> None:
        """Stops without waiting for requests in flight."""
        self.force_exit = self.should_exit = True

    def _stop(self) -> None:
        self.should_exit = True


def _log_url(listener: socket.socket) -> None:
    host, port, *_ = listener.getsockname()
    url = f"http://{_host_port(host, port)}"
    log.info("Listening on %s (documentation: %s/docs, health: %s/health)", url, url, url)


def _host_port(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _handle_signals(action: Callable[[], object]) -> None:
    """Runs `action` on SIGTERM and SIGINT, replacing earlier handlers."""
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(sig, action)


def listen(settings: Settings) -> list[socket.socket]:
    """One socket for each address of the host, on the same port: `::` is all addresses, IPv6 and IPv4.

    Raises CannotListen.
    """
    host, port = settings.host, settings.port
    try:
        addresses = socket.getaddrinfo(
            None if host == ANY_ADDRESS else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (socket.gaierror, UnicodeError):
        raise _cannot_listen(settings, port, errno.EADDRNOTAVAIL) from None
    listeners: list[socket.socket] = []
    unavailable: OSError | None = None
    for family, _, _, _, address in sorted(set(addresses), key=lambda each: each[0] == socket.AF_INET):
        try:
            if listeners:  # with port 0, all use the port that the first one got
                port = listeners[0].getsockname()[1]
            listeners.append(_listener(family, (address[0], port, *address[2:])))
        except OSError as error:
            if error.errno in FAMILY_UNAVAILABLE:  # IPv6 is disabled, in the kernel or for the container
                unavailable = error
                continue
            for listener in listeners:
                listener.close()
            raise _cannot_listen(settings, port, error.errno) from error
    if unavailable is not None and not listeners:
        raise _cannot_listen(settings, port, unavailable.errno) from unavailable
    return listeners


def _listener(family: int, address: tuple[object, ...]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            # IPv4 has a separate socket: on this one, its clients would have addresses such as ::ffff:10.0.0.1, which
            # are in none of the networks of trusted_proxies.
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
        listener.listen(BACKLOG)  # from here on clients wait for the server instead of being refused
    except OSError:
        listener.close()
        raise
    return listener


def _cannot_listen(settings: Settings, port: int, code: int | None) -> CannotListen:
    host, host_variable, port_variable = settings.host, settings.variable("host"), settings.variable("port")
    match code:
        case errno.EADDRINUSE:
            message = (
                f"Port {port} on {host} is already in use. Stop the process that uses it (see `lsof -i :{port}`) "
                f"or choose another port: {port_variable}={port + 1}"
            )
        case errno.EADDRNOTAVAIL:
            message = (
                f"{host_variable}: {host!r} is not an address or host name of this machine. "
                "Use 127.0.0.1 for local connections only, :: for all interfaces."
            )
        case errno.EACCES:
            message = f"Port {port} requires privileges. Choose one above 1023: {port_variable}=8000"
        case _:
            message = (
                f"Cannot listen on {_host_port(host, port)}: {os.strerror(code or 0)}. "
                f"Choose another address or port: {host_variable}, {port_variable}"
            )
    return CannotListen(message)
