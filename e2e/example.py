"""Generic requests of tests, which check that a service responds, stores data and loses no request."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any, Protocol

import httpx2
from under_test import PACKAGE, REPOSITORY, SERVICE


class Example(Protocol):
    """A service defines its own as EXAMPLE in e2e/PACKAGE/example.py; without one it gets the generic requests."""

    health_metrics: tuple[str, ...]
    """Metrics of the counts in its /health."""
    helm_test: str
    """The last line of `helm test`."""
    helm_test_unauthorized: str
    """The same, if tokens are required and the test has none."""

    def write(self, client: httpx2.Client) -> tuple[str, Any]:
        """Stores something. Returns the path to read it from, and its content."""
        ...

    def requests(self, client: httpx2.Client) -> Iterator[tuple[httpx2.Response, int]]:
        """Sequential requests, including ones that a proxy must not retry; each with its expected status."""
        ...


ANY = "ok: the API responds, and only authorized callers may read its metrics"
LOCAL_ENV = (REPOSITORY / f"services/{SERVICE}/local.env").read_text()
LOAD_PATH = (re.findall(r"^LOAD_PATH=(.+)$", LOCAL_ENV, re.MULTILINE) or ["/openapi.json"])[0]
"""A GET of the service that is no probe: the one that `make load` sends."""
ROUTE = LOAD_PATH.partition("?")[0]


class GenericExample:
    """For any service: GETs LOAD_PATH, and writes to a path that accepts no writes."""

    health_metrics: tuple[str, ...] = ()
    helm_test = helm_test_unauthorized = ANY

    def write(self, client: httpx2.Client) -> tuple[str, Any]:
        response = client.get(LOAD_PATH)
        assert response.status_code == 200
        return LOAD_PATH, response.json()

    def requests(self, client: httpx2.Client) -> Iterator[tuple[httpx2.Response, int]]:
        yield client.get(LOAD_PATH), 200
        yield client.post("/health"), 405


def example() -> Example:
    """The example of the service under test."""
    if not (REPOSITORY / f"e2e/{PACKAGE}/example.py").exists():
        return GenericExample()
    specific: Example = importlib.import_module(f"e2e.{PACKAGE}.example").EXAMPLE
    return specific


EXAMPLE = example()
