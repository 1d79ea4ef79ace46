"""The results page of `make bench`, with made-up results."""

from __future__ import annotations

from typing import Any

import pytest
from bench import report
from bench.ladder import LOADS

MACHINE = {"date": "2026-11-24", "Machine": "2 cores"}


def results(previous: dict[str, Any] | None = None, **cpu_us: float) -> dict[str, Any]:
    """The results of two runs in which every rung takes 100 µs, except for these."""
    figures: dict[str, Any] = {
        load: {rung: runs(cpu_us.get(rung, 100)) for rung in LOADS[load].rungs} for load in LOADS
    }
    for load in ("get", "post", "list"):
        unknown = dict.fromkeys(("p50_ms", "p99_ms", "cpu_us", "busy", "postgres_us", "statements", "commits"))
        figures[load]["pgbench"] = [{"per_second": 9000.0, **unknown}] * 2
    previous_figures = None if previous is None else previous["ladder"]["figures"]
    return {"ladder": {**MACHINE, "figures": {**figures, "before": "v1.2.0"}, "last": previous_figures}}


def runs(cpu_us: float = 100, per_second: float = 1000, **others: float) -> list[dict[str, float]]:
    """Two runs of a rung with the same figures."""
    run = {"per_second": per_second, "p50_ms": 1.0, "p99_ms": 2.0, "cpu_us": cpu_us, "busy": 0.9, "postgres_us": 50.0}
    return [{**run, "statements": 1.0, "commits": 1.0, **others}] * 2


def line(page: str, beginning: str) -> str:
    """The page's first line with this prefix."""
    return next(line for line in page.splitlines() if line.startswith(f"| {beginning}"))


def test_result_is_shown_with_its_goal_and_the_previous_result() -> None:
    page = report.write(results(results(service=200), service=110))
    assert line(page, "GET /v1/tasks/{id}: ratio to rung 4") == (
        "| GET /v1/tasks/{id}: ratio to rung 4 | 0.85 or more | 0.91 | 0.50 | met |"
    )


def test_missed_goal_is_reported() -> None:
    page = report.write(results(service=200, conventional=800))
    assert line(page, "POST /v1/tasks: ratio to rung 4").endswith("| 0.50 |  | **missed** |")
    assert line(page, "POST /v1/tasks: ratio to rung 6").endswith("| 4.00 |  | **missed** |")


def test_skipped_part_has_no_result() -> None:
    page = report.write({})
    assert "| not measured | | |" in line(page, "CPU time from start to ready")
    assert "## Baseline ladder" not in page


def test_ratios_compare_rungs_of_the_same_run_and_need_both_results() -> None:
    data = results()
    for rung in ("raw", "service"):
        data["ladder"]["figures"]["get"][rung] = [runs()[0], runs(cpu_us=1000, per_second=10, busy=0.5)[0]]
    page = report.write(data)
    assert "| 1.00 **1.00** 1.00 | 1.00 **1.00** 1.00 |" in line(page, "16 | 5 the service")
    assert "In 1 of these runs, with 16 clients, the service used less than\n85% of its core" in page


def test_ratio_without_a_goal_has_no_verdict() -> None:
    page = report.write(results(service=200))
    assert line(page, "POST /v1/tasks: ratio to Go, batched").endswith("| informational | 0.50 |  |  |")


@pytest.mark.parametrize(
    ("goal", "load", "rung", "measured", "row"),
    [
        ("GET /v1/tasks/{id}: ratio to rung 7", "get", "go", runs(cpu_us=71), "0.7 or more | 0.71 |  | met |"),
        ("POST /v1/tasks: ratio to rung 7", "post", "go", runs(cpu_us=69), "0.7 or more | 0.69 |  | **missed** |"),
        ("GET /v1/tasks (50 tasks): ratio to rung 7", "list", "go", runs(cpu_us=130), "1.3 or more | 1.30 |  | met |"),
        (
            "POST /v1/tasks: requests/s",
            "post",
            "service",
            runs(per_second=1100),
            "1.2 or more | 1.10 |  | **missed** |",
        ),
        ("GET /v1/tasks/{id}: requests/s", "get", "before", runs(per_second=400), "2 or more | 2.50 |  | met |"),
        ("POST with an Idempotency-Key", "keyed", "service", runs(cpu_us=125), "0.85 or more | 0.80 |  | **missed** |"),
        (
            "GET, one client: requests/s",
            "get_1",
            "service",
            runs(per_second=960),
            "0.97 or more | 0.96 |  | **missed** |",
        ),
        ("POST, one client: CPU", "post_1", "service", runs(cpu_us=104), "1.05 or less | 1.04 |  | met |"),
        ("Statements per GET", "get", "service", runs(statements=0.2), "under 0.25 | 0.20 |  | met |"),
        ("Commits per POST", "post", "service", runs(commits=0.3), "under 0.3 | 0.30 |  | **missed** |"),
        ("PostgreSQL's CPU per POST", "post", "before", runs(postgres_us=100), "0.5 or less | 0.50 |  | met |"),
        ("POST on SQLite", "post", "sqlite", runs(per_second=3400), "3.5 or more | 3.40 |  | **missed** |"),
        ("GET on SQLite", "get", "sqlite_before", runs(per_second=1040), "0.95 or more | 0.96 |  | met |"),
    ],
)
def test_goal_is_compared_with_the_rung_that_it_names(
    goal: str, load: str, rung: str, measured: list[dict[str, float]], row: str
) -> None:
    data = results()
    data["ladder"]["figures"][load][rung] = measured
    assert line(report.write(data), goal).endswith(f"| {row}")


def test_table_has_every_number_of_clients_and_what_postgresql_did() -> None:
    data = results()
    data["ladder"]["figures"]["get_64"]["service"] = runs(per_second=2000, statements=0.06)
    page = report.write(data)
    assert '"Before" is the commit v1.2.0.' in page
    assert "| 64 | 5 the service | 2,000 | 1.00 | 2.00 | 100 | 90 | 50 | 0.06 | 1.00 |" in page
    assert "| 5 | 1 pgbench, prepared | 9,000 |  |" in page
    assert "| 1.00 | 1.00 | 5 the service | 0.50 **0.50** 0.50 | 1.00 **1.00** 1.00 |" in line(
        page, "64 | 7 Go, net/http"
    )


def test_results_from_before_a_rung_existed_are_reported_without_it() -> None:
    data = results()
    for load in set(LOADS) - {"get", "post", "list"}:
        del data["ladder"]["figures"][load]
    for load in ("get", "post", "list"):
        for rung in ("before", "sqlite", "sqlite_before", "go_batched"):
            data["ladder"]["figures"][load].pop(rung, None)
    page = report.write(data)
    assert "not measured" in line(page, "GET, one client: requests/s")
    assert "not measured" in line(page, "POST on SQLite")
    assert "| 16 | 7 Go, net/http + pgx |" in page
    assert "| 16 | 5 before |" not in page


def test_latency_at_the_fixed_rate_is_the_median_of_the_runs() -> None:
    fixed = [{"peak": 9000, "rate": 6300, "p50_ms": 0.5, "p99_ms": 9, "fixed_p99_ms": p99} for p99 in (2, 4, 30)]
    page = report.write({"latency": {**MACHINE, "figures": {"runs": fixed, "p99_to_p50": 18}, "last": None}})
    assert line(page, "p99 at 4,450 GET/s").endswith("| under 5 ms | 4.00 ms |  | met |")
    assert "| 9,000 | 6,300 | 0.50 | 9.00 | 30.00 |" in page


def test_development_loops_are_shown_with_their_goals() -> None:
    page = report.write({"loops": {**MACHINE, "figures": {"test": 130, "up": 99}, "last": {"test": 119}}})
    assert line(page, "make test") == "| make test | under 120 s | 130 s | 119 s | **missed** |"
    assert line(page, "make up, from scratch") == "| make up, from scratch | under 120 s | 99.0 s |  | met |"
    assert "not measured" in line(page, "make e2e")
