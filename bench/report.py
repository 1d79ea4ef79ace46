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


def _of(kind: str, rung: str, limit: str) -> Callable[[Figures], float]:
    """How many times faster a rung is than another: by CPU, which tells it also where something else runs beside it."""
    return lambda figures: statistics.median(_ratios(figures["ladder"]["figures"][kind], limit, rung, "cpu_us"))


def _edge(figures: Figures) -> float:
    kinds = figures["ladder"]["figures"]
    return (1 - statistics.median(_ratios(kinds["get"], "bare", "service", "cpu_us"))) * 100


def _figure(part: str, value: Callable[[Figures], float]) -> Callable[[Figures], float]:
    return lambda figures: value(figures[part]["figures"])


def _named(part: str, name: str, times: float = 1) -> Callable[[Figures], float]:
    return lambda figures: float(figures[part]["figures"][name]) * times


def _health(million: Figures) -> float:
    return float(million["health_many_ms"] / million["health_few_ms"])


def _start(process: Figures) -> float:
    return statistics.median(float(seconds) for seconds in process["start_cpu_seconds"])


def _loaded(process: Figures) -> float:
    return float(process["loaded_mib"][-1])


def _flatness(million: Figures) -> float:
    """The worst list's later page in the time of its first."""
    return max(float(page["last"] / page["first"]) for page in million["pages"].values())


GOALS = [
    *(
        Goal(f"{REQUESTS[kind]}, of rung 4", "0.85 or more", lambda v: v >= 0.85, _of(kind, "service", "raw"))
        for kind in REQUESTS
    ),
    *(
        Goal(f"{REQUESTS[kind]}, times rung 6", "6 or more", lambda v: v >= 6, _of(kind, "service", "usual"))
        for kind in REQUESTS
    ),
    *(
        Goal(f"{REQUESTS[kind]}, of rung 7 (Go)", "0.53 or more", lambda v: v >= 0.53, _of(kind, "service", "go"))
        for kind in REQUESTS
    ),
    Goal("Id, limits, metrics and access log, of a GET", "under 10 %", lambda v: v < 10, _edge, " %"),
    Goal(
        "p99 by p50 at 70 % of the most, arriving evenly", "under 5", lambda v: v < 5, _named("latency", "p99_of_p50")
    ),
    Goal("/health with a million tasks, by that with ten", "1", lambda v: v < 1.5, _figure("million", _health)),
    Goal("A million: the 40th page by the first, worst list", "1", lambda v: v < 1.5, _figure("million", _flatness)),
    Goal("CPU from the start to ready", "under 1.0 s", lambda v: v < 1, _figure("process", _start), " s"),
    Goal("Resident memory, idle", "under 80 MiB", lambda v: v < 80, _named("process", "idle_mib"), " MiB"),
    Goal("Resident memory after load", "under 128 MiB", lambda v: v < 128, _figure("process", _loaded), " MiB"),
    Goal(
        "What the image adds to its base, compressed", "under 35 MB", lambda v: v < 35,
        _named("image", "added_mib", 2**20 / 1e6), " MB",
    ),
    Goal("Image after a change of the code", "under 10 s", lambda v: v < 10, _named("image", "code_seconds"), " s"),
    Goal(
        "Image after a change of the dependencies", "under 60 s", lambda v: v < 60,
        _named("image", "dependency_seconds"), " s",
    ),
]  # fmt: skip


def write(figures: Figures, last: Figures) -> str:
    """The whole page. last: the figures before."""
    parts = [_head(), _goals(figures, last), _ladder(figures), _latency(figures), _process(figures), _million(figures)]
    return "\n".join(line for part in [*parts, _kind(figures), _findings()] for line in part) + "\n"


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


def _latency(figures: Figures) -> Iterator[str]:
    if "latency" in figures:
        yield from ("", "## Latency at a fixed rate", "", _when(figures["latency"]))
        yield "GET of a task at 70 % of the highest rate found just before; vegeta sends and does not wait."
        yield from ("", "| the most, requests/s | sent, requests/s | p50 ms | p99 ms |", "|---:|---:|---:|---:|")
        for run in figures["latency"]["figures"]["runs"]:
            yield f"| {run['most']:,.0f} | {run['rate']:,.0f} | {run['p50_ms']:.2f} | {run['p99_ms']:.2f} |"


def _process(figures: Figures) -> Iterator[str]:
    if "process" in figures:
        process = figures["process"]["figures"]
        yield from ("", "## Start and memory", "", _when(figures["process"]))
        yield f"CPU to ready: {', '.join(f'{seconds:.2f}' for seconds in process['start_cpu_seconds'])} s."
        loaded = ", ".join(f"{mib:.0f}" for mib in process["loaded_mib"])
        yield f"Resident: {process['idle_mib']:.0f} MiB idle, after each minute of load {loaded} MiB."


def _million(figures: Figures) -> Iterator[str]:
    if "million" in figures:
        million = figures["million"]["figures"]
        yield from ("", "## A million tasks", "", _when(figures["million"]))
        yield "Time of one request alone, ms. The slowest is the first of all: PostgreSQL has not planned it before."
        yield from ("", "| list | slowest | first page | 40th page, or the last |", "|---|---:|---:|---:|")
        for name, page in million["pages"].items():
            yield f"| {name} | {page['slowest']:.1f} | {page['first']:.1f} | {page['last']:.1f} |"


def _kind(figures: Figures) -> Iterator[str]:
    if "kind" in figures:
        kind = figures["kind"]["figures"]
        yield from ("", "## In kind, through the ingress", "", _when(figures["kind"]))
        yield from ("", "| | requests/s | p99 ms | cores busy on this machine |", "|---|---:|---:|---:|")
        names = {"one_500m": "1 pod of 500m", "three_100m": "3 pods of 100m", "six_100m": "6 pods of 100m"}
        for name, title in names.items():
            found = kind[name]
            yield f"| {title} | {found['per_second']:,.0f} | {found['p99_ms']:.0f} | {found['cores']:.2f} |"
        share = kind["six_100m"]["per_second"] / kind["three_100m"]["per_second"] / 2
        yield from ("", f"Twice as many pods serve {share:.2f} of twice as much.")


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
