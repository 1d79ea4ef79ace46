"""Writers, changers and readers: threads with a persistent connection each."""

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
Effect = Literal["done", "not done", "unknown"]

PAUSE_SECONDS = 0.03
PATIENCE_SECONDS = 90.0
"""How long a client retries."""
ONE_IN_TEN = 0.1


@dataclass(frozen=True)
class Answer:
    """What a response says about the effect of its request."""

    effect: Effect
    response: httpx2.Response | None


def effect_of(response: httpx2.Response) -> Effect:
    """Whether the request was done, according to its response. Clients rely on docs/problems.md only."""
    if response.is_success:
        return "done"
    if response.status_code == 409:
        return "unknown"  # an earlier attempt with this key is still in progress
    if response.is_client_error:
        return "not done"
    # A 5xx may come from a proxy whose server did it anyway. Only one type says that nothing was done.
    overloaded = response.headers.get("content-type") == "application/problem+json" and response.json().get(
        "type", ""
    ).endswith("/overloaded")
    return "not done" if overloaded else "unknown"


class Client(threading.Thread):
    """Repeats its operation until told to stop, and then completes the current one.

    http: its connection, while the thread runs.
    """

    http: httpx2.Client

    def __init__(self, name: str, connect: Connect, history: History, project: str) -> None:
        super().__init__(name=name, daemon=True)
        self._connect = connect
        self._history = history
        self._project = project
        self._ending = threading.Event()
        self.good_in_a_row = 0
        self.crashed: BaseException | None = None

    def end(self) -> None:
        self._ending.set()

    def run(self) -> None:
        try:
            with self._connect() as self.http:
                while not self._ending.wait(PAUSE_SECONDS * (0.5 + random.random())):
                    self.act()
        except BaseException as error:  # a thread that dies unnoticed would make the test check nothing
            self.crashed = error
            raise

    def act(self) -> None:
        raise NotImplementedError

    def send(
        self,
        kind: str,
        method: str,
        path: str,
        good: set[int],
        json: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Sends one request and records it. good: the expected statuses."""
        began = self._history.now()
        try:
            response = self.http.request(method, path, json=json, headers=headers)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            answer, status = Answer("not done", None), repr(error)
        except httpx2.TransportError as error:
            answer, status = Answer("unknown", None), repr(error)
        else:
            answer, status = Answer(effect_of(response), response), str(response.status_code)
        well = answer.response is not None and answer.response.status_code in good
        self._history.attempts.append(Attempt(self.name, kind, began, self._history.now(), status, well))
        self.good_in_a_row = self.good_in_a_row + 1 if well else 0
        return answer

    def wait_before(self, again: int, answer: Answer) -> None:
        """Waits between attempts: as the server says, or with exponential backoff and jitter."""
        retry_after = "" if answer.response is None else answer.response.headers.get("retry-after", "")
        seconds = float(retry_after) if retry_after.isdigit() else min(1.0, 0.05 * 2**again)
        time.sleep(seconds * (0.5 + random.random() / 2))

    def wait_after_refusal(self, answer: Answer) -> None:
        """Before the next operation, if this one could not be served."""
        if answer.response is None or answer.response.is_server_error:
            self.wait_before(2, answer)


class Writer(Client):
    """Creates tasks, each under its own key. Some are invalid and must never be visible."""

    def __init__(self, name: str, connect: Connect, history: History, project: str, known: list[str]) -> None:
        super().__init__(name, connect, history, project)
        self._known = known

    def act(self) -> None:
        token, invalid = uuid4().hex, random.random() < ONE_IN_TEN
        task: dict[str, object] = {"title": token, "project": self._project, "percent_done": 101 if invalid else 1}
        unclear, tries, deadline = False, 0, time.monotonic() + PATIENCE_SECONDS
        while True:
            good = {422} if invalid else {201, 409} if unclear else {201}
            answer = self.send("create", "POST", "/v1/tasks", good, task, {"Idempotency-Key": token})
            if answer.effect == "done":
                assert answer.response is not None
                created = answer.response.json()
                if invalid:  # 201 instead of 422: what must not exist exists
                    self._note(token, "failed", unclear=unclear)
                    return
                self._known.append(created["id"])
                self._note(token, "ok", unclear=unclear, task=created["id"], version=created["version"])
                return
            # After a definite rejection without an earlier unclear attempt the client may give up.
            if answer.effect == "not done" and (not unclear or invalid):
                self._note(token, "failed", unclear=unclear)
                self.wait_after_refusal(answer)
                return
            unclear = unclear or answer.effect == "unknown"
            if time.monotonic() > deadline:
                self._note(token, "unknown", unclear=True)
                return
            self.wait_before(tries, answer)
            tries += 1

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


class Changer(Client):
    """Updates tasks concurrently with other changers, with If-Match."""

    def __init__(self, name: str, connect: Connect, history: History, project: str, tasks: list[str]) -> None:
        super().__init__(name, connect, history, project)
        self._tasks = tasks

    def act(self) -> None:
        task, token = random.choice(self._tasks), uuid4().hex
        found = self.send("read", "GET", f"/v1/tasks/{task}", {200})
        if found.effect != "done" or found.response is None:
            self.wait_before(2, found)
            return
        version = int(found.response.json()["version"])
        unclear, tries, deadline = False, 0, time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = self.send(
                "change",
                "PATCH",
                f"/v1/tasks/{task}",
                {200, 412},
                {"metadata": {self.name: token}},
                {"If-Match": f'"v{version}"'},
            )
            if answer.effect == "done":
                assert answer.response is not None
                self._note(token, "ok", unclear, task, int(answer.response.json()["version"]))
                return
            if answer.effect == "not done" and not unclear:
                self._note(token, "failed", unclear, task, version + 1)
                self.wait_after_refusal(answer)
                return
            if answer.response is not None and answer.response.status_code == 412:
                # That version is outdated, by an earlier attempt or another client: the task's content tells by which.
                found = self.send("read", "GET", f"/v1/tasks/{task}", {200})
                if found.effect == "done" and found.response is not None:
                    mine = found.response.json()["metadata"].get(self.name) == token
                    self._note(token, "ok" if mine else "failed", unclear, task, version + 1)
                    return
            unclear = unclear or answer.effect == "unknown"
            if time.monotonic() > deadline:
                self._note(token, "unknown", unclear, task, version + 1)
                return
            self.wait_before(tries, answer)
            tries += 1

    def _note(
        self, token: str, outcome: Literal["ok", "failed", "unknown"], unclear: bool, task: str, version: int
    ) -> None:
        self._history.operations.append(Operation(self.name, "change", token, outcome, unclear, task, version))


class Reader(Client):
    """Reads and lists acknowledged tasks, from any pod."""

    def __init__(self, name: str, connect: Connect, history: History, project: str, known: list[str]) -> None:
        super().__init__(name, connect, history, project)
        self._known = known

    def act(self) -> None:
        if self._known and random.random() < 0.7:
            answer = self.send("read", "GET", f"/v1/tasks/{random.choice(self._known)}", {200})
        else:
            answer = self.send("list", "GET", f"/v1/tasks?project={self._project}&page_size=20", {200})
        if answer.effect != "done":
            self.wait_before(2, answer)
