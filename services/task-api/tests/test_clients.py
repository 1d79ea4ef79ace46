"""The clients of a trial record responses, and interpret them as docs/problems.md says."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from acknowledged import clients
from acknowledged.clients import Effect, Updater, Writer, effect_of
from acknowledged.history import History, Operation

PROBLEM = "application/problem+json"


def problem(status: int, name: str) -> httpx2.Response:
    content = json.dumps({"type": f"https://example.com/{name}"})
    return httpx2.Response(status, headers={"content-type": PROBLEM}, content=content)


@pytest.mark.parametrize(
    ("response", "effect"),
    [
        (httpx2.Response(200), "applied"),
        (httpx2.Response(201), "applied"),
        (httpx2.Response(408), "not applied"),
        (httpx2.Response(412), "not applied"),
        (httpx2.Response(422), "not applied"),
        (httpx2.Response(429), "not applied"),
        (httpx2.Response(409), "unknown"),
        (httpx2.Response(500), "unknown"),
        (httpx2.Response(502, text="<html>"), "unknown"),
        (problem(503, "unavailable"), "unknown"),
        (problem(503, "overloaded"), "not applied"),
        (httpx2.Response(503, json={"type": "https://example.com/overloaded"}), "unknown"),  # of some proxy
    ],
)
def test_a_response_tells_whether_the_request_was_applied(response: httpx2.Response, effect: Effect) -> None:
    assert effect_of(response) == effect


def operations(
    client: type[Writer] | type[Updater], answer: Callable[[httpx2.Request], httpx2.Response]
) -> tuple[list[Operation], History]:
    """What one operation of a client records, with a service that responds like this."""
    history = History()
    with httpx2.Client(base_url="http://fake", transport=httpx2.MockTransport(answer)) as http:
        worker = client("client", lambda: http, history, "trial", ["id"])
        worker.http = http  # what its thread does first
        worker.run_once()
    return history.operations, history


@pytest.fixture(autouse=True)
def no_chance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "INVALID_RATIO", 0)


def in_turn(*responses: httpx2.Response | Exception) -> Callable[[httpx2.Request], httpx2.Response]:
    left = list(responses)

    def answer(_request: httpx2.Request) -> httpx2.Response:
        match left.pop(0):
            case httpx2.Response() as response:
                return response
            case error:
                raise error

    return answer


CREATED: dict[str, Any] = {"id": "id", "version": 1}


def test_the_writer_retries_after_a_broken_connection() -> None:
    answer = in_turn(httpx2.ReadError("broken"), httpx2.Response(201, json=CREATED))
    (operation,), history = operations(Writer, answer)
    assert (operation.outcome, operation.unclear) == ("ok", True)
    assert [attempt.expected for attempt in history.attempts] == [False, True]


def test_a_refused_connection_means_not_applied() -> None:
    (operation,), _ = operations(Writer, in_turn(httpx2.ConnectError("refused")))
    assert (operation.outcome, operation.unclear) == ("failed", False)


def test_a_rejection_after_an_unclear_attempt_is_not_final() -> None:
    answer = in_turn(httpx2.Response(502), problem(503, "overloaded"), httpx2.Response(201, json=CREATED))
    (operation,), _ = operations(Writer, answer)
    assert (operation.outcome, operation.unclear) == ("ok", True)


def test_an_accepted_invalid_request_is_recorded_as_unexpected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "INVALID_RATIO", 1)
    (operation,), history = operations(Writer, in_turn(httpx2.Response(201, json=CREATED)))
    assert operation.outcome == "failed"
    assert [attempt.expected for attempt in history.attempts] == [False]


def test_an_updater_records_the_returned_version() -> None:
    answer = in_turn(httpx2.Response(200, json={"version": 4}), httpx2.Response(200, json={"version": 6}))
    (operation,), _ = operations(Updater, answer)
    assert (operation.outcome, operation.version) == ("ok", 6)


def test_an_updater_with_a_version_mismatch_changed_nothing() -> None:
    answer = in_turn(httpx2.Response(200, json={"version": 4}), httpx2.Response(412))
    (operation,), history = operations(Updater, answer)
    assert (operation.outcome, operation.unclear) == ("failed", False)
    assert history.failures == []


@pytest.mark.parametrize(("mine", "outcome"), [(True, "ok"), (False, "failed")])
def test_an_updater_reads_the_task_after_a_broken_response(mine: bool, outcome: str) -> None:
    sent: list[str] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        if request.method == "GET":
            written = sent[0] if mine and sent else "another's"
            return httpx2.Response(200, json={"version": 5 if sent else 4, "metadata": {"client": written}})
        sent.append(json.loads(request.content)["metadata"]["client"])
        if len(sent) == 1:
            raise httpx2.ReadError("broken")
        return httpx2.Response(412)

    (operation,), _ = operations(Updater, answer)
    assert (operation.outcome, operation.unclear, operation.version) == (outcome, True, 5)
