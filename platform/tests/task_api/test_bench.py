"""The page that `make bench` writes, of figures that are made up here."""

from __future__ import annotations

from typing import Any

from bench import report

MACHINE = {"date": "2026-11-24", "Machine": "2 cores"}


def figures(last: dict[str, Any] | None = None, **cpu_us: float) -> dict[str, Any]:
    """A ladder of two runs in which every rung takes 100 µs, but for these."""
    rungs = ("loop", "constant", "raw", "service", "bare", "conventional", "go")
    runs: dict[str, list[dict[str, float | None]]] = {
        rung: [{"per_second": 1000.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_us": cpu_us.get(rung, 100.0), "busy": 0.9}] * 2
        for rung in rungs
    }
    runs["pgbench"] = [{"per_second": 9000.0, "p50_ms": None, "p99_ms": None, "cpu_us": None, "busy": None}] * 2
    before = None if last is None else last["ladder"]["figures"]
    return {"ladder": {**MACHINE, "figures": {"get": runs, "post": runs, "list": runs}, "last": before}}


def line(page: str, beginning: str) -> str:
    """The first line of the page that begins so."""
    return next(line for line in page.splitlines() if line.startswith(f"| {beginning}"))


def test_a_figure_stands_beside_its_goal_and_that_of_last_time() -> None:
    page = report.write(figures(figures(service=200), service=110))
    assert line(page, "GET /v1/tasks/{id}: ratio to rung 4") == (
        "| GET /v1/tasks/{id}: ratio to rung 4 | 0.85 or more | 0.91 | 0.50 | met |"
    )


def test_what_is_missed_is_said_so() -> None:
    page = report.write(figures(service=200, conventional=800))
    assert line(page, "POST /v1/tasks: ratio to rung 4").endswith("| 0.50 |  | **missed** |")
    assert line(page, "POST /v1/tasks: ratio to rung 6").endswith("| 4.00 |  | **missed** |")


def test_a_part_that_was_not_measured_is_not_given_a_figure() -> None:
    page = report.write({})
    assert "| not measured | | |" in line(page, "CPU time from start to ready")
    assert "## Baseline ladder" not in page


def test_ratios_are_of_one_run_and_a_rung_without_a_figure_has_none() -> None:
    found = figures()
    slow_minute = {"per_second": 10.0, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_us": 1000.0, "busy": 0.5}
    for rung in ("raw", "service"):
        found["ladder"]["figures"]["get"][rung] = [found["ladder"]["figures"]["get"][rung][0], slow_minute]
    page = report.write(found)
    assert "| 1.00 **1.00** 1.00 | 1.00 **1.00** 1.00 |" in line(page, "5 the service")
    assert "In 1 of these runs the service used less than 85% of its core" in page


def test_what_another_server_does_is_only_reported() -> None:
    page = report.write(figures(service=200))
    assert line(page, "POST /v1/tasks: ratio to rung 7").endswith("| informational | 0.50 |  |  |")


def test_the_loops_of_a_developer_stand_beside_their_goals() -> None:
    page = report.write({"loops": {**MACHINE, "figures": {"test": 130, "up": 99}, "last": {"test": 119}}})
    assert line(page, "make test") == "| make test | under 120 s | 130 s | 119 s | **missed** |"
    assert line(page, "make up, from scratch") == "| make up, from scratch | under 120 s | 99.0 s |  | met |"
    assert "not measured" in line(page, "make e2e")
