"""The judge detects every possible violation of the guarantee."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from acknowledged import judge as judging
from acknowledged.history import Attempt, History, Operation, Outcome
from acknowledged.judge import Verdict, judge

PROJECT = "trial"


def task(name: str, version: int = 1, **metadata: str) -> dict[str, Any]:
    return {"id": f"id-{name}", "title": name, "project": PROJECT, "version": version, "metadata": metadata}


def created(name: str, outcome: Outcome = "ok") -> Operation:
    return Operation("writer", "create", name, outcome, unclear=False, task=f"id-{name}", version=1)


def changed(name: str, version: int, token: str, outcome: Outcome = "ok") -> Operation:
    return Operation("updater", "update", token, outcome, unclear=False, task=f"id-{name}", version=version)


def verdict(
    operations: list[Operation],
    stored: list[dict[str, Any]],
    feed: list[dict[str, Any]],
    attempts: list[Attempt] | None = None,
) -> Verdict:
    """With a service that lists these tasks and changes."""

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path == "/v1/tasks":
            return httpx2.Response(200, json={"items": stored, "next_cursor": None})
        items = [] if request.url.params["since"] == "end" else [{"task": task_} for task_ in feed]
        return httpx2.Response(200, json={"items": items, "next_since": "end"})

    history = History()
    history.operations += operations
    history.attempts += attempts or []
    with httpx2.Client(base_url="http://fake", transport=httpx2.MockTransport(answer)) as http:
        return judge(history, http, project=PROJECT, since="start")


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fake has no delayed changes."""
    monkeypatch.setattr(judging, "FEED_SECONDS", 0)


def test_a_consistent_history_has_no_violations() -> None:
    feed = [task("a"), task("b"), task("a", 2, updater="x"), task("a", 3, updater="x", other="y")]
    operations = [
        created("a"),
        created("b"),
        created("c", "failed"),
        changed("a", 2, "x"),
        changed("a", 3, "z", "failed"),
    ]
    found = verdict(operations, [feed[3], feed[1]], feed)
    assert found.violations == []
    assert (found.acknowledged, found.failed, found.unknown) == (3, 2, 0)


def test_an_acknowledged_task_missing_from_the_list_is_lost() -> None:
    assert len(verdict([created("a")], [], []).lost) == 1


def test_a_task_under_a_different_id_is_lost() -> None:
    other = {**task("a"), "id": "id-other"}
    assert len(verdict([created("a")], [other], [other]).lost) == 1


def test_a_task_missing_from_the_feed_is_lost() -> None:
    assert len(verdict([], [task("a")], []).lost) == 1


@pytest.mark.parametrize("kind", ["read", "update"])
def test_an_acknowledged_task_that_was_once_not_found_is_lost(kind: str) -> None:
    attempt = Attempt("client", kind, began=1, ended=2, result="404", expected=False)
    assert len(verdict([], [], [], [attempt]).lost) == 1


def test_an_acknowledged_change_in_a_different_version_is_lost() -> None:
    feed = [task("a"), task("a", 2), task("a", 3, updater="x")]
    assert len(verdict([changed("a", 2, "x")], [feed[-1]], feed).lost) == 1


def test_two_tasks_of_one_creation_are_a_duplicate() -> None:
    both = [task("a"), {**task("a"), "id": "id-again"}]
    assert len(verdict([created("a")], both, both).duplicated) == 1


def test_a_change_applied_twice_is_a_duplicate() -> None:
    feed = [task("a"), task("a", 2, updater="x"), task("a", 3, updater="x")]
    assert len(verdict([changed("a", 2, "x")], [feed[-1]], feed).duplicated) == 1


def test_a_version_with_two_changes_is_detected() -> None:
    feed = [task("a"), task("a", 2, updater="x", other="y")]
    assert len(verdict([], [feed[-1]], feed).duplicated) == 1


def test_a_rejected_creation_that_exists_is_detected() -> None:
    assert len(verdict([created("a", "failed")], [task("a")], [task("a")]).applied_though_rejected) == 1


def test_a_rejected_change_that_exists_is_detected() -> None:
    feed = [task("a"), task("a", 2, updater="x")]
    assert len(verdict([changed("a", 2, "x", "failed")], [feed[-1]], feed).applied_though_rejected) == 1


@pytest.mark.parametrize("versions", [[1, 3], [1, 2, 2], [2], [2, 1]])
def test_version_gaps_duplicates_and_disorder_are_detected(versions: list[int]) -> None:
    feed = [task("a", version) for version in versions]
    assert len(verdict([], [feed[-1]], feed).wrong_versions) == 1


def test_a_list_that_differs_from_the_feed_is_detected() -> None:
    assert len(verdict([], [task("a", 2, updater="x")], [task("a"), task("a", 2)]).wrong_versions) == 1


def test_all_pages_of_the_list_and_of_the_feed_are_read() -> None:
    tasks = [task(name) for name in "abc"]
    requests: list[tuple[str, str]] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        path, params = request.url.path, request.url.params
        at = int(params.get("cursor" if path == "/v1/tasks" else "since", "0"))
        requests.append((path, str(at)))
        page = tasks[at : at + 1]
        if path == "/v1/tasks":
            return httpx2.Response(200, json={"items": page, "next_cursor": str(at + 1) if at < 2 else None})
        items = [{"task": task_} for task_ in page]
        return httpx2.Response(200, json={"items": items, "next_since": str(min(at + 1, 3))})

    history = History()
    history.operations += [created(name) for name in "abc"]
    with httpx2.Client(base_url="http://fake", transport=httpx2.MockTransport(answer)) as http:
        found = judge(history, http, project=PROJECT, since="0")
    assert found.violations == []
    assert requests == [("/v1/tasks", str(n)) for n in range(3)] + [("/v1/changes", str(n)) for n in range(4)]
