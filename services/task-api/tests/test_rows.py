"""Each trial leaves a row, however it ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from acknowledged.history import Attempt, History
from acknowledged.judge import Verdict
from acknowledged.processes import client_of
from acknowledged.row import COLUMNS, Row
from acknowledged.trial import judged
from running import Service, serving


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    database = tmp_path_factory.mktemp("rows") / "tasks.db"
    with serving(TASKS_DATABASE_URL=f"sqlite:///{database}") as service:
        yield service


def test_a_successful_trial_has_a_row(service: Service, tmp_path: Path) -> None:
    rows: list[Row] = []
    with judged("none", lambda: client_of(service.url), tmp_path / "history", rows.append, graceful=True):
        pass
    (row,) = rows
    assert (row.fault, row.guarantee, row.failed, row.lost) == ("none", "held", 0, 0)
    assert row.requests > 0


def test_a_trial_that_raises_has_an_incomplete_row(service: Service, tmp_path: Path) -> None:
    rows: list[Row] = []
    with (
        pytest.raises(ZeroDivisionError),
        judged("none", lambda: client_of(service.url), tmp_path / "history", rows.append),
    ):
        raise ZeroDivisionError
    assert [row.guarantee for row in rows] == ["incomplete"]
    assert "?" in rows[0].cells


def test_a_trial_that_cannot_start_has_a_row(tmp_path: Path) -> None:
    rows: list[Row] = []
    with pytest.raises(OSError, match="no service"), judged("none", no_service, tmp_path / "history", rows.append):
        pass
    assert [(row.guarantee, row.requests) for row in rows] == [("incomplete", 0)]


def no_service() -> httpx2.Client:
    raise OSError("no service")


def test_an_unexpected_failed_request_violates_the_guarantee(service: Service, tmp_path: Path) -> None:
    rows: list[Row] = []
    with (
        pytest.raises(AssertionError, match="no client may notice"),
        judged("none", lambda: client_of(service.url), tmp_path / "history", rows.append, graceful=True) as running,
    ):
        running.history.attempts.append(Attempt("client", "create", 0, 1, "502", expected=False))
    assert [(row.guarantee, row.failed) for row in rows] == [("violated", 1)]


def test_a_row_round_trips(tmp_path: Path) -> None:
    verdict = Verdict(lost=["a"], applied_though_rejected=["b", "c"], wrong_versions=["d"], unclear=3)
    row = Row.of("a fault", "violated", History(), verdict)
    row.write(tmp_path / "rows" / "row.json")
    assert Row.read(tmp_path / "rows" / "row.json") == row
    cells = dict(zip(COLUMNS, row.cells, strict=True))
    assert cells["guarantee"] == "**violated**"
    assert [cells[name] for name in ("lost", "applied though rejected", "wrong versions", "unknown")] == [*"1213"]
