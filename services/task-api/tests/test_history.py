"""What a history says about a fault: how long no write was possible, and how long requests failed."""

from __future__ import annotations

import pytest
from acknowledged.history import Attempt, History


def created(ended: float, result: str = "201") -> Attempt:
    return Attempt("writer", "create", ended - 0.1, ended, result, expected=result == "201")


def failed(began: float, ended: float, client: str = "writer") -> Attempt:
    return Attempt(client, "create", began, ended, "502", expected=False)


def history(faults: list[float], attempts: list[Attempt]) -> History:
    made = History()
    made.faults += [(at, "fault") for at in faults]
    made.attempts += attempts
    return made


def test_the_longest_gap_starts_at_the_first_fault() -> None:
    assert history([10], [created(1), created(9), created(12), created(13)]).longest_gap() == pytest.approx(2)


def test_the_longest_gap_is_measured_between_writes_only() -> None:
    read = Attempt("reader", "read", 13, 14, "200", expected=True)
    attempts = [created(10.5), read, created(15, "503"), created(16)]
    assert history([10], attempts).longest_gap() == pytest.approx(5.5)


def test_a_successful_change_ends_a_gap_and_a_version_mismatch_does_not() -> None:
    changes = [
        Attempt("updater", "update", 11, 12, "200", expected=True),
        Attempt("updater", "update", 12, 14, "412", expected=True),
    ]
    assert history([10], [*changes, created(15)]).longest_gap() == pytest.approx(3)


def test_without_a_fault_there_is_no_gap() -> None:
    assert history([], [created(1), created(9)]).longest_gap() == 0


def test_recovery_ends_with_the_last_failed_request() -> None:
    assert history([10], [failed(10.5, 11), failed(12, 13), created(14)]).recovery() == pytest.approx(3)


def test_a_request_in_flight_at_the_fault_failed_because_of_it() -> None:
    assert history([10], [failed(9.9, 11)]).recovery() == pytest.approx(1)


def test_a_failure_before_any_fault_is_not_attributed_to_one() -> None:
    assert history([10], [failed(8, 9)]).recovery() == 0


def test_a_client_not_served_between_two_faults_waits_since_the_first() -> None:
    assert history([0, 5], [failed(0.1, 5.5)]).recovery() == pytest.approx(5.5)


def test_a_client_served_between_two_faults_waits_since_the_second() -> None:
    assert history([0, 5], [created(3), failed(4.9, 5.5)]).recovery() == pytest.approx(0.5)


def test_another_client_served_between_two_faults_does_not_count() -> None:
    assert history([0, 5], [created(3), failed(0.1, 5.5, "other")]).recovery() == pytest.approx(5.5)


def test_the_longest_recovery_of_several_faults_counts() -> None:
    attempts = [failed(0.1, 4), created(5), failed(10.1, 11)]
    assert history([0, 10], attempts).recovery() == pytest.approx(4)
