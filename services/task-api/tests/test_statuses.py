"""Every status documented for an operation really occurs, and no other does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal
from fastapi import FastAPI
from httpx2 import Response
from running import SERVICE
from starlette.testclient import TestClient
from starlette.types import Message

from chassis.auth import AuthUnavailable, Caller, new_token
from chassis.rate_limit import RateLimit
from task_api.app import create_app
from task_api.settings import Settings
from task_api.store import IdempotencyKeyInUse, StoreUnavailable
from task_api.store.memory import MemoryStore
from task_api.tasks.upkeep import purge

PATHS: dict[str, dict[str, Any]] = json.loads((SERVICE / "openapi.json").read_text())["paths"]
OPERATIONS = {
    operation["operationId"]: (method.upper(), path, set(map(int, operation["responses"])))
    for path, methods in PATHS.items()
    for method, operation in methods.items()
}
UNKNOWN = "01a209b3-fcfd-7015-92d5-ecad43015460"
BODIES: dict[str, Any] = {
    "create_task": {"title": "x"},
    "update_task": {"title": "y"},
    "batch_tasks": {"items": [{"action": "create", "task": {"title": "x"}}]},
}


class Api:
    """The service with authentication by tokens, and one task."""

    def __init__(self, client: TestClient, settings: Settings, tokens: dict[str, str]) -> None:
        self.client = client
        self.settings = settings
        self.tokens = tokens
        self.store: MemoryStore = app(self).state.store
        self.task = UNKNOWN
        self.task = self.call("create_task").json()["id"]

    def call(self, operation: str, *, who: str | None = "both", task: str | None = None, **more: Any) -> Response:
        """A request that would succeed, except for the given differences."""
        method, path, _ = OPERATIONS[operation]
        headers = {} if who is None else {"Authorization": f"Bearer {self.tokens[who]}"}
        headers |= more.pop("headers", {})
        if operation in BODIES and "content" not in more:
            more.setdefault("json", BODIES[operation])
        if "content" in more:
            headers["Content-Type"] = "application/json"
        return self.client.request(method, path.replace("{task_id}", task or self.task), headers=headers, **more)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    both, read, write = (new_token("x", scopes) for scopes in (("read", "write"), ("read",), ("write",)))
    file = tmp_path / "tokens"
    file.write_text("\n".join(line for _, line in (both, read, write)))
    settings = Settings(auth="tokens", auth_token_file=file, body_seconds=0.01)
    with TestClient(create_app(settings)) as client:
        yield Api(client, settings, {"both": both[0], "read": read[0], "write": write[0]})


def provoke(api: Api, operation: str, status: int, monkeypatch: pytest.MonkeyPatch) -> Response:
    """The response of the operation in the conditions that cause the status."""
    method = OPERATIONS[operation][0]
    match status:
        case 304:
            return api.call(operation, headers={"If-None-Match": api.call(operation).headers["ETag"]})
        case 400 if operation == "list_tasks":
            return api.call(operation, params={"cursor": "x"})
        case 400 if operation == "list_changes":
            return api.call(operation, params={"since": "x"})
        case 400 if operation in BODIES:
            return api.call(operation, content=b"[" * 100_000)
        case 400:
            return api.call(operation, headers={"If-None-Match": "v1"})
        case 401:
            return api.call(operation, who=None)
        case 403:
            return api.call(operation, who="write" if method == "GET" else "read")
        case 404:
            return api.call(operation, task=UNKNOWN)
        case 408:
            return _call_slowly(api, operation)
        case 409:

            async def in_use(*_: object, **__: object) -> None:
                raise IdempotencyKeyInUse

            monkeypatch.setattr(MemoryStore, "commit", in_use)
            return api.call(operation, headers={"Idempotency-Key": "k"})
        case 410:
            since = api.call(operation, params={"page_size": 1}).json()["next_since"]
            api.call("update_task")
            portal(api).call(_purge_in_two_months, api.store)
            return api.call(operation, params={"since": since})
        case 413:
            return api.call(operation, content=b" " * (api.settings.body_max_bytes + 1))
        case 415:
            return api.call(operation, headers={"Content-Encoding": "br"})
        case 429:
            app(api).state.rate_limit = RateLimit("1/day")
            assert api.call(operation).status_code < 400
            return api.call(operation)
        case 412:
            return api.call(operation, headers={"If-Match": '"v9"'})
        case 422 if operation in BODIES:
            return api.call(operation, json={"title": 5})
        case 422 if operation == "list_changes":
            return api.call(operation, params={"page_size": 0})
        case 422:
            return api.call(operation, params={"status": "x"})
        case 503 if operation == "readyz":
            app(api).state.health_state.draining = True
            return api.call(operation)
        case 503 if operation == "get_metrics":
            app(api).state.authenticator = _Unavailable()
            return api.call(operation)
        case 503:

            async def lost(*_: object, **__: object) -> None:
                raise StoreUnavailable("gone")

            for name in ("ping", "commit", "get", "get_json", "get_many", "page", "changes", "count_found", "names"):
                monkeypatch.setattr(MemoryStore, name, lost)
            return api.call(operation)
        case _:
            return api.call(operation)


def _call_slowly(api: Api, operation: str) -> Response:
    """A request whose body starts and never ends."""
    method, path, _ = OPERATIONS[operation]
    scope = {
        "type": "http",
        "method": method,
        "path": path.replace("{task_id}", api.task),
        "query_string": b"",
        "headers": [(b"content-length", b"100"), (b"content-type", b"application/json")],
    }
    sent: list[Message] = []
    beginning: list[Message] = [{"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Message:
        return beginning.pop() if beginning else await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        sent.append(message)

    portal(api).call(app(api), scope, receive, send)
    start, body = sent
    headers = [(name.decode(), value.decode()) for name, value in start["headers"]]
    return Response(start["status"], headers=headers, content=body["body"])


class _Unavailable:
    async def authenticate(self, authorization: str | None) -> Caller:
        raise AuthUnavailable("the keys cannot be had")


def app(api: Api) -> FastAPI:
    found = api.client.app
    assert isinstance(found, FastAPI)
    return found


def portal(api: Api) -> BlockingPortal:
    """Runs something on the event loop of the service."""
    assert api.client.portal is not None, "the client is not open"
    return api.client.portal


async def _purge_in_two_months(store: MemoryStore) -> None:
    await purge(store, now=datetime.now(UTC) + timedelta(days=60))


@pytest.mark.parametrize(
    ("operation", "status"),
    [(operation, status) for operation, (_, _, statuses) in OPERATIONS.items() for status in sorted(statuses)],
)
def test_each_documented_status_occurs(api: Api, operation: str, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    response = provoke(api, operation, status, monkeypatch)
    assert response.status_code == status, response.text
    if status >= 400 and operation not in {"health", "readyz"}:
        assert response.headers["content-type"] == "application/problem+json"


def test_every_operation_has_an_example() -> None:
    document = json.loads((SERVICE / "openapi.json").read_text())
    schemas = document["components"]["schemas"]

    def has_example(value: Any, seen: frozenset[str] = frozenset()) -> bool:
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name and name not in seen:
                return has_example(schemas[name], seen | {name})
            return bool({"example", "examples"} & value.keys()) or any(has_example(v, seen) for v in value.values())
        return isinstance(value, list) and any(has_example(v, seen) for v in value)

    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            shown = [operation.get("parameters"), operation.get("requestBody"), operation["responses"].get("200")]
            assert has_example(shown), f"{method} {path} shows no example"
