"""/v1/tasks over HTTP, on every kind of storage."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from httpx2 import Response
from pydantic import SecretStr
from starlette.testclient import TestClient

from task_api.app import create_app
from task_api.settings import Settings

UNKNOWN = "01a209b3-fcfd-7015-92d5-ecad43015460"


@pytest.fixture
def client(storage_url: str) -> Iterator[TestClient]:
    with TestClient(create_app(Settings(database_url=SecretStr(storage_url)))) as client:
        yield client


def create(client: TestClient, **task: object) -> dict[str, object]:
    response = client.post("/v1/tasks", json={"title": "Water the plants", **task})
    assert response.status_code == 201, response.text
    created: dict[str, object] = response.json()
    return created


def problem(response: Response, status: int) -> dict[str, object]:
    """The problem document of `response`, which must be one with this status."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    document: dict[str, object] = response.json()
    assert document["status"] == status
    assert {"type", "title", "detail"} <= document.keys()
    return document


def test_a_created_task_is_whole_and_found_at_its_location(client: TestClient) -> None:
    response = client.post("/v1/tasks", json={"title": "  Water the plants ", "description": "all of them"})
    assert response.status_code == 201
    task = response.json()
    assert UUID(task["id"]).version == 7
    assert task["title"] == "Water the plants"
    assert task["created_at"].endswith("Z")
    assert client.get(response.headers["location"]).json() == task


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/title"),
        ({"title": ""}, "/title"),
        ({"title": "   "}, "/title"),
        ({"title": "x" * 201}, "/title"),
        ({"title": "a\0b"}, "/title"),
        ({"title": 5}, "/title"),
        ({"title": "a", "status": "later"}, "/status"),
        ({"title": "a", "description": "x" * 10_001}, "/description"),
        ({"title": "a", "a/b~c": 1}, "/a~1b~0c"),
        ([], ""),
    ],
)
def test_what_does_not_fit_is_named_and_not_kept(client: TestClient, body: object, pointer: str) -> None:
    document = problem(client.post("/v1/tasks", json=body), 422)
    assert [e["pointer"] for e in document["errors"]] == [pointer]  # type: ignore[attr-defined]  # JSON
    assert client.get("/v1/tasks").json()["items"] == []


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'{"title": "\\ud800"}'])
def test_a_body_that_is_no_json_text_is_refused(client: TestClient, body: bytes) -> None:
    problem(client.post("/v1/tasks", content=body, headers={"content-type": "application/json"}), 422)


def test_a_body_too_deep_to_read_is_refused(client: TestClient) -> None:
    deep = b"[" * 100_000
    problem(client.post("/v1/tasks", content=deep, headers={"content-type": "application/json"}), 400)


def test_lists_are_paged_from_the_newest_to_the_oldest(client: TestClient) -> None:
    ids = [create(client, title=str(n))["id"] for n in range(5)]
    seen, cursor = [], None
    for expected in (2, 2, 1):
        page = client.get("/v1/tasks", params={"page_size": 2, **({"cursor": cursor} if cursor else {})}).json()
        assert len(page["items"]) == expected
        seen += [task["id"] for task in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == ids[::-1]


def test_a_page_that_is_just_full_is_the_last_one(client: TestClient) -> None:
    create(client)
    create(client)
    assert client.get("/v1/tasks", params={"page_size": 2}).json()["next_cursor"] is None


def test_a_page_larger_than_allowed_is_lowered(client: TestClient) -> None:
    assert client.get("/v1/tasks", params={"page_size": 1_000_000}).status_code == 200


@pytest.mark.parametrize("size", ["0", "-1", "many", ""])
def test_a_page_size_that_is_none_is_refused(client: TestClient, size: str) -> None:
    problem(client.get("/v1/tasks", params={"page_size": size}), 422)


@pytest.mark.parametrize("cursor", ["", "x", "not/base64", "AAAA", "ä", "=" * 30, "A" * 10_000])
def test_a_forged_cursor_is_a_clear_error(client: TestClient, cursor: str) -> None:
    assert "cursor" in str(problem(client.get("/v1/tasks", params={"cursor": cursor}), 400)["detail"])


def test_a_patch_changes_what_it_names(client: TestClient) -> None:
    task = create(client, description="all of them")
    response = client.patch(f"/v1/tasks/{task['id']}", json={"status": "done"})
    assert response.status_code == 200
    changed = response.json()
    assert changed["completed_at"] == changed["updated_at"]
    assert changed | {"status": "todo", "completed_at": None, "updated_at": task["updated_at"], "version": 1} == task
    assert client.get(f"/v1/tasks/{task['id']}").json() == changed


def test_a_merge_patch_is_known_by_its_media_type_too(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client, description='x')['id']}"
    response = client.patch(
        path, content=b'{"description": null}', headers={"content-type": "application/merge-patch+json"}
    )
    assert response.json()["description"] is None


@pytest.mark.parametrize("patch", [{"title": None}, {"title": ""}, {"status": None}, {"id": UNKNOWN}, {"version": 9}])
def test_a_patch_cannot_break_a_task(client: TestClient, patch: dict[str, object]) -> None:
    task = create(client)
    problem(client.patch(f"/v1/tasks/{task['id']}", json=patch), 422)
    assert client.get(f"/v1/tasks/{task['id']}").json() == task


def test_changes_at_the_same_time_are_all_kept(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: client.patch(path, json={"title": f"title {n}"}), range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 10))


def test_a_deleted_task_is_gone(client: TestClient) -> None:
    path = f"/v1/tasks/{create(client)['id']}"
    response = client.delete(path)
    assert (response.status_code, response.content) == (204, b"")
    problem(client.get(path), 404)
    problem(client.patch(path, json={"title": "x"}), 404)
    problem(client.delete(path), 404)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v1/tasks/{UNKNOWN}", 404),
        ("GET", "/v1/tasks/not-an-id", 422),
        ("GET", "/nowhere", 404),
        ("PUT", "/v1/tasks", 405),
    ],
)
def test_every_error_is_a_problem_document(client: TestClient, method: str, path: str, status: int) -> None:
    problem(client.request(method, path), status)
