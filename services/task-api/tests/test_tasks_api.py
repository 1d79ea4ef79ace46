"""/v1/tasks over HTTP, with every store."""

from __future__ import annotations

import base64
import functools
import itertools
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx2
import pytest
from fastapi import FastAPI
from httpx2 import Response
from making import a_task
from prometheus_client import REGISTRY
from pydantic import SecretStr
from running import serving
from starlette.testclient import TestClient

from task_api.app import create_app
from task_api.settings import Settings
from task_api.store import StoredChange, Write
from task_api.tasks import commands, counts, pages
from task_api.tasks.feed import CHUNK
from task_api.tasks.models import EXAMPLE_ID, Status, TaskPage, to_json
from task_api.tasks.pages import MAX_PAGE_BYTES
from task_api.tasks.query import Filters, Query, read_order, write_cursor

UNKNOWN = "01a209b3-fcfd-7015-92d5-ecad43015460"
MIB = 1024 * 1024


@pytest.fixture
def app(storage_url: str) -> FastAPI:
    return create_app(Settings(database_url=SecretStr(storage_url)))


@pytest.fixture
def client(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app) as client:
        yield client


def create(client: TestClient, **task: object) -> dict[str, object]:
    response = client.post("/v1/tasks", json={"title": "Water the plants", **task})
    assert response.status_code == 201, response.text
    created: dict[str, object] = response.json()
    return created


def problem(response: Response, status: int, type: str | None = None) -> dict[str, Any]:
    """The problem document of `response`, which must have this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    if type is not None:
        assert document["type"] == f"/problems/{type}"
    assert {"type", "title", "detail", "instance", "errors", "request_id"} <= document.keys()
    assert document["request_id"] == response.headers["x-request-id"]
    return document


def test_a_created_task_is_complete_and_found_at_its_location(client: TestClient) -> None:
    response = client.post("/v1/tasks", json={"title": "  Water the plants ", "description": "all of them"})
    assert response.status_code == 201
    task = response.json()
    assert UUID(task["id"]).version == 7
    assert task["title"] == "Water the plants"
    assert task["created_at"].endswith("Z")
    read = client.get(response.headers["location"])
    assert read.json() == task
    assert read.headers["etag"] == response.headers["etag"] == '"v1"'


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/title"),
        ({"title": ""}, "/title"),
        ({"title": "   "}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"title": "a\0b"}, "/title"),
        ({"title": "a\nb"}, "/title"),
        ({"title": 5}, "/title"),
        ({"title": "a", "status": "later"}, "/status"),
        ({"title": "a", "description": "x" * 10_001}, "/description"),
        ({"title": "a", "a/b~c": 1}, "/a~1b~0c"),
        ({"title": "a", "due_at": "2026-12-01T10:00:00"}, "/due_at"),
        ({"title": "a", "due_at": "0001-01-01T00:00:00+14:00"}, "/due_at"),
        ({"title": "a", "due_at": 1800000000}, "/due_at"),
        ({"title": "a", "due_on": "2026-02-30"}, "/due_on"),
        ({"title": "a", "due_on": "2026-12-01T00:00:00Z"}, "/due_on"),
        ({"title": "a", "percent_done": "5"}, "/percent_done"),
        ({"title": "a", "position": False}, "/position"),
        ({"title": "a", "due_on": "2026-12-01", "due_at": "2026-12-01T00:00:00Z"}, ""),
        ({"title": "a", "labels": ["x"] * 21}, "/labels"),
        ({"title": "a", "labels": ["x", ""]}, "/labels/1"),
        ({"title": "a", "percent_done": 101}, "/percent_done"),
        ({"title": "a", "recurrence": "every day"}, "/recurrence"),
        ({"title": "a", "position": "NaN"}, "/position"),
        ({"title": "a", "metadata": {"a b": "x"}}, "/metadata/a b"),
        ({"title": "a", "metadata": {str(n): "" for n in range(51)}}, "/metadata"),
        ({"title": "a", "version": 7}, "/version"),
        ([], ""),
    ],
)
def test_invalid_fields_are_named_and_not_stored(client: TestClient, body: object, pointer: str) -> None:
    document = problem(client.post("/v1/tasks", json=body), 422, "invalid-request")
    assert [e["pointer"] for e in document["errors"]] == [pointer]
    assert client.get("/v1/tasks").json()["items"] == []


def test_errors_in_a_batch_point_into_the_body_as_sent(client: TestClient) -> None:
    items = [
        {"action": "create", "task": {"title": 5, "metadata": {"a b": "x"}}},
        {"action": "update", "id": UNKNOWN, "patch": {"labels": ["x", ""], "colour": "green"}},
        {"action": "delete"},
        {"action": "move"},
    ]
    document = problem(client.post("/v1/tasks:batch", json={"items": items}), 422, "invalid-request")
    assert {(error["pointer"], error["parameter"]) for error in document["errors"]} == {
        (pointer, None)
        for pointer in (
            "/items/0/task/title",
            "/items/0/task/metadata/a b",
            "/items/1/patch/labels/1",
            "/items/1/patch/colour",
            "/items/2/id",
            "/items/3",
        )
    }


@pytest.mark.parametrize("body", [b"", b'{"title": "\\ud800"}'])
def test_a_body_that_is_not_a_task_is_rejected(client: TestClient, body: bytes) -> None:
    problem(client.post("/v1/tasks", content=body, headers={"content-type": "application/json"}), 422)


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", '{"title": "x"}'.encode("utf-16"), b"[" * 100_000])
def test_a_body_that_is_not_json_is_rejected(client: TestClient, body: bytes) -> None:
    headers = {"content-type": "application/json"}
    problem(client.post("/v1/tasks", content=body, headers=headers), 400, "invalid-json")


@pytest.mark.parametrize(
    ("method", "media_type", "accepted"),
    [
        ("POST", "application/merge-patch+json", "application/json"),
        ("POST", "text/plain", "application/json"),
        ("PATCH", "application/json-patch+json", "application/merge-patch+json, application/json"),
    ],
)
def test_an_unsupported_content_type_is_rejected(
    client: TestClient, method: str, media_type: str, accepted: str
) -> None:
    path = f"/v1/tasks/{create(client)['id']}" if method == "PATCH" else "/v1/tasks"
    response = client.request(method, path, content=b'{"title": "x"}', headers={"content-type": media_type})
    problem(response, 415, "unsupported-media-type")
    assert response.headers[f"accept-{method.lower()}"] == accepted


def test_a_compressed_body_is_rejected(client: TestClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    problem(client.post("/v1/tasks", content=b'{"title": "x"}', headers=headers), 415, "unsupported-media-type")


# --- lists ----------------------------------------------------------------------------


def test_lists_are_paged_newest_first(client: TestClient) -> None:
    ids = [create(client, title=str(n))["id"] for n in range(5)]
    seen: list[object] = []
    path = "/v1/tasks?page_size=2&status=todo"
    while path:
        page = client.get(path)
        seen += [task["id"] for task in page.json()["items"]]
        link = page.headers.get("link", "")
        cursor = page.json()["next_cursor"]
        assert (cursor is None) == (link == "")
        path = link.removeprefix("<").removesuffix('>; rel="next"')
        assert cursor is None or f"cursor={cursor}" in path
    assert seen == ids[::-1]


def test_an_exactly_full_page_is_the_last(client: TestClient) -> None:
    create(client)
    create(client)
    assert client.get("/v1/tasks", params={"page_size": 2}).json()["next_cursor"] is None


def test_a_page_is_the_json_of_its_schema(client: TestClient) -> None:
    for n in range(3):
        task = {
            "title": f"{n} “ü” \\",
            "labels": ["home"],
            "metadata": {"a": "b"},
            "position": 1e15,
            "due_on": "2026-12-01",
        }
        assert client.post("/v1/tasks", json=task).status_code == 201
    for path in ("/v1/tasks?page_size=2", "/v1/tasks?page_size=3", "/v1/tasks?label=none"):
        for _ in range(2):
            content = client.get(path).content
            assert to_json(TaskPage.model_validate_json(content)) == content


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/v1/tasks", "GET, HEAD, OPTIONS, POST"),
        (f"/v1/tasks/{EXAMPLE_ID}", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        (f"/v1/tasks/{EXAMPLE_ID}:undelete", "OPTIONS, POST"),
        ("/v1/tasks:batch", "OPTIONS, POST"),
        ("/health", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
    ],
)
def test_an_unsupported_method_gets_the_allowed_ones(client: TestClient, path: str, methods: str) -> None:
    response = client.put(path)
    assert (response.status_code, response.headers["allow"]) == (405, methods)
    response = client.options(path)
    assert (response.status_code, response.headers["allow"]) == (204, methods)


def test_head_is_get_without_the_body(client: TestClient) -> None:
    task = create(client, labels=["home"])
    create(client)
    paths = [f"/v1/tasks/{task['id']}", "/v1/tasks?page_size=1", "/v1/tasks.ics", "/v1/changes", "/livez", "/nowhere"]
    for path in paths:
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        of_content = {"content-length", "content-encoding"}  # unknown if compressed on the fly
        assert head.headers.keys() | of_content == got.headers.keys() | of_content
        assert head.headers.get("content-length", got.headers["content-length"]) == got.headers["content-length"]
        for name in ("etag", "link", "content-type", "cache-control"):
            assert head.headers.get(name) == got.headers.get(name)
    known = client.head(f"/v1/tasks/{task['id']}", headers={"If-None-Match": '"v1"'})
    assert (known.status_code, known.headers["etag"]) == (304, '"v1"')
    stream = client.head("/v1/changes", headers={"Accept": "text/event-stream"})
    assert (stream.status_code, stream.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


def test_a_too_large_page_size_is_lowered(client: TestClient) -> None:
    client.post("/v1/tasks:batch", json={"items": [{"action": "create", "task": {"title": "x"}}] * 100})
    client.post("/v1/tasks:batch", json={"items": [{"action": "create", "task": {"title": "x"}}] * 100})
    create(client)
    assert len(client.get("/v1/tasks", params={"page_size": 10**30}).json()["items"]) == 200


@pytest.mark.parametrize(("path", "going_on"), [("tasks", "next_cursor"), ("changes", "next_since")])
def test_pages_of_large_tasks_are_smaller_and_complete_together(client: TestClient, path: str, going_on: str) -> None:
    largest = {"action": "create", "task": {"title": "x", "description": "🌱" * 10_000}}
    for _ in range(4):
        client.post("/v1/tasks:batch", json={"items": [largest] * 15})
    parameters, seen = {"page_size": 60}, []
    while True:
        response = client.get(f"/v1/{path}", params=parameters)
        assert len(response.content) <= MAX_PAGE_BYTES
        page = response.json()
        seen.append(len(page["items"]))
        if sum(seen) >= 60:
            break
        parameters |= {going_on.removeprefix("next_"): page[going_on]}
    assert seen == [25, 25, 10]  # a mebibyte has no room for more of 40 KB
    if path == "tasks":
        assert page["next_cursor"] is None


def test_a_task_larger_than_a_page_is_returned_alone(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "MAX_PAGE_BYTES", 100)
    tasks = [create(client), create(client)]
    first = client.get("/v1/tasks").json()
    assert first["items"] == tasks[1:]
    assert client.get("/v1/tasks", params={"cursor": first["next_cursor"]}).json()["items"] == tasks[:1]


@pytest.mark.parametrize("size", ["0", "-1", "many", ""])
def test_an_invalid_page_size_is_rejected(client: TestClient, size: str) -> None:
    problem(client.get("/v1/tasks", params={"page_size": size}), 422)


@pytest.mark.parametrize(
    "cursor", ["", "x", "not/base64", "AAAA", "ä", "=" * 30, "A" * 3999, "W1tbW1tb", "bnVsbA", "WyIiLFtdLCIiXQ"]
)
def test_a_forged_cursor_is_rejected(client: TestClient, cursor: str) -> None:
    document = problem(client.get("/v1/tasks", params={"cursor": cursor}), 400, "invalid-cursor")
    assert "Start over without a cursor" in str(document["detail"])


@pytest.mark.parametrize("title", ["\0", "a\0b", "\ud800"], ids=ascii)
def test_a_forged_cursor_with_invalid_text_is_rejected(client: TestClient, title: str) -> None:
    """PostgreSQL's text cannot store either."""
    cursor = write_cursor(Query(order=read_order("title")), a_task(title=title))
    problem(client.get("/v1/tasks", params={"sort": "title", "cursor": cursor}), 400, "invalid-cursor")


@pytest.mark.parametrize("other", [{"status": "done"}, {"q": "x"}, {"sort": "title"}, {"due_after": "2026-01-01"}])
def test_a_cursor_is_bound_to_its_list(client: TestClient, other: dict[str, str]) -> None:
    create(client)
    create(client)
    cursor = client.get("/v1/tasks", params={"page_size": 1}).json()["next_cursor"]
    assert client.get("/v1/tasks", params={"page_size": 7, "cursor": cursor}).status_code == 200
    document = problem(client.get("/v1/tasks", params={"cursor": cursor, **other}), 400, "invalid-cursor")
    assert "other filters" in str(document["detail"])


def test_filters_and_sort_are_parsed_from_the_query(client: TestClient) -> None:
    create(client, title="late", due_on="2026-12-02", labels=["home", "x"], priority="low")
    create(client, title="early", due_at="2026-12-01T23:00:00-05:00", labels=["home"], priority="urgent", project="p")
    create(client, title="never", labels=["home"], assignee="ann", status="in_progress")

    def titles(query: str) -> list[str]:
        return [task["title"] for task in client.get(f"/v1/tasks?{query}").json()["items"]]

    assert titles("sort=due") == ["late", "early", "never"]
    assert titles("sort=-priority,due") == ["early", "late", "never"]
    assert titles("label=home&label=x") == ["late"]
    assert titles("priority=low&priority=urgent&sort=title") == ["early", "late"]
    assert titles("due_before=2026-12-03&due_after=2026-12-02T00:00:00Z&sort=due") == ["late", "early"]
    assert titles("status=in_progress") == titles("assignee=ann") == ["never"]
    assert titles("project=p") == titles("q=EARLY") == ["early"]
    assert titles("updated_since=2999-01-01") == []
    assert (
        titles("not_status=in_progress&sort=due") == titles("not_status=done&status=todo&sort=due") == ["late", "early"]
    )
    assert titles("not_status=todo&status=todo") == titles("&".join(f"not_status={s.value}" for s in Status)) == []
    assert titles("without=project&without=assignee&without=parent") == ["late"]
    assert titles("prefix=NEV") == ["never"]
    assert titles("prefix=ev") == titles("prefix=e%20x") == titles("prefix=*") == titles("q=nev") == []
    assert titles("created_before=2999-01-01&created_after=2020-01-01T00:00:00Z&q=late") == ["late"]
    assert titles("created_after=2999-01-01") == titles("completed_after=2020-01-01") == []


def test_completed_tasks_are_filtered_by_completion_time(client: TestClient) -> None:
    done = create(client, status="done")
    create(client)
    for query, count in [
        ({"completed_after": str(done["completed_at"])}, 1),
        ({"completed_before": str(done["completed_at"])}, 0),
        ({"completed_before": "2999-01-01"}, 1),
    ]:
        assert len(client.get("/v1/tasks", params=query).json()["items"]) == count


def test_a_list_is_counted_up_to_a_limit(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts, "MAX_COUNT", 2)
    assert client.get("/v1/tasks:count").json() == {"count": 0, "more": False}
    for _ in range(2):
        create(client, labels=["home"])
    create(client)
    assert client.get("/v1/tasks:count").json() == {"count": 2, "more": True}
    assert client.get("/v1/tasks:count?label=home").json() == {"count": 2, "more": False}
    problem(client.get("/v1/tasks:count?status=x"), 422, "invalid-request")


def test_labels_projects_and_assignees_are_listed_with_their_counts(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(client, labels=["old"], project="p")
    create(client, labels=["b", "a"], project="p", assignee="ann")
    deleted = create(client, labels=["a"], project="p")
    client.delete(f"/v1/tasks/{deleted['id']}")
    assert client.get("/v1/labels").json() == {
        "items": [{"name": "a", "count": 1}, {"name": "b", "count": 1}, {"name": "old", "count": 1}],
        "whole": True,
    }
    assert client.get("/v1/projects").json() == {"items": [{"name": "p", "count": 2}], "whole": True}
    assert client.get("/v1/assignees").json() == {"items": [{"name": "ann", "count": 1}], "whole": True}
    monkeypatch.setattr(counts, "SCANNED_TASKS", 2)
    monkeypatch.setattr(counts, "MAX_NAMES", 1)
    assert client.get("/v1/labels").json() == {"items": [{"name": "a", "count": 1}], "whole": False}
    assert client.get("/v1/projects").json() == {"items": [{"name": "p", "count": 1}], "whole": False}


@pytest.mark.parametrize(
    ("filters", "sort", "bound"),
    [
        (Filters(), "-created_at", "7f4777457d4a818f"),
        (
            Filters(
                status=frozenset({Status.DONE}),
                project="p",
                due_before=datetime(2026, 1, 1, tzinfo=UTC),
                words=frozenset({"a"}),
            ),
            "-priority,due",
            "d0d006f48836cf98",
        ),
    ],
)
def test_cursors_are_bound_as_in_the_previous_release(filters: Filters, sort: str, bound: str) -> None:
    """Old and new pods run side by side: a cursor of one is valid at the other, unless a new filter is used."""
    cursor = write_cursor(Query(filters, read_order(sort)), a_task())
    assert json.loads(base64.urlsafe_b64decode(cursor + "=="))[0] == bound


@pytest.mark.parametrize(
    "query",
    [
        "sort=nothing",
        "status=x",
        "due_before=soon",
        "due_before=2026-12-01T10:00:00",
        "label=",
        "parent=1",
        "updated_since=0.5",
    ],
)
def test_an_invalid_filter_is_rejected(client: TestClient, query: str) -> None:
    problem(client.get(f"/v1/tasks?{query}"), 422, "invalid-request")


@pytest.mark.parametrize(
    ("path", "parameter", "hint"),
    [
        ("/v1/tasks?status[]=done", "status[]", "did you mean `status`?"),
        ("/v1/tasks?lable=home", "lable", "did you mean `label`?"),
        ("/v1/tasks?limit=5", "limit", "`page_size`"),
        ("/v1/tasks?page=2", "page", "`page_size`"),
        ("/v1/tasks?sort=title&sort=due", "sort", "was sent 2 times"),
        ("/v1/tasks.ics?page_size=5", "page_size", "which takes `assignee`"),
        ("/v1/changes?page_size=1&since=now&until=now", "until", "which takes `page_size`, `since`"),
        (f"/v1/tasks/{UNKNOWN}?expand=parent", "expand", "which takes none"),
    ],
)
def test_an_unknown_parameter_is_rejected(client: TestClient, path: str, parameter: str, hint: str) -> None:
    for _ in range(2):  # a list takes the fast path the second time
        (error,) = problem(client.get(path), 422, "invalid-request")["errors"]
        assert error["parameter"] == parameter
        assert hint in error["detail"]


def test_a_parameter_with_two_errors_is_named_alone(client: TestClient) -> None:
    errors = problem(client.get("/v1/tasks?due_before=soon&label=a&label="), 422)["errors"]
    assert {(error["pointer"], error["parameter"]) for error in errors} == {("due_before",) * 2, ("label",) * 2}


def test_a_list_is_exported_as_a_calendar(client: TestClient) -> None:
    create(client, title="in it", project="p")
    create(client, title="not in it")
    response = client.get("/v1/tasks.ics?project=p")
    assert response.headers["content-type"] == "text/calendar; charset=utf-8"
    assert response.text.count("BEGIN:VTODO") == 1
    assert "SUMMARY:in it" in response.text


@pytest.mark.parametrize("number", [0, 50, 51, 100])
def test_a_calendar_has_each_task_of_the_list_once(client: TestClient, number: int) -> None:
    items = [{"action": "create", "task": {"title": f"task {n}"}} for n in range(number)]
    if items:
        client.post("/v1/tasks:batch", json={"items": items})
    lines = client.get("/v1/tasks.ics?sort=title").text.splitlines()
    assert [line for line in lines if line.startswith("SUMMARY:")] == sorted(f"SUMMARY:task {n}" for n in range(number))


@pytest.mark.parametrize(("bound", "most"), [("MAX_CALENDAR_TASKS", 2), ("MAX_CALENDAR_MIB", 600 / MIB)])
def test_a_too_large_calendar_is_rejected(
    client: TestClient, bound: str, most: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(commands, bound, most)
    for _ in range(2):
        create(client)
    assert client.get("/v1/tasks.ics").status_code == 200
    create(client)
    problem(client.get("/v1/tasks.ics"), 422, "too-many-tasks")


def test_tasks_and_time_zones_count_towards_the_calendar_size(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = "/v1/tasks.ics"
    empty = client.get(path).content
    for title in ("Water the plants", "Cook"):
        create(client, title=title, due_at="2026-12-01T09:00:00Z", recurrence="FREQ=DAILY", time_zone="Europe/Berlin")
    calendar = client.get(path).content
    assert calendar.count(b"BEGIN:VTIMEZONE") == 1
    monkeypatch.setattr(commands, "MAX_CALENDAR_MIB", (len(calendar) - len(empty)) / MIB)
    assert client.get(path).content == calendar
    monkeypatch.setattr(commands, "MAX_CALENDAR_MIB", (len(calendar) - len(empty) - 1) / MIB)
    problem(client.get(path), 422, "too-many-tasks")


# --- changes of one task --------------------------------------------------------------


def test_a_patch_changes_only_its_fields(client: TestClient) -> None:
    task = create(client, description="all of them")
    response = client.patch(f"/v1/tasks/{task['id']}", json={"status": "done"})
    assert response.status_code == 200
    assert response.headers["etag"] == '"v2"'
    changed = response.json()
    assert changed["completed_at"] == changed["updated_at"]
    same = {"status": "todo", "completed_at": None, "percent_done": 0, "updated_at": task["updated_at"], "version": 1}
    assert changed | same == task
    assert client.get(f"/v1/tasks/{task['id']}").json() == changed


def test_a_merge_patch_media_type_is_accepted(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client, description='x')['id']}"
    response = client.patch(
        path, content=b'{"description": null}', headers={"content-type": "application/merge-patch+json"}
    )
    assert response.json()["description"] is None


@pytest.mark.parametrize("patch", [{"title": None}, {"title": ""}, {"status": "over"}, {"id": UNKNOWN}, {"version": 9}])
def test_an_invalid_patch_is_rejected(client: TestClient, patch: dict[str, object]) -> None:
    task = create(client)
    problem(client.patch(f"/v1/tasks/{task['id']}", json=patch), 422)
    assert client.get(f"/v1/tasks/{task['id']}").json() == task


def test_a_broken_rule_is_named(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client, metadata={f'a{n}': '' for n in range(30)})['id']}"
    patch = {"metadata": {f"b{n}": "" for n in range(30)}}
    assert "at most 50" in str(problem(client.patch(path, json=patch), 422, "rule-broken")["detail"])


def test_concurrent_updates_are_all_applied(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(lambda n: client.patch(path, json={"title": f"title {n}"}), range(8)))
    assert {response.status_code for response in responses} == {200}
    assert sorted(response.json()["version"] for response in responses) == list(range(2, 10))


def test_one_of_many_updates_with_the_same_if_match_wins(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client)['id']}"

    def change(n: int) -> int:
        return client.patch(path, json={"title": f"title {n}"}, headers={"If-Match": '"v1"'}).status_code

    with ThreadPoolExecutor(8) as threads:
        assert sorted(threads.map(change, range(8))) == [200] + [412] * 7


@pytest.mark.parametrize(
    ("if_match", "status"),
    [('"v1"', 200), ('"v7", "v1"', 200), ("*", 200), ('"v2"', 412), ('W/"v1"', 412), ("", 412)],
)
def test_an_update_may_require_a_version(client: TestClient, if_match: str, status: int) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    response = client.patch(path, json={"title": "new"}, headers={"If-Match": if_match})
    if status == 412:
        assert '"v1"' in str(problem(response, 412, "version-mismatch")["detail"])
        problem(client.delete(path, headers={"If-Match": if_match}), 412, "version-mismatch")
    assert response.status_code == status


METHODS = ("GET", "PATCH", "DELETE", "UNDELETE")


def ask(client: TestClient, method: str, path: str, headers: list[tuple[str, str]]) -> Response:
    if method == "UNDELETE":
        return client.post(f"{path}:undelete", headers=headers)
    return client.request(method, path, headers=headers, json={"title": "new"} if method == "PATCH" else None)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
@pytest.mark.parametrize("value", ["v1", '"v1', '*, "v1"'])
def test_an_unquoted_entity_tag_is_rejected(client: TestClient, method: str, header: str, value: str) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    document = problem(ask(client, method, path, [(header, value)]), 400, "invalid-entity-tag")
    assert header in document["detail"]
    assert client.get(path).json()["version"] == 1


@pytest.mark.parametrize("method", METHODS)
def test_repeated_condition_headers_are_one_list(client: TestClient, method: str) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    for lines in (['"v7"', '"v1"'], ['"v1"', '"v7"']):
        known = ask(client, method, path, [("If-None-Match", line) for line in lines])
        assert known.status_code == (304 if method == "GET" else 412)
    assert ask(client, method, path, [("If-Match", line) for line in ('"v7"', '"v8"')]).status_code == 412
    assert ask(client, method, path, [("If-Match", line) for line in ('"v7"', '"v1"')]).status_code < 300


@pytest.mark.parametrize("method", METHODS)
def test_if_match_is_evaluated_before_if_none_match(client: TestClient, method: str) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    both = [("If-Match", '"v2"'), ("If-None-Match", '"v1"')]
    assert ask(client, method, path, both).status_code == 412
    assert ask(client, method, path, [("If-Match", '"v1"'), ("If-None-Match", '"v2"')]).status_code < 300


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("value", ["*", '"v1"', 'W/"v1"'])
def test_if_none_match_prevents_an_update_of_an_existing_task(client: TestClient, method: str, value: str) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    problem(ask(client, method, path, [("If-None-Match", value)]), 412, "version-mismatch")
    assert client.get(path).json()["version"] == 1


def test_undelete_may_require_the_deleted_version(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    client.delete(path)
    problem(client.post(f"{path}:undelete", headers={"If-Match": '"v1"'}), 412, "version-mismatch")
    assert client.post(f"{path}:undelete", headers={"If-Match": '"v2"'}).json()["version"] == 3


@pytest.mark.parametrize("method", METHODS)
def test_a_condition_on_a_missing_task_is_a_404(client: TestClient, method: str) -> None:
    for headers in ([("If-Match", "*")], [("If-None-Match", "*")]):
        problem(ask(client, method, f"/v1/tasks/{UNKNOWN}", headers), 404, "task-not-found")


@pytest.mark.parametrize(
    ("if_none_match", "status"), [('"v1"', 304), ('W/"v1"', 304), ("*", 304), ('"v2"', 200), ("", 200)]
)
def test_an_unchanged_task_is_not_sent_again(client: TestClient, if_none_match: str, status: int) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    response = client.get(path, headers={"If-None-Match": if_none_match})
    assert response.status_code == status
    assert response.headers["etag"] == '"v1"'
    assert (response.content == b"") == (status == 304)


@pytest.mark.parametrize("path", ["/v1/tasks", "/v1/tasks.ics", "/v1/tasks?page_size=1"])
def test_an_unchanged_list_is_not_sent_again(client: TestClient, path: str) -> None:
    create(client)
    task = create(client)
    first = client.get(path)
    assert first.headers["etag"].startswith("W/")
    known = {"If-None-Match": f'"another", {first.headers["etag"]}'}
    again = client.get(path, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == first.headers["etag"]
    assert client.get(path).headers["etag"] == first.headers["etag"]
    client.patch(f"/v1/tasks/{task['id']}", json={"title": "Feed the plants"})
    changed = client.get(path, headers=known)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]
    create(client)
    assert client.get(path).headers["etag"] not in (first.headers["etag"], changed.headers["etag"])


def test_shared_caches_do_not_store_tasks(client: TestClient) -> None:
    task = create(client)
    for path in (f"/v1/tasks/{task['id']}", "/v1/tasks", "/v1/tasks.ics"):
        whole = client.get(path)
        known = client.get(path, headers={"If-None-Match": "*"})
        assert (whole.status_code, known.status_code) == (200, 304)
        assert {response.headers["cache-control"] for response in (whole, known)} == {"private, no-cache"}


def test_large_lists_are_compressed_and_streams_are_not(client: TestClient) -> None:
    for _ in range(10):
        create(client)
    gzip, plain = {"Accept-Encoding": "gzip"}, {"Accept-Encoding": "identity"}
    for path, coding in itertools.product(("/v1/tasks", "/v1/tasks.ics", "/v1/changes"), ("gzip", "zstd")):
        packed = client.get(path, headers={"Accept-Encoding": coding})
        assert packed.headers["content-encoding"] == coding
        assert "Accept-Encoding" in packed.headers["vary"]
        assert packed.content == client.get(path, headers=plain).content
        if tag := packed.headers.get("etag"):
            assert client.get(path, headers={**plain, "If-None-Match": tag}).status_code == 304
    large = create(client, description="x" * 5000)
    got = client.get(f"/v1/tasks/{large['id']}", headers=gzip)
    assert "content-encoding" not in got.headers  # its ETag is a strong one, and If-Match accepts it
    assert got.headers["etag"] == '"v1"'


def test_completing_a_recurring_task_creates_its_next_occurrence(client: TestClient) -> None:
    task = create(client, due_on="2026-11-23", recurrence="FREQ=DAILY")
    client.patch(f"/v1/tasks/{task['id']}", json={"status": "done"})
    (following,) = client.get("/v1/tasks?status=todo").json()["items"]
    assert (following["due_on"], following["recurrence"]) == ("2026-11-24", "FREQ=DAILY")
    assert client.get(f"/v1/tasks/{task['id']}").json()["followed_by"] == following["id"]


def test_reopening_a_recurring_task_leaves_one_open_task(client: TestClient) -> None:
    task = create(client, due_at="2026-03-27T08:00:00Z", recurrence="FREQ=WEEKLY;COUNT=4", time_zone="Europe/Berlin")
    path = f"/v1/tasks/{task['id']}"
    first = client.patch(path, json={"status": "done"}).json()
    reopening = client.patch(path, json={"status": "todo"})
    opened = reopening.json()
    assert (opened["recurrence"], opened["followed_by"]) == (task["recurrence"], None)
    assert reopening.headers["etag"] == f'"v{opened["version"]}"'
    assert client.get(f"/v1/tasks/{first['followed_by']}").status_code == 404
    assert [one["type"] for one in client.get("/v1/changes").json()["items"]] == [
        *("created", "updated", "created", "updated", "deleted")
    ]
    second = client.patch(path, json={"status": "done"}).json()
    (following,) = client.get("/v1/tasks?status=todo").json()["items"]
    assert (following["id"], following["due_at"]) == (second["followed_by"], "2026-04-03T07:00:00Z")
    assert (following["recurrence"], following["time_zone"]) == ("FREQ=WEEKLY;COUNT=3", "Europe/Berlin")

    client.patch(f"/v1/tasks/{following['id']}", json={"title": "Water the fern"})
    reopened = client.patch(path, json={"status": "in_progress"}).json()
    assert (reopened["recurrence"], reopened["followed_by"]) == (None, following["id"])
    client.patch(path, json={"status": "done"})
    assert [one["id"] for one in client.get("/v1/tasks?status=todo").json()["items"]] == [following["id"]]


def test_a_batch_reopens_tasks_done_before_or_within_it(client: TestClient) -> None:
    task = create(client, due_on="2026-11-23", recurrence="FREQ=DAILY")
    client.patch(f"/v1/tasks/{task['id']}", json={"status": "done"})
    items = [
        {"action": "update", "id": task["id"], "patch": {"status": status}}
        for status in ("todo", "done", "todo", "done")
    ]
    results = client.post("/v1/tasks:batch", json={"items": items}).json()["results"]
    assert [result["status"] for result in results] == [200] * 4
    (following,) = client.get("/v1/tasks?status=todo").json()["items"]
    assert results[-1]["task"]["followed_by"] == following["id"]
    assert len(client.get("/v1/tasks?deleted=true").json()["items"]) == 2


@pytest.mark.parametrize("rule", ["RRULE:FREQ=WEEKLY;BYDAY=MO", "byday=mo;freq=weekly"])
def test_a_rule_is_accepted_as_other_programs_write_it(client: TestClient, rule: str) -> None:
    assert create(client, recurrence=rule)["recurrence"] == rule.upper().removeprefix("RRULE:")


@pytest.mark.parametrize(
    ("fields", "pointer", "detail"),
    [
        ({"recurrence": "FREQ=DAILY;BYMONTHDAY=32"}, "/recurrence", "BYMONTHDAY=32: '32' is not a number from 1 to 31"),
        ({"time_zone": "Europe/Atlantis"}, "/time_zone", "'Europe/Atlantis' is not an IANA time zone"),
        ({"time_zone": "../../etc/passwd"}, "/time_zone", "is not an IANA time zone"),
    ],
)
def test_rule_errors_are_explained(client: TestClient, fields: dict[str, str], pointer: str, detail: str) -> None:
    (error,) = problem(client.post("/v1/tasks", json={"title": "x", **fields}), 422)["errors"]
    assert error["pointer"] == pointer
    assert detail in error["detail"]


# --- deletion -------------------------------------------------------------------------


def test_a_deleted_task_is_not_found_until_undeleted(client: TestClient) -> None:
    task = create(client)
    path = f"/v1/tasks/{task['id']}"
    response = client.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    assert ":undelete" in str(problem(client.get(path), 404, "task-not-found")["detail"])
    problem(client.patch(path, json={"title": "x"}), 404, "task-not-found")
    problem(client.delete(path), 404, "task-not-found")
    assert client.get("/v1/tasks").json()["items"] == []
    assert [t["id"] for t in client.get("/v1/tasks?deleted=true").json()["items"]] == [task["id"]]

    back = client.post(f"{path}:undelete")
    assert back.status_code == 200
    assert back.json() | {"version": 1, "updated_at": task["updated_at"]} == task
    assert client.post(f"{path}:undelete").json() == client.get(path).json() == back.json()
    problem(client.post(f"/v1/tasks/{UNKNOWN}:undelete"), 404, "task-not-found")


# --- idempotency ----------------------------------------------------------------------


def test_a_retry_with_its_key_gets_the_first_response(client: TestClient) -> None:
    key = {"Idempotency-Key": "7d9c-1"}
    first = client.post("/v1/tasks", json={"title": "once", "labels": []}, headers=key)
    again = client.post("/v1/tasks", content=b'{ "title":"once" }', headers={**key, "content-type": "application/json"})
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.content == first.content
    assert again.headers["location"] == first.headers["location"]
    assert again.headers["etag"] == first.headers["etag"]
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    assert len(client.get("/v1/tasks").json()["items"]) == 1


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "k"}], ids=["without-key", "first-request"])
def test_only_a_retry_is_marked_and_counted_as_replayed(client: TestClient, headers: dict[str, str]) -> None:
    def replays() -> float | None:
        return REGISTRY.get_sample_value("task_api_idempotent_replays_total")

    path, before = f"/v1/tasks/{create(client)['id']}", replays()
    batch = {"items": [{"action": "create", "task": {"title": "one"}}]}
    requests = [
        client.build_request("POST", "/v1/tasks", json={"title": "one"}, headers=headers),
        client.build_request("PATCH", path, json={"title": "two"}, headers=headers),
        client.build_request("POST", "/v1/tasks:batch", json=batch, headers=headers),
        client.build_request("DELETE", path, headers=headers),
    ]
    for number, request in enumerate(requests):
        if headers:
            request.headers["Idempotency-Key"] += str(number)
        assert "idempotency-replayed" not in client.send(request).headers
    assert replays() == before
    if headers:
        assert client.send(requests[-1]).headers["idempotency-replayed"] == "true"
        assert replays() == (before or 0) + 1


def test_a_different_request_with_the_key_is_rejected(client: TestClient) -> None:
    key = {"Idempotency-Key": "7d9c-1"}
    client.post("/v1/tasks", json={"title": "once"}, headers=key)
    problem(client.post("/v1/tasks", json={"title": "twice"}, headers=key), 422, "idempotency-key-reused")
    batch = {"items": [{"action": "create", "task": {"title": "once"}}]}
    problem(client.post("/v1/tasks:batch", json=batch, headers=key), 422, "idempotency-key-reused")
    assert len(client.get("/v1/tasks").json()["items"]) == 1


def test_concurrent_retries_create_one_task(client: TestClient) -> None:
    def post(_: int) -> Response:
        return client.post("/v1/tasks", json={"title": "once"}, headers={"Idempotency-Key": "k"})

    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(post, range(8)))
    assert {response.status_code for response in responses} == {201}
    assert len({response.content for response in responses}) == 1
    assert len(client.get("/v1/tasks").json()["items"]) == 1


@pytest.mark.parametrize("method", METHODS[1:])
def test_a_keyed_update_is_applied_once_and_its_retry_gets_the_first_response(client: TestClient, method: str) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    if method == "UNDELETE":
        client.delete(path)
    version = 2 if method == "UNDELETE" else 1
    headers = [("Idempotency-Key", "k"), ("If-Match", f'"v{version}"')]
    first = ask(client, method, path, headers)
    assert first.status_code == (204 if method == "DELETE" else 200)
    between = [("PATCH", path, {"description": "by another"})] if method != "DELETE" else []
    for verb, where, body in between:
        assert client.request(verb, where, json=body).status_code == 200
    again = ask(client, method, path, headers)
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again.headers.get("etag") == first.headers.get("etag")
    assert (first.headers.get("idempotency-replayed"), again.headers["idempotency-replayed"]) == (None, "true")
    listed = client.get("/v1/tasks", params={"deleted": method == "DELETE"}).json()["items"]
    assert [task["version"] for task in listed] == [version + 1 + len(between)]


def test_a_key_cannot_be_shared_by_two_updates(client: TestClient) -> None:
    path, other = (f"/v1/tasks/{create(client)['id']}" for _ in range(2))
    key = {"Idempotency-Key": "k"}
    assert client.patch(path, json={"description": None}, headers=key).status_code == 200
    for body in ({}, {"description": "x"}):
        problem(client.patch(path, json=body, headers=key), 422, "idempotency-key-reused")
    problem(client.patch(other, json={"description": None}, headers=key), 422, "idempotency-key-reused")
    problem(client.delete(path, headers=key), 422, "idempotency-key-reused")
    problem(client.delete(f"/v1/tasks/{UNKNOWN}", headers=key), 422, "idempotency-key-reused")
    assert client.get(path).json()["version"] == 1


def test_a_rejected_update_does_not_use_its_key(client: TestClient) -> None:
    path, key = f"/v1/tasks/{create(client)['id']}", {"Idempotency-Key": "k"}
    problem(client.patch(path, json={"title": "new"}, headers={**key, "If-Match": '"v7"'}), 412)
    assert client.patch(path, json={"title": "new"}, headers={**key, "If-Match": '"v1"'}).status_code == 200


def test_concurrent_retries_apply_an_update_once(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client)['id']}"

    def patch(_: int) -> Response:
        return client.patch(path, json={"title": "new"}, headers={"Idempotency-Key": "k", "If-Match": '"v1"'})

    with ThreadPoolExecutor(8) as threads:
        responses = list(threads.map(patch, range(8)))
    assert {response.status_code for response in responses} == {200}
    assert len({response.content for response in responses}) == 1


@pytest.mark.parametrize(
    "key", ["", "a b", "x" * 256, '"', '"a', '""', 'a"b"c d', '"a"b"', '"a\\b"', '"' + "x" * 256 + '"', "\xe4"]
)
def test_an_invalid_key_is_rejected(client: TestClient, key: str) -> None:
    headers = [(b"Idempotency-Key", key.encode("latin-1"))]
    (error,) = problem(client.post("/v1/tasks", json={"title": "x"}, headers=headers), 422)["errors"]
    assert error["parameter"] == "Idempotency-Key"


@pytest.mark.parametrize(
    "key", ["8e03978e-40d5-43e8-bc93-6894a57f9324", '"8e03978e-40d5"', '"a b"', '"a\\"b"', "x" * 255]
)
def test_a_key_may_be_quoted_or_not(client: TestClient, key: str) -> None:
    first, again = (client.post("/v1/tasks", json={"title": "x"}, headers={"Idempotency-Key": key}) for _ in range(2))
    assert (first.status_code, again.content) == (201, first.content)


def test_two_keys_are_rejected(client: TestClient) -> None:
    keys = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    (error,) = problem(client.post("/v1/tasks", json={"title": "x"}, headers=keys), 422)["errors"]
    assert error == {
        "pointer": "Idempotency-Key",
        "parameter": "Idempotency-Key",
        "detail": "must be sent once, with a single key",
    }
    assert client.get("/v1/tasks").json()["items"] == []


# --- batches --------------------------------------------------------------------------


def test_a_batch_has_a_result_for_each_item(client: TestClient) -> None:
    task = create(client)
    batch = {
        "items": [
            {"action": "create", "task": {"title": "new"}},
            {"action": "update", "id": task["id"], "if_version": 1, "patch": {"status": "done"}},
            {"action": "update", "id": task["id"], "if_version": 1, "patch": {"title": "late"}},
            {"action": "update", "id": UNKNOWN, "patch": {}},
            {"action": "delete", "id": task["id"]},
            {"action": "delete", "id": task["id"]},
        ]
    }
    response = client.post("/v1/tasks:batch", json=batch)
    assert response.status_code == 207
    results = response.json()["results"]
    assert [result["status"] for result in results] == [201, 200, 412, 404, 204, 404]
    assert client.get(f"/v1/tasks/{results[0]['task']['id']}").json() == results[0]["task"]
    assert results[1]["task"]["version"] == 2
    assert [t["title"] for t in client.get("/v1/tasks").json()["items"]] == ["new"]


def test_an_atomic_batch_is_all_or_nothing(client: TestClient) -> None:
    task = create(client)
    items = [
        {"action": "create", "task": {"title": "new"}},
        {"action": "update", "id": task["id"], "patch": {"title": "changed"}},
    ]
    undone = client.post(
        "/v1/tasks:batch", json={"atomic": True, "items": [*items, {"action": "delete", "id": UNKNOWN}]}
    )
    assert [result["status"] for result in undone.json()["results"]] == [424, 424, 404]
    assert client.get("/v1/tasks").json()["items"] == [task]
    done = client.post("/v1/tasks:batch", json={"atomic": True, "items": items})
    assert [result["status"] for result in done.json()["results"]] == [201, 200]
    assert len(client.get("/v1/tasks").json()["items"]) == 2


def test_a_keyed_batch_is_applied_once(client: TestClient) -> None:
    batch = {"items": [{"action": "create", "task": {"title": "once"}}]}
    first = client.post("/v1/tasks:batch", json=batch, headers={"Idempotency-Key": "b"})
    again = client.post("/v1/tasks:batch", json=batch, headers={"Idempotency-Key": "b"})
    assert again.content == first.content
    assert again.headers["idempotency-replayed"] == "true"
    assert len(client.get("/v1/tasks").json()["items"]) == 1


@pytest.mark.parametrize(
    "items", [[], [{"action": "create", "task": {"title": "x"}}] * 101, [{"action": "move"}], [{}]]
)
def test_an_invalid_batch_is_rejected(client: TestClient, items: list[object]) -> None:
    problem(client.post("/v1/tasks:batch", json={"items": items}), 422)


# --- changes --------------------------------------------------------------------------


def test_changes_are_followed_from_a_cursor(client: TestClient) -> None:
    start = client.get("/v1/changes?since=now").json()
    assert start["items"] == []
    task = create(client)
    client.patch(f"/v1/tasks/{task['id']}", json={"title": "new"})
    client.delete(f"/v1/tasks/{task['id']}")
    client.post(f"/v1/tasks/{task['id']}:undelete")
    page = client.get("/v1/changes", params={"since": start["next_since"]}).json()
    assert [change["type"] for change in page["items"]] == ["created", "updated", "deleted", "undeleted"]
    assert [change["task"]["version"] for change in page["items"]] == [1, 2, 3, 4]
    assert page["items"][0]["task"] == task
    assert client.get("/v1/changes", params={"since": page["next_since"]}).json() == {**page, "items": []}
    middle = client.get("/v1/changes", params={"since": page["items"][1]["id"], "page_size": 1}).json()
    assert middle["items"] == page["items"][2:3]
    assert client.get("/v1/changes").json() == page


def test_a_stream_is_neither_cached_nor_buffered(client: TestClient) -> None:
    """nginx would buffer its events."""
    stream = client.head("/v1/changes", headers={"Accept": "text/event-stream"})
    assert (stream.headers["x-accel-buffering"], stream.headers["cache-control"]) == ("no", "no-store")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
def test_a_reader_ahead_of_the_feed_has_to_start_over(client: TestClient, storage_url: str, accept: str) -> None:
    place = "9" * 18 + ".1" * storage_url.startswith("postgresql")
    ahead = base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")
    create(client)
    headers = {"Accept": accept, "Last-Event-ID": ahead}
    document = problem(client.get("/v1/changes", headers=headers), 410, "other-history")
    assert "`since=now`" in document["detail"]


def test_a_reader_behind_the_purged_changes_has_to_start_over(client: TestClient, app: FastAPI) -> None:
    for _ in range(2):
        create(client)
    first, second = (change["id"] for change in client.get("/v1/changes").json()["items"])
    later = datetime.now(UTC) + timedelta(hours=1)
    assert client.portal is not None
    client.portal.call(functools.partial(app.state.store.purge, deleted_before=later, records_before=later))
    document = problem(client.get("/v1/changes", params={"since": first}), 410, "changes-purged")
    assert "`since=now`" in document["detail"]
    assert client.get("/v1/changes", params={"since": second}).json() == {"items": [], "next_since": second}


@pytest.mark.parametrize("since", [{}, {"since": "now"}], ids=["beginning", "now"])
def test_a_reader_misses_no_change_made_just_after_an_empty_page(
    client: TestClient, app: FastAPI, since: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    read = app.state.store.changes
    tasks = [a_task()]

    async def read_and_then_write(after: str | None, *, size: int) -> object:
        changes = await read(after, size=size)
        while tasks:
            await app.state.store.commit([Write(tasks.pop(), "created")], now=datetime.now(UTC))
        return changes

    monkeypatch.setattr(app.state.store, "changes", read_and_then_write)
    page = client.get("/v1/changes", params=since).json()
    assert page["items"] == []
    assert len(client.get("/v1/changes", params={"since": page["next_since"]}).json()["items"]) == 1


@pytest.mark.parametrize(
    ("accept", "page_size", "read"),
    [("application/json", 501, 500), ("application/json", 7, 7), ("text/event-stream", 501, CHUNK)],
)
def test_a_page_and_the_begin_of_a_stream_are_bounded(
    client: TestClient, app: FastAPI, accept: str, page_size: int, read: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    async def changes(_after: str | None, *, size: int) -> list[StoredChange]:
        sizes.append(size)
        return []

    monkeypatch.setattr(app.state.store, "changes", changes)
    client.head("/v1/changes", params={"page_size": page_size}, headers={"Accept": accept})
    assert sizes == [read]


@pytest.mark.parametrize("since", ["x", "!", "MTI!z", "bm93", "ä", "MS4yLjM"])
def test_a_forged_feed_cursor_is_rejected(client: TestClient, since: str) -> None:
    problem(client.get("/v1/changes", params={"since": since}), 400, "invalid-since")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v1/tasks/{UNKNOWN}", 404),
        ("GET", "/v1/tasks/not-an-id", 404),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/tasks", 405),
        ("DELETE", f"/v1/tasks/{UNKNOWN}:undelete", 405),
    ],
)
def test_every_error_is_a_problem_document(client: TestClient, method: str, path: str, status: int) -> None:
    assert problem(client.request(method, path), status)["instance"] == path


@pytest.mark.parametrize(
    ("sent", "echoed"), [("abc-1.2_3", True), ("x" * 128, True), ("x" * 129, False), ("a b", False), ("", False)]
)
def test_a_request_has_an_id(client: TestClient, sent: str, echoed: bool) -> None:
    returned = client.get("/v1/tasks", headers={"X-Request-ID": sent}).headers["x-request-id"]
    assert (returned == sent) == echoed
    assert returned


@pytest.mark.parametrize(
    ("path", "allowed"),
    [
        ("/v1/tasks", "GET, HEAD, OPTIONS, POST"),
        (f"/v1/tasks/{UNKNOWN}", "DELETE, GET, HEAD, OPTIONS, PATCH"),
        (f"/v1/tasks/{UNKNOWN}:undelete", "OPTIONS, POST"),
        ("/livez", "GET, HEAD, OPTIONS"),
    ],
)
def test_a_405_lists_the_allowed_methods(client: TestClient, path: str, allowed: str) -> None:
    response = client.put(path)
    assert (response.status_code, response.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/tasks", ""])
def test_links_have_the_prefix_that_a_proxy_strips(path: str) -> None:
    with serving(TASKS_ROOT_PATH=path) as service, httpx2.Client(base_url=service.url) as client:
        assert client.put("/v1/tasks").headers["allow"] == "GET, HEAD, OPTIONS, POST"
        created = client.post("/v1/tasks", json={"title": "x"})
        assert created.headers["location"] == f"{path}/v1/tasks/{created.json()['id']}"
        client.post("/v1/tasks", json={"title": "y"})
        assert client.get("/v1/tasks?page_size=1").headers["link"].startswith(f"<{path}/v1/tasks?page_size=1&cursor=")
