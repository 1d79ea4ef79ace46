"""Writers, updaters and readers: threads with a persistent connection each."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import uuid4

import httpx2

from acknowledged.history import Attempt, History, Operation

Connect = Callable[[], httpx2.Client]
"""Opens a separate connection for a client."""
Effect = Literal["applied", "not applied", "unknown"]

PAUSE_SECONDS = 0.03
RETRY_SECONDS = 90.0
"""Maximum time for retries."""
INVALID_RATIO = 0.1


@dataclass(frozen=True)
class AttemptResult:
    """The outcome of one attempt, according to its response."""

    effect: Effect
    response: httpx2.Response | None


def effect_of(response: httpx2.Response) -> Effect:
    """Whether the request was applied, according to its response. Clients rely on docs/problems.md only."""
    if response.is_success:
        return "applied"
    if response.status_code == 409:
        return "unknown"  # an earlier attempt with this key is still in progress
    if response.is_client_error:
        return "not applied"
    # A 5xx may come from a proxy although the server applied the request. Only one problem type excludes that.
    overloaded = response.headers.get("content-type") == "application/problem+json" and response.json().get(
        "type", ""
    ).endswith("/overloaded")
    return "not applied" if overloaded else "unknown"


class Client(threading.Thread):
    """Repeats its operation until `stop`, and then completes the current one.

    http: its connection, while the thread runs.
    """

    http: httpx2.Client

    def __init__(self, name: str, connect: Connect, history: History, project: str) -> None:
        super().__init__(name=name, daemon=True)
        self._connect = connect
        self._history = history
        self._project = project
        self._stopping = threading.Event()
        self.consecutive_successes = 0
        self.crashed: BaseException | None = None

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        try:
            with self._connect() as self.http:
                while not self._stopping.wait(PAUSE_SECONDS * (0.5 + random.random())):
                    self.run_once()
        except BaseException as error:  # an unnoticed crash of the thread would make the test check nothing
            self.crashed = error
            raise

    def run_once(self) -> None:
        raise NotImplementedError

    def send(
        self,
        kind: str,
        method: str,
        path: str,
        expected: set[int],
        json: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> AttemptResult:
        """Sends a request and records the attempt. expected: the expected statuses."""
        began = self._history.now()
        try:
            response = self.http.request(method, path, json=json, headers=headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            result, status = AttemptResult("not applied", None), repr(error)
        except httpx2.TransportError as error:
            result, status = AttemptResult("unknown", None), repr(error)
        else:
            result, status = AttemptResult(effect_of(response), response), str(response.status_code)
        as_expected = result.response is not None and result.response.status_code in expected
        self._history.attempts.append(Attempt(self.name, kind, began, self._history.now(), status, as_expected))
        self.consecutive_successes = self.consecutive_successes + 1 if as_expected else 0
        return result

    def back_off(self, retries: int, result: AttemptResult) -> None:
        """Waits before the next attempt: for Retry-After, or with exponential backoff and jitter."""
        retry_after = "" if result.response is None else result.response.headers.get("retry-after", "")
        seconds = float(retry_after) if retry_after.isdigit() else min(1.0, 0.05 * 2**retries)
        time.sleep(seconds * (0.5 + random.random() / 2))

    def back_off_if_unavailable(self, result: AttemptResult) -> None:
        """Waits before the next operation if this one got no response or a 5xx."""
        if result.response is None or result.response.is_server_error:
            self.back_off(2, result)


class Writer(Client):
    """Creates tasks, each with its own key. Some are invalid and must never be visible."""

    def __init__(self, name: str, connect: Connect, history: History, project: str, known: list[str]) -> None:
        super().__init__(name, connect, history, project)
        self._known = known

    def run_once(self) -> None:
        token, invalid = uuid4().hex, random.random() < INVALID_RATIO
        task: dict[str, object] = {"title": token, "project": self._project, "percent_done": 101 if invalid else 1}
        unclear, retries, deadline = False, 0, time.monotonic() + RETRY_SECONDS
        while True:
            expected = {422} if invalid else {201, 409} if unclear else {201}
            result = self.send("create", "POST", "/v1/tasks", expected, task, {"Idempotency-Key": token})
            if result.effect == "applied":
                assert result.response is not None
                created = result.response.json()
                if invalid:  # 201 instead of 422: the task must not exist
                    self._note(token, "failed", unclear=unclear)
                    return
                self._known.append(created["id"])
                self._note(token, "ok", unclear=unclear, task=created["id"], version=created["version"])
                return
            # A client may give up after a rejection if no earlier attempt was unclear.
            if result.effect == "not applied" and (not unclear or invalid):
                self._note(token, "failed", unclear=unclear)
                self.back_off_if_unavailable(result)
                return
            unclear = unclear or result.effect == "unknown"
            if time.monotonic() > deadline:
                self._note(token, "unknown", unclear=True)
                return
            self.back_off(retries, result)
            retries += 1

    def _note(
        self,
        token: str,
        outcome: Literal["ok", "failed", "unknown"],
        *,
        unclear: bool,
        task: str | None = None,
        version: int | None = None,
    ) -> None:
        self._history.operations.append(Operation(self.name, "create", token, outcome, unclear, task, version))


class Updater(Client):
    """Updates tasks concurrently with other updaters, with If-Match."""

    def __init__(self, name: str, connect: Connect, history: History, project: str, tasks: list[str]) -> None:
        super().__init__(name, connect, history, project)
        self._tasks = tasks

    def run_once(self) -> None:
        task, token = random.choice(self._tasks), uuid4().hex
        found = self.send("read", "GET", f"/v1/tasks/{task}", {200})
        if found.effect != "applied" or found.response is None:
            self.back_off(2, found)
            return
        version = int(found.response.json()["version"])
        unclear, retries, deadline = False, 0, time.monotonic() + RETRY_SECONDS
        while True:
            result = self.send(
                "update",
                "PATCH",
                f"/v1/tasks/{task}",
                {200, 412},
                {"metadata": {self.name: token}},
                {"If-Match": f'"v{version}"'},
            )
            if result.effect == "applied":
                assert result.response is not None
                self._note(token, "ok", unclear, task, int(result.response.json()["version"]))
                return
            if result.effect == "not applied" and not unclear:
                self._note(token, "failed", unclear, task, version + 1)
                self.back_off_if_unavailable(result)
                return
            if result.response is not None and result.response.status_code == 412:
                # An earlier attempt or another client updated the task: its content shows which.
                found = self.send("read", "GET", f"/v1/tasks/{task}", {200})
                if found.effect == "applied" and found.response is not None:
                    mine = found.response.json()["metadata"].get(self.name) == token
                    self._note(token, "ok" if mine else "failed", unclear, task, version + 1)
                    return
            unclear = unclear or result.effect == "unknown"
            if time.monotonic() > deadline:
                self._note(token, "unknown", unclear, task, version + 1)
                return
            self.back_off(retries, result)
            retries += 1

    def _note(
        self, token: str, outcome: Literal["ok", "failed", "unknown"], unclear: bool, task: str, version: int
    ) -> None:
        self._history.operations.append(Operation(self.name, "update", token, outcome, unclear, task, version))


class Reader(Client):
    """Reads and lists acknowledged tasks, from any pod."""

    def __init__(self, name: str, connect: Connect, history: History, project: str, known: list[str]) -> None:
        super().__init__(name, connect, history, project)
        self._known = known

    def run_once(self) -> None:
        if self._known and random.random() < 0.7:
            result = self.send("read", "GET", f"/v1/tasks/{random.choice(self._known)}", {200})
        else:
            result = self.send("list", "GET", f"/v1/tasks?project={self._project}&page_size=20", {200})
        if result.effect != "applied":
            self.back_off(2, result)
