"""A client that is there all the time while something happens to the pods."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import httpx2
from e2e.example import EXAMPLE
from e2e.namespace import Namespace


class Traffic:
    """A client that asks all the time, and notes each answer that is not the right one.

    Not by GET alone: nginx asks a second pod when that fails, so with reads alone lost requests would not be seen.
    """

    def __init__(self, namespace: Namespace, token: str = "") -> None:
        self.answers = 0
        self.wrong: list[str] = []
        self._namespace = namespace
        self._token = token
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(max_workers=1)

    def __enter__(self) -> Traffic:
        self._asking = self._thread.submit(self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.shutdown()  # each request has a timeout
        if kind is None:
            self._asking.result()  # raises what ended the client before the test did

    def _ask(self) -> None:
        with self._namespace.client() as client:
            if self._token:
                client.headers["Authorization"] = f"Bearer {self._token}"
            while not self._stop.wait(0.02):
                try:
                    for answer, wanted in EXAMPLE.requests(client):
                        self._note(answer, wanted)
                except httpx2.TransportError as error:
                    self.wrong.append(f"{time.strftime('%X')} {error!r}")

    def _note(self, response: httpx2.Response, wanted: int) -> None:
        self.answers += 1
        if response.status_code != wanted:
            request = response.request
            self.wrong.append(f"{time.strftime('%X')} {request.method} {request.url.path}: {response.status_code}")
