"""The checker: reads all tasks back and compares them with the responses that clients got."""

from __future__ import annotations

import itertools
import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

import httpx2

from acknowledged.history import History

FEED_SECONDS = 30.0
"""The feed shows a change once all older transactions have ended, including those of others."""


@dataclass
class Verdict:
    """The number of operations by outcome, and each operation that contradicts its response."""

    acknowledged: int = 0
    failed: int = 0
    unclear: int = 0
    """Of these two: resolved only by a retry."""
    unknown: int = 0
    """Never resolved."""
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    applied_though_rejected: list[str] = field(default_factory=list)
    """Applied although the response said otherwise."""
    wrong_versions: list[str] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [
            *(f"lost: {what}" for what in self.lost),
            *(f"duplicated: {what}" for what in self.duplicated),
            *(f"applied though rejected: {what}" for what in self.applied_though_rejected),
            *(f"versions: {what}" for what in self.wrong_versions),
        ]

    def __str__(self) -> str:
        return (
            f"{self.acknowledged} writes acknowledged, {self.failed} rejected, {self.unclear} of them resolved by a"
            f" retry, {self.unknown} unresolved; {len(self.lost)} lost, {len(self.duplicated)} duplicated,"
            f" {len(self.applied_though_rejected)} applied though rejected,"
            f" {len(self.wrong_versions)} tasks with wrong versions"
        )


def judge(history: History, http: httpx2.Client, *, project: str, since: str) -> Verdict:
    """The verdict on a history whose clients have stopped.

    project: the project of all their tasks. since: the feed cursor before the first of them.
    """
    stored = _stored(http, project)
    versions = _versions(http, project, since, stored)
    verdict = Verdict()
    by_title = Counter(task["title"] for task in stored.values())
    created = Counter(task["title"] for of_task in versions.values() for task in of_task if task["version"] == 1)
    # The versions by token: each version has the token of its writer, which the previous version did not have.
    updates: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for task_id, of_task in versions.items():
        for before, task in itertools.pairwise(of_task):
            new = task["metadata"].items() - before["metadata"].items()
            for _, token in new:
                updates[token].append((task_id, task["version"]))
            # Each update writes a unique token: a version without a new one is an update applied twice.
            if len(new) != 1 and task["version"] != before["version"]:
                verdict.duplicated.append(f"version {task['version']} of task {task_id} has {len(new)} new tokens")
        numbers = [task["version"] for task in of_task]
        if numbers != list(range(1, len(numbers) + 1)):
            verdict.wrong_versions.append(f"the feed has versions {numbers} of task {task_id}")
        elif task_id not in stored:
            verdict.lost.append(f"task {task_id} is in the feed but in no list")
        elif stored[task_id] != of_task[-1]:
            verdict.wrong_versions.append(f"task {task_id} differs from its last version in the feed")
    for task_id in stored.keys() - versions.keys():
        verdict.lost.append(f"task {task_id} is in the list but not in the feed")

    for operation in history.operations:
        what = f"{operation.kind} {operation.token} of {operation.client}"
        if operation.kind == "create":
            times = max(by_title[operation.token], created[operation.token])
            found = operation.task in stored and stored[operation.task]["title"] == operation.token
        else:
            times = len(updates[operation.token])
            found = (operation.task, operation.version) in updates[operation.token]
        if times > 1:
            verdict.duplicated.append(f"{what}: {times} times")
        match operation.outcome:
            case "ok":
                verdict.acknowledged += 1
                verdict.unclear += operation.unclear
                if not found:
                    verdict.lost.append(f"{what}: task {operation.task}, version {operation.version}")
            case "failed":
                verdict.failed += 1
                verdict.unclear += operation.unclear
                if times:
                    verdict.applied_though_rejected.append(what)
            case "unknown":
                verdict.unknown += 1
    for attempt in history.attempts:
        if attempt.kind in {"read", "update"} and attempt.result == "404":
            verdict.lost.append(f"{attempt.client} got a 404 for an acknowledged task after {attempt.ended:.3f} s")
    return verdict


def _stored(http: httpx2.Client, project: str) -> dict[str, Any]:
    """All tasks of the project, by id."""
    stored: dict[str, Any] = {}
    path = f"/v1/tasks?project={project}&page_size=200"
    cursor = ""
    while True:
        page = _get(http, f"{path}&cursor={cursor}" if cursor else path)
        stored |= {task["id"]: task for task in page["items"]}
        cursor = page["next_cursor"]
        if not cursor:
            return stored


def _versions(http: httpx2.Client, project: str, since: str, stored: dict[str, Any]) -> dict[str, list[Any]]:
    """Each version of each task of the project in the change feed, in feed order."""
    versions: dict[str, list[Any]] = defaultdict(list)
    deadline = time.monotonic() + FEED_SECONDS
    while True:
        page = _get(http, f"/v1/changes?page_size=500&since={since}")
        since = page["next_since"]
        for change in page["items"]:
            if change["task"]["project"] == project:
                versions[change["task"]["id"]].append(change["task"])
        if page["items"]:
            continue
        consistent = all(task_id in versions and versions[task_id][-1] == task for task_id, task in stored.items())
        if consistent or time.monotonic() > deadline:
            return versions
        time.sleep(0.2)


def _get(http: httpx2.Client, path: str) -> Any:
    response = http.get(path)
    assert response.status_code == 200, f"{path}: {response.status_code} {response.text}"
    return response.json()
