"""A client that sends requests continuously during a disruption."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import httpx2
from e2e.example import EXAMPLE
from e2e.namespace import Namespace


class Traffic:
    """Sends requests continuously, and records every unexpected response.

    Not only GETs: nginx retries them on a second pod, which would hide lost requests.
    """

    def __init__(self, namespace: Namespace, token: str = "") -> None:
        self.responses = 0
        self.failures: list[str] = []
        self._namespace = namespace
        self._token = token
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Traffic:
        self._future = self._thread.submit(self._send_requests)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.shutdown()  # each request has a timeout
        if kind is None:
            self._future.result()  # raises the error that stopped the client before the test did

    def _send_requests(self) -> None:
        with self._namespace.client() as client:
            if self._token:
                client.headers["Authorization"] = f"Bearer {self._token}"
            while not self._stop.wait(0.02):
                try:
                    for response, expected in EXAMPLE.requests(client):
                        self._record(response, expected)
                except httpx2.TransportError as error:
                    self.failures.append(f"{time.strftime('%X')} {error!r}")

    def _record(self, response: httpx2.Response, expected: int) -> None:
        self.responses += 1
        if response.status_code != expected:
            request = response.request
            self.failures.append(f"{time.strftime('%X')} {request.method} {request.url.path}: {response.status_code}")
