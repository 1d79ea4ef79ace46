"""bench/RESULTS.md: each figure beside its goal and beside the one of last time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.ladder import CONNECTIONS, POOL, ROWS, RUNGS, RUNS, SECONDS
from bench.machine import ROOT

Figures = Mapping[str, Any]

REQUESTS = {"get": "GET /v1/tasks/{id}", "post": "POST /v1/tasks", "list": "GET /v1/tasks, 50 of them"}
LIMITS = {
    "loop": "pgbench", "raw": "constant", "service": "raw", "bare": "raw", "usual": "service", "go": "service",
}  # fmt: skip
"""What each rung is held against."""


@dataclass(frozen=True)
class Goal:
    """Something that is to be reached."""

    name: str
    wanted: str
    met: Callable[[float], bool]
    value: Callable[[Figures], float]
    """Of the figures of all parts. Raises KeyError where its part was not measured."""
    unit: str = ""


def _of_limit(kind: str, rung: str, limit: str, figure: str = "per_second") -> Callable[[Figures], float]:
    return lambda figures: _spread(_ratios(figures["ladder"]["figures"][kind], rung, limit, figure))[1]


def _edge(figures: Figures) -> float:
    shares = []
    for kind in ("get", "post"):
        shares += _ratios(figures["ladder"]["figures"][kind], "service", "bare", "per_second")
    return (1 - statistics.median(shares)) * 100


GOALS = [
    *(
        Goal(f"{REQUESTS[kind]}: of rung 4", "0.85 or more", lambda v: v >= 0.85, _of_limit(kind, "service", "raw"))
        for kind in REQUESTS
    ),
    *(
        Goal(f"{REQUESTS[kind]}: times rung 6", "6 or more", lambda v: v >= 6, _of_limit(kind, "service", "usual"))
        for kind in REQUESTS
    ),
    *(
        Goal(
            f"{REQUESTS[kind]}: of rung 7 (Go)",
            "0.53; 1 is the dream",
            lambda v: v >= 0.53,
            _of_limit(kind, "service", "go"),
        )
        for kind in REQUESTS
    ),
    Goal(
        "Id, limits, metrics, access log: of GET's and POST's throughput", "under 10 %", lambda v: v < 10, _edge, " %"
    ),
]


def write(figures: Figures, last: Figures) -> str:
    """The whole page. last: the figures before."""
    return "\n".join([*_head(), *_goals(figures, last), *_ladder(figures), *_findings()]) + "\n"


def _head() -> Iterator[str]:
    yield "# How fast it is"
    yield ""
    yield "Written by `make bench`; what each figure means and how it is taken: [README.md](README.md)."


def _goals(figures: Figures, last: Figures) -> Iterator[str]:
    yield from ("", "## Goals", "", "| | wanted | measured | last time | |", "|---|---|---:|---:|---|")
    for goal in GOALS:
        try:
            value = goal.value(figures)
        except KeyError:
            yield f"| {goal.name} | {goal.wanted} | not measured | | |"
            continue
        try:
            before = _number(goal.value(last)) + goal.unit
        except KeyError:
            before = ""
        verdict = "met" if goal.met(value) else "**missed**"
        yield f"| {goal.name} | {goal.wanted} | {_number(value)}{goal.unit} | {before} | {verdict} |"


def _ladder(figures: Figures) -> Iterator[str]:
    if "ladder" not in figures:
        return
    ladder = figures["ladder"]
    yield from ("", "## The ladder", "")
    yield _when(ladder)
    yield f"{CONNECTIONS} connections, {POOL} to PostgreSQL, {ROWS} tasks. {RUNS} runs of {SECONDS} s for each"
    yield "rung, in turns: medians, and ratios as smallest, **median** and biggest of the runs. CPU is the server's,"
    yield "per request. A ratio above 1 means that the rung is the faster one."
    for kind, title in REQUESTS.items():
        yield from (
            "",
            f"### {title}",
            "",
            "| rung | requests/s | p50 ms | p99 ms | CPU µs | held against | by requests/s | by CPU |",
        )
        yield "|---|---:|---:|---:|---:|---|---|---|"
        runs = ladder["figures"][kind]
        for rung in runs:
            cells = [
                ""
                if runs[rung][0][name] is None
                else f"{statistics.median(run[name] for run in runs[rung]):,.{digits}f}"
                for name, digits in (("per_second", 0), ("p50_ms", 2), ("p99_ms", 2), ("cpu_us", 0))
            ]
            against = ["", "", ""]
            if rung in LIMITS:
                limit = LIMITS[rung]
                against = [
                    RUNGS[limit],
                    _three(_ratios(runs, rung, limit, "per_second")),
                    _three(_ratios(runs, limit, rung, "cpu_us")),
                ]
            yield f"| {RUNGS[rung]} | {' | '.join([*cells, *against])} |"


def _when(part: Figures) -> str:
    facts = [f"{name}: {value}" for name, value in part.items() if name not in ("date", "figures")]
    return f"{part['date']}. {'. '.join(facts)}."


def _findings() -> Iterator[str]:
    yield ""
    yield (ROOT / "bench/findings.md").read_text().rstrip()


def _ratios(runs: Mapping[str, list[Mapping[str, float]]], rung: str, limit: str, figure: str) -> list[float]:
    """The ratio in each run; empty where one of the two has no such figure."""
    pairs = zip(runs[rung], runs[limit], strict=True)
    return [a[figure] / b[figure] for a, b in pairs if a[figure] is not None and b[figure] is not None]


def _spread(values: list[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)


def _three(values: list[float]) -> str:
    if not values:
        return ""
    least, median, most = _spread(values)
    return f"{_number(least)} **{_number(median)}** {_number(most)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
