"""The fast path: its responses are indistinguishable from those of FastAPI's routing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import fastapi
import pytest
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from httpx2 import Response
from pydantic import SecretStr
from starlette.exceptions import HTTPException
from starlette.testclient import TestClient

from chassis.auth import new_token
from chassis.problems import Problem
from task_api.app import create_app
from task_api.settings import Settings
from task_api.store import IdempotencyKeyInUse, IdempotencyRecord, StoreBusy, StoreUnavailable, Write
from task_api.store.memory import MemoryStore
from task_api.store.protocol import VersionedJson
from task_api.tasks import fast_path, routes, rules
from task_api.tasks.commands import IdempotencyKeyReused, PreconditionFailed, TaskNotFound
from task_api.tasks.models import NewTask, Task
from task_api.tasks.query import Filters, Query, read_order
from task_api.tasks.rules import RuleBroken

BODIES = [
    b'{"title": "Water the plants"}',
    b'{"title": "Water the plants", "priority": "high", "due_on": "2026-12-01", "labels": ["home", "home"]}',
    b'{"title": "a", "title": "Water the plants"}',
    b'{"title": "Water the plants", "due_at": "2026-12-01T10:00:00+02:00", "position": 3}',
    b'{"title": "Water the plants", "due_at": "2026-12-01"}',
    b'{"title": "Water the plants", "due_at": 1764547200}',
    b'{"title": "Water the plants", "due_at": "2026-12-01T10:00:00Z", "due_on": "2026-12-01"}',
    b'{"title": "Water the plants", "percent_done": 5.0}',
    b'{"title": "Water the plants", "percent_done": 5.5}',
    b'{"title": "Water the plants", "percent_done": "5"}',
    b'{"title": "Water the plants", "percent_done": true}',
    b'{"title": "Water the plants", "position": NaN}',
    b'{"title": "Water the plants", "position": 1e400}',
    b'{"title": "Water the plants", "position": -0.0}',
    b'{"title": "Water the plants", "position": "1"}',
    b'{"title": "Water the plants", "position": 123456789012345678901234567890}',
    b'{"title": "Water the plants", "parent": "01a209b3fcfd701592d5ecad43015460"}',
    b'{"title": "Water the plants", "parent": "{01a209b3-fcfd-7015-92d5-ecad43015460}"}',
    b'{"title": "Water the plants", "parent": "urn:uuid:01a209b3-fcfd-7015-92d5-ecad43015460"}',
    b'{"title": "Water the plants", "parent": 5}',
    b'{"title": "Water the plants", "status": "done"}',
    b'{"title": "Water the plants", "status": null}',
    b'{"title": "Water the plants", "labels": null}',
    b'{"title": "Water the plants", "labels": "home"}',
    b'{"title": "Water the plants", "metadata": {"a": "b", "a": "c"}}',
    b'{"title": "Water the plants", "metadata": {"": "b"}}',
    b'{"title": "Water the plants", "metadata": {"a": 1}}',
    b'{"title": "Water the plants", "description": "\\u0000"}',
    b'{"title": "Water the plants", "description": "\\ud83d\\ude00"}',
    b'{"title": "Water the plants", "description": "\\ud83d"}',
    b'{"title": "Water the plants", "colour": "green"}',
    b'\xef\xbb\xbf{"title": "Water the plants"}',
    '{"title": "Water the plants"}'.encode("utf-16"),
    b'{"title": "Water the \xff plants"}',
    b'{"title": "Water the plants"} x',
    b"[]",
    b"null",
    b"[" * 3000,
    b"",
]
QUERIES = [
    "",
    "page_size=2",
    "page_size=2&sort=title",
    "status=todo&status=done&q=water",
    "page_size=0",
    "sort=colour",
    "cursor=nonsense",
    "page_size=2&cursor=",
    "xcursor=nonsense",
    "page_size=1&page_size=2",
    "status[]=done",
    "lable=home",
]
TASK_ID = "01a209b3-fcfd-7015-92d5-ecad43015460"
PATHS = [
    "/v1/tasks",
    "/v1/tasks/",
    "/v1/tasks%0A",
    "/v1/tasks//",
    "/V1/tasks",
    "/v1/task",
    "/v1/tasks:batch",
    f"/v1/tasks/{TASK_ID}",
    f"/V1/tasks/{TASK_ID}",
    f"/v1/tasks/{TASK_ID.upper()}",
    f"/v1/tasks/{TASK_ID.replace('-', '')}",
    f"/v1/tasks/{TASK_ID.replace('-', '', 1)}",
    f"/v1/tasks/{TASK_ID}/",
    f"/v1/tasks/{TASK_ID}%0A",
    f"/v1/tasks/{TASK_ID}%0A%0A",
    f"/v1/tasks/%7B{TASK_ID}%7D",
    f"/v1/tasks/urn:uuid:{TASK_ID}",
    f"/v1/tasks/{TASK_ID}:undelete",
    f"/v1/tasks/{TASK_ID}0",
    f"/v1/tasks/{TASK_ID[:-1]}",
    f"/v1/tasks/{TASK_ID[:-1]}g",
    f"/v1/tasks/{TASK_ID[:-1]}%D9%A0",  # a digit of Unicode, which int() takes
]
ERRORS = [
    (Problem(410, "gone", type="test", headers={"X-Test": "1"}), 410),
    (HTTPException(404), 404),
    (HTTPException(405), 405),
    (HTTPException(400, "a", {"X-Test": "1"}), 400),
    (fastapi.HTTPException(403), 403),  # has the handler of its base class
    (RequestValidationError([{"type": "missing", "loc": ("query", "q"), "msg": "Field required"}]), 422),
    (WebSocketRequestValidationError([]), 500),  # its handler closes a WebSocket, and there is none
    (StoreUnavailable("gone"), 503),
    (StoreBusy("all in use"), 503),
    (IdempotencyKeyInUse(), 409),
    (IdempotencyKeyReused(), 422),
    (TaskNotFound("deleted"), 404),
    (PreconditionFailed(rules.create(NewTask(title="a"), task_id=UUID(TASK_ID), now=datetime.now(UTC))), 412),
    (RuleBroken("not allowed"), 422),
    (ZeroDivisionError(), 500),
]
"""An exception of each type that has a handler, one of a subclass, and one without, each with the response's status."""


def clients(settings: Settings | None = None, root_path: str = "") -> Iterator[TestClient]:
    """A client that uses the fast path where eligible, and one that never does."""
    plain = {"Accept-Encoding": "identity"}  # compressed, other ids make other lengths
    for left_to_fastapi in (fast_path.FALLBACK_HEADERS, {b"host"}):  # each request has a host
        app = create_app(settings or Settings())
        with pytest.MonkeyPatch.context() as patch, TestClient(app, headers=plain, root_path=root_path) as client:
            patch.setattr(fast_path, "FALLBACK_HEADERS", left_to_fastapi)
            yield client


class _Failing(MemoryStore):
    """Raises the same error from every method."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    async def get(self, _task_id: UUID) -> Task | None:
        raise self._error

    async def get_json(self, _task_id: UUID) -> VersionedJson | None:
        raise self._error

    async def page(self, _query: Query, *, size: int) -> list[Task]:
        raise self._error

    async def commit(
        self, _writes: Sequence[Write], record: IdempotencyRecord | None = None, *, now: datetime
    ) -> IdempotencyRecord | None:
        raise self._error


def comparable(response: Response) -> tuple[object, ...]:
    """The response without the parts that vary between requests."""
    varying = (
        r'[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{32}|20\d\d-\d\d-\d\dT[\d:.]+Z|(?<=cursor=)[\w-]+|(?<=cursor":")[\w-]+'
        r'|W/"[0-9a-f-]+"'
    )
    text = re.sub(varying, "...", response.text)
    headers = {name: re.sub(varying, "...", value) for name, value in response.headers.items()}
    return response.status_code, text, headers


@pytest.mark.parametrize("body", BODIES)
def test_creating_a_task_gets_the_same_response_on_both_paths(body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    one, other = (comparable(client.post("/v1/tasks", content=body, headers=headers)) for client in clients())
    assert one == other


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "application/json; charset=utf-8"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
        {"Content-Type": "application/merge-patch+json"},
    ],
)
def test_request_headers_are_handled_the_same_on_both_paths(headers: dict[str, str]) -> None:
    one, other = (comparable(client.post("/v1/tasks", content=BODIES[0], headers=headers)) for client in clients())
    assert one == other


@pytest.mark.parametrize("values", [[b"text/plain", b"application/json"], [b"application/json", b"text/plain"]])
def test_several_content_types_are_handled_the_same_on_both_paths(values: list[bytes]) -> None:
    headers = [(b"Content-Type", value) for value in values]
    one, other = (comparable(client.post("/v1/tasks", content=BODIES[0], headers=headers)) for client in clients())
    assert one == other


@pytest.mark.parametrize(
    ("keys", "statuses"),
    [
        (["k"], [201, 201, 422, 422]),
        (['"k"'], [201, 201, 422, 422]),
        (['"a \\"word\\""'], [201, 201, 422, 422]),
        (["k" * 255], [201, 201, 422, 422]),
        (["k" * 256], [422, 422, 422, 422]),
        ([""], [422, 422, 422, 422]),
        (["two words"], [422, 422, 422, 422]),
        (['"open'], [422, 422, 422, 422]),
        (["\xe9"], [422, 422, 422, 422]),
        (["k", "k"], [422, 422, 422, 422]),
    ],
)
def test_idempotency_keys_are_handled_the_same_on_both_paths(keys: list[str], statuses: list[int]) -> None:
    responses = []
    for client in clients():
        headers = [(b"Content-Type", b"application/json"), *((b"Idempotency-Key", k.encode("latin-1")) for k in keys)]
        bodies = [BODIES[0], BODIES[0], BODIES[1], b"{}"]
        responses.append([comparable(client.post("/v1/tasks", content=body, headers=headers)) for body in bodies])
    assert responses[0] == responses[1]
    assert [status for status, *_ in responses[0]] == statuses


@pytest.mark.parametrize("query", QUERIES)
def test_a_list_gets_the_same_response_on_both_paths_also_when_cached(query: str) -> None:
    responses = []
    for client in clients():
        for number in range(3):
            client.post("/v1/tasks", json={"title": f"Water the plants {number}"})
        responses.append([comparable(client.get(f"/v1/tasks?{query}")) for _ in range(2)])
    one, other = responses
    assert one == other


def test_the_next_page_is_the_same_on_both_paths() -> None:
    pages = []
    for client in clients():
        for number in range(5):
            client.post("/v1/tasks", json={"title": f"Water the plants {number}"})
        page, seen = client.get("/v1/tasks?page_size=2&sort=title"), []
        while "link" in page.headers:
            page = client.get(page.links["next"]["url"])
            seen.append([task["title"] for task in page.json()["items"]])
        pages.append(seen)
    assert pages[0] == pages[1] == [["Water the plants 2", "Water the plants 3"], ["Water the plants 4"]]


def test_getting_a_task_gets_the_same_response_on_both_paths() -> None:
    responses = []
    for client in clients():
        path = client.post("/v1/tasks", json={"title": "Water the plants"}).headers["location"]
        found = [client.get(path), client.get(path + "?x=1"), client.get(path, headers={"If-None-Match": '"v1"'})]
        found.append(client.get(path, headers={"If-Match": '"v2"'}))
        found += [client.get(path.upper().replace("/V1/TASKS", "/v1/tasks")), client.head(path)]
        client.delete(path)
        found += [client.get(path), client.get(f"/v1/tasks/{TASK_ID}")]
        responses.append([comparable(response) for response in found])
    assert responses[0] == responses[1]
    assert [status for status, *_ in responses[0]] == [200, 422, 304, 412, 200, 200, 404, 404]


def test_unauthorized_requests_are_rejected_the_same_on_both_paths(tmp_path: Path) -> None:
    token, line = new_token("reader", ["read"])
    file = tmp_path / "tokens"
    file.write_text(line + "\n")
    responses = []
    for client in clients(Settings(auth="tokens", auth_token_file=file, database_url=SecretStr("memory://"))):
        credential = {"Authorization": f"Bearer {token}"}
        found = [
            client.get(path, headers=headers)
            for path in ("/v1/tasks", f"/v1/tasks/{TASK_ID}")
            for headers in ({}, credential, {"Authorization": "Bearer x"})
        ]
        found.append(client.post("/v1/tasks", json={"title": "Water the plants"}, headers=credential))
        found.append(client.post("/v1/tasks", json={"title": ""}, headers=credential))
        responses.append([comparable(response) for response in found])
    assert responses[0] == responses[1]
    assert [status for status, *_ in responses[0]] == [401, 200, 401, 401, 404, 401, 403, 403]


@pytest.mark.parametrize(
    ("root_path", "prefix"),
    [("", ""), ("", "/"), ("", "/api"), ("/api", "/api"), ("/api", ""), ("/api", "/api/"), ("/api", "/apis")],
)
def test_each_path_leads_to_the_same_route_on_both_paths(root_path: str, prefix: str) -> None:
    responses = []
    for client in clients(root_path=root_path):
        client.get(f"{root_path}/v1/tasks")  # so that its query string is cached
        counted = _counted(client)
        urls = [f"http://testserver{prefix}{path}" for path in PATHS]
        found = [
            comparable(client.request(method, url, json={"title": "Water the plants"} if method == "POST" else None))
            for url in urls
            for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
        ]
        responses.append((found, {line: count - counted.get(line, 0) for line, count in _counted(client).items()}))
    assert responses[0] == responses[1]


def test_the_errors_compared_are_all_that_have_a_handler() -> None:
    assert create_app(Settings()).exception_handlers.keys() <= {type(error) for error, _ in ERRORS}


@pytest.mark.parametrize(
    ("error", "status"), ERRORS, ids=[f"{type(error).__name__}-{status}" for error, status in ERRORS]
)
def test_errors_are_reported_and_counted_the_same_on_both_paths(error: Exception, status: int) -> None:
    responses = []
    for client in clients():
        client.get("/v1/tasks")  # so that its query string is cached
        assert isinstance(client.app, FastAPI)
        client.app.state.store = _Failing(error)
        counted = _counted(client)
        found = [
            client.get(f"/v1/tasks/{TASK_ID}"),
            client.get("/v1/tasks"),
            client.post("/v1/tasks", json={"title": "Water the plants"}),
        ]
        more = {line: count - counted.get(line, 0) for line, count in _counted(client).items()}
        responses.append(
            ([comparable(response) for response in found], {line for line, count in more.items() if count})
        )
    assert responses[0] == responses[1]
    assert [found for found, *_ in responses[0][0]] == [status] * 3
    assert responses[0][1] == {
        f'http_requests_total{{method="{method}",route="{route}",status="{status}"}}'
        for method, route in (("GET", "/v1/tasks/{task_id}"), ("GET", "/v1/tasks"), ("POST", "/v1/tasks"))
    }


def _counted(client: TestClient) -> dict[str, float]:
    lines = [line for line in client.get("/metrics").text.splitlines() if line.startswith("http_requests_total{")]
    counted = {name: float(count) for name, _, count in (line.rpartition(" ") for line in lines)}
    return {name: count for name, count in counted.items() if "/v1/tasks" in name}


def test_eligible_requests_bypass_fastapi() -> None:
    app = create_app(Settings())
    app.router.routes.clear()
    with TestClient(app) as client:
        created = client.post("/v1/tasks", json={"title": "Water the plants"}, headers={"Idempotency-Key": "k"})
        assert created.status_code == 201
        assert client.post("/v1/tasks", json={"title": "Water the plants"}).status_code == 201
        assert client.get(created.headers["location"]).status_code == 200
        app.state.parsed_queries.put(b"", routes.ListParams(Filters(), read_order("-created_at")), 50)
        assert client.get("/v1/tasks").status_code == 200
        assert client.get("/livez").status_code == 404


def test_a_rate_limit_counts_a_request_once_on_both_paths() -> None:
    for client in clients(Settings(rate_limit="4/hour")):
        statuses = [
            client.post("/v1/tasks", json=body).status_code
            for body in ({"title": "Water the plants"}, {"title": ""}, {"title": ""}, {"title": "a"}, {"title": "b"})
        ]
        assert statuses == [201, 422, 422, 201, 429]


def test_the_parsed_query_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes.ParsedQueryCache, "MAX_ENTRIES", 50)
    client = next(iter(clients()))
    assert isinstance(client.app, FastAPI)
    cache: routes.ParsedQueryCache = client.app.state.parsed_queries
    for number in range(cache.MAX_ENTRIES + 10):
        client.get(f"/v1/tasks?project=p{number}")
    assert 0 < len(cache) <= cache.MAX_ENTRIES
    before = len(cache)
    long = "&".join([f"label={'x' * 100}"] * (cache.MAX_BYTES // 100))
    assert client.get(f"/v1/tasks?{long}").status_code == 200
    assert len(cache) == before


def test_a_full_query_cache_is_only_emptied_for_a_new_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(routes.ParsedQueryCache, "MAX_ENTRIES", 2)
    cache, params = routes.ParsedQueryCache(), routes.ListParams(Filters(), read_order("-created_at"))
    for query_string in (b"project=a", b"project=b", b"project=a", b"x" * (cache.MAX_BYTES + 1)):
        cache.put(query_string, params, 50)
    assert len(cache) == 2
    cache.put(b"project=c", params, 50)
    assert len(cache) == 1
