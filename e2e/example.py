"""What tests ask of the service, to see that it answers, keeps what it was given, and loses no request."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from typing import Any, Protocol

import httpx2
from under_test import PACKAGE, REPOSITORY, SERVICE


class Example(Protocol):
    """A service has its own as EXAMPLE of e2e/PACKAGE/example.py; without one it is asked as any service can be."""

    counted: tuple[str, ...]
    """Metrics of what its /health counts."""
    helm_test: str
    """What `helm test` says in the end."""
    helm_test_unauthorized: str
    """What it says where tokens are asked for and it has none."""

    def write(self, client: httpx2.Client) -> tuple[str, Any]:
        """Has it keep something. Returns the path under which a reader finds it from then on, and what that says."""
        ...

    def requests(self, client: httpx2.Client) -> Iterator[tuple[httpx2.Response, int]]:
        """Requests one after the other, some of them such that a proxy sends once; each with its right status."""
        ...


ANY = "ok: the API responds, and only authorized callers may read its metrics"
LOCAL_ENV = (REPOSITORY / f"services/{SERVICE}/local.env").read_text()
LOAD_PATH = (re.findall(r"^LOAD_PATH=(.+)$", LOCAL_ENV, re.MULTILINE) or ["/openapi.json"])[0]
"""A GET of the service that is no probe: what `make load` asks for."""
ROUTE = LOAD_PATH.partition("?")[0]


class Asked:
    """Of a service that nothing is known of: it is asked for LOAD_PATH, and written to where nobody can write."""

    counted: tuple[str, ...] = ()
    helm_test = helm_test_unauthorized = ANY

    def write(self, client: httpx2.Client) -> tuple[str, Any]:
        answer = client.get(LOAD_PATH)
        assert answer.status_code == 200
        return LOAD_PATH, answer.json()

    def requests(self, client: httpx2.Client) -> Iterator[tuple[httpx2.Response, int]]:
        yield client.get(LOAD_PATH), 200
        yield client.post("/health"), 405


def example() -> Example:
    """That of the service under test."""
    if not (REPOSITORY / f"e2e/{PACKAGE}/example.py").exists():
        return Asked()
    its: Example = importlib.import_module(f"e2e.{PACKAGE}.example").EXAMPLE
    return its


EXAMPLE = example()
