"""bench/RESULTS.md: each result with its target and its previous value."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.ladder import CONNECTIONS, FULL_SHARE, POOL, ROWS, RUNGS, RUNS, SECONDS
from bench.machine import ROOT

Figures = Mapping[str, Any]

REQUESTS = {"get": "GET /v1/tasks/{id}", "post": "POST /v1/tasks", "list": "GET /v1/tasks (50 tasks)"}
BASELINES = {
    "loop": "pgbench", "raw": "constant", "service": "raw", "bare": "raw", "conventional": "service", "go": "service",
}  # fmt: skip
"""The rung that each rung is compared with."""


@dataclass(frozen=True)
class Goal:
    """A measured value with a target."""

    name: str
    target: str
    met: Callable[[float], bool] | None
    """None for informational values."""
    value: Callable[[Figures], float]
    """Computed from the results by part. Raises KeyError if its part was not measured."""
    unit: str = ""


def _speedup(kind: str, rung: str, limit: str) -> Callable[[Figures], float]:
    """How many times faster a rung is than another: by CPU, which is also meaningful with other processes on the
    machine."""
    return lambda parts: statistics.median(_ratios(parts["ladder"][kind], limit, rung, "cpu_us"))


def _middleware_share(parts: Figures) -> float:
    return (1 - _speedup("get", "service", "bare")(parts)) * 100


def _health(parts: Figures) -> float:
    return float(parts["million"]["health_many_ms"] / parts["million"]["health_few_ms"])


def _page_ratio(parts: Figures) -> float:
    """The ratio of a late page to the first, for the worst list."""
    return max(float(page["last"] / page["first"]) for page in parts["million"]["pages"].values())


def _under(limit: float) -> Callable[[float], bool]:
    return lambda value: value < limit


def _at_least(minimum: float) -> Callable[[float], bool]:
    return lambda value: value >= minimum


GOALS = [
    *(
        Goal(f"{title}: ratio to rung 4", "0.85 or more", _at_least(0.85), _speedup(kind, "service", "raw"))
        for kind, title in REQUESTS.items()
    ),
    *(
        Goal(f"{title}: ratio to rung 6", "6 or more", _at_least(6), _speedup(kind, "service", "conventional"))
        for kind, title in REQUESTS.items()
    ),
    *(
        Goal(f"{title}: ratio to rung 7 (Go)", "informational", None, _speedup(kind, "service", "go"))
        for kind, title in REQUESTS.items()
    ),
    Goal(
        "Share of request ID, limits, metrics and access log in a GET", "under 10 %", _under(10),
        _middleware_share, " %",
    ),
    Goal(
        "p99/p50 ratio at 70 % of peak throughput, constant arrival rate", "under 5", _under(5),
        lambda parts: parts["latency"]["p99_to_p50"],
    ),
    Goal("/health, ratio of a million tasks to ten", "1", _under(1.5), _health),
    Goal("A million tasks, ratio of the 40th page to the first, worst list", "1", _under(1.5), _page_ratio),
    Goal(
        "CPU time from start to ready", "under 1.0 s", _under(1),
        lambda parts: statistics.median(parts["process"]["start_cpu_seconds"]), " s",
    ),
    Goal("Memory, idle", "under 80 MiB", _under(80), lambda parts: parts["process"]["idle_mib"], " MiB"),
    Goal("Memory after load", "under 128 MiB", _under(128), lambda parts: parts["process"]["loaded_mib"][-1], " MiB"),
    Goal(
        "Image layers on top of the base, compressed", "under 35 MB", _under(35),
        lambda parts: parts["image"]["added_mib"] * 2**20 / 1e6, " MB",
    ),
    Goal(
        "Image rebuild after a code change", "under 10 s", _under(10),
        lambda parts: parts["image"]["code_seconds"], " s",
    ),
    Goal(
        "Image rebuild after a dependency change", "under 60 s", _under(60),
        lambda parts: parts["image"]["dependency_seconds"], " s",
    ),
    Goal("make run, from scratch", "under 15 s", _under(15), lambda parts: parts["loops"]["run"], " s"),
    Goal("make lint, uncached", "under 30 s", _under(30), lambda parts: parts["loops"]["lint"], " s"),
    Goal("make lint, unchanged", "under 5 s", _under(5), lambda parts: parts["loops"]["lint_again"], " s"),
    Goal("make test", "under 120 s", _under(120), lambda parts: parts["loops"]["test"], " s"),
    Goal("make test-platform", "under 120 s", _under(120), lambda parts: parts["loops"]["platform"], " s"),
    Goal("make up, from scratch", "under 120 s", _under(120), lambda parts: parts["loops"]["up"], " s"),
    Goal("make up, unchanged", "under 15 s", _under(15), lambda parts: parts["loops"]["again"], " s"),
    Goal("make up, one line changed", "under 25 s", _under(25), lambda parts: parts["loops"]["change"], " s"),
    Goal("make e2e", "under 400 s", _under(400), lambda parts: parts["loops"]["e2e"], " s"),
]  # fmt: skip


def write(figures: Figures) -> str:
    """The whole page."""
    parts = [_head(), _goals(figures), _ladder(figures), _latency(figures), _process(figures), _million(figures)]
    return "\n".join(line for part in [*parts, _size(figures), _kind(figures), _findings()] for line in part) + "\n"


def _head() -> Iterator[str]:
    yield "# Benchmark results"
    yield ""
    yield "Generated by `make bench`. What is measured, and how: [README.md](README.md)."


def _goals(figures: Figures) -> Iterator[str]:
    parts = {name: part["figures"] for name, part in figures.items()}
    # Each part's previous results, whenever that was.
    last = {name: part["last"] for name, part in figures.items() if part.get("last")}
    yield from ("", "## Targets", "", "| | target | measured | previous | |", "|---|---|---:|---:|---|")
    for goal in GOALS:
        try:
            value = goal.value(parts)
        except KeyError:
            yield f"| {goal.name} | {goal.target} | not measured | | |"
            continue
        try:
            before = _number(goal.value(last)) + goal.unit
        except KeyError:
            before = ""
        verdict = "" if goal.met is None else "met" if goal.met(value) else "**missed**"
        yield f"| {goal.name} | {goal.target} | {_number(value)}{goal.unit} | {before} | {verdict} |"


def _ladder(figures: Figures) -> Iterator[str]:
    if "ladder" not in figures:
        return
    ladder = figures["ladder"]
    yield from ("", "## Baseline ladder", "")
    yield _describe_run(ladder)
    yield f"{CONNECTIONS} connections, {POOL} to PostgreSQL, {ROWS} tasks. {RUNS} runs of {SECONDS} s per rung,"
    yield "interleaved: medians, and ratios as minimum, **median** and maximum of the runs. CPU is the server's"
    yield "CPU time per request. A ratio above 1 means that the rung is faster."
    for kind, title in REQUESTS.items():
        yield from (
            "",
            f"### {title}",
            "",
            "| rung | requests/s | p50 ms | p99 ms | CPU µs | core % | baseline | requests/s ratio | CPU ratio |",
        )
        yield "|---|---:|---:|---:|---:|---:|---|---|---|"
        runs = ladder["figures"][kind]
        for rung in runs:
            cells = [
                ""
                if runs[rung][0].get(name) is None
                else f"{statistics.median(run[name] for run in runs[rung]) * times:,.{digits}f}"
                for name, digits, times in (
                    ("per_second", 0, 1),
                    ("p50_ms", 2, 1),
                    ("p99_ms", 2, 1),
                    ("cpu_us", 0, 1),
                    ("busy", 0, 100),
                )
            ]
            comparison = ["", "", ""]
            if rung in BASELINES:
                baseline = BASELINES[rung]
                comparison = [
                    RUNGS[baseline],
                    _format_spread(_ratios(runs, rung, baseline, "per_second")),
                    _format_spread(_ratios(runs, baseline, rung, "cpu_us")),
                ]
            yield f"| {RUNGS[rung]} | {' | '.join([*cells, *comparison])} |"
        constrained = sum(run.get("busy", 1) < FULL_SHARE for run in runs["service"])
        if kind == "get" and constrained:
            yield ""
            yield f"In {constrained} of these runs the service used less than {FULL_SHARE:.0%} of its core: its"
            yield "requests/s are limited by something else there."


def _latency(figures: Figures) -> Iterator[str]:
    if "latency" in figures:
        yield from ("", "## Latency at a constant rate", "", _describe_run(figures["latency"]))
        yield "GET of a task at 70 % of the peak rate measured just before; vegeta sends without waiting for responses."
        yield from ("", "| peak requests/s | sent requests/s | p50 ms | p99 ms |", "|---:|---:|---:|---:|")
        for run in figures["latency"]["figures"]["runs"]:
            yield f"| {run['peak']:,.0f} | {run['rate']:,.0f} | {run['p50_ms']:.2f} | {run['p99_ms']:.2f} |"


def _process(figures: Figures) -> Iterator[str]:
    if "process" in figures:
        process = figures["process"]["figures"]
        yield from ("", "## Startup and memory", "", _describe_run(figures["process"]))
        yield f"CPU time to ready: {', '.join(f'{seconds:.2f}' for seconds in process['start_cpu_seconds'])} s."
        loaded = ", ".join(f"{mib:.0f}" for mib in process["loaded_mib"])
        yield f"Resident memory: {process['idle_mib']:.0f} MiB idle; after each minute of load {loaded} MiB."


def _million(figures: Figures) -> Iterator[str]:
    if "million" in figures:
        million = figures["million"]["figures"]
        yield from ("", "## A million tasks", "", _describe_run(figures["million"]))
        yield "Duration of a single request, ms. The slowest is the first: PostgreSQL has not planned the query yet."
        yield from ("", "| list | slowest | first page | 40th page, or the last |", "|---|---:|---:|---:|")
        for name, page in million["pages"].items():
            yield f"| {name} | {page['slowest']:.1f} | {page['first']:.1f} | {page['last']:.1f} |"


def _size(figures: Figures) -> Iterator[str]:
    if "size" in figures:
        size = figures["size"]["figures"]
        before, after = size["before"], size["after"]
        yield from ("", "## Two million tasks", "", _describe_run(figures["size"]))
        yield f"A page of 50, before ({size['commit']}) and after, in one run: PostgreSQL's CPU time and duration of"
        yield "a single request, ms, minimum of several; buffers by pg_stat_statements. Statement timeout: one minute."
        columns = "CPU before | after | before/after | buffers before | after | before/after | ms before | after"
        yield from ("", f"| list | {columns} |")
        yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
        for name, now in after["lists"].items():
            was = before["lists"][name]
            cells = (
                f"{was[what]:,.{digits}f} | {now[what]:,.{digits}f} | {was[what] / max(now[what], minimum):,.1f}"
                for what, digits, minimum in (("cpu_ms", 1, 0.1), ("buffers", 0, 1))
            )
            yield f"| {name} | {' | '.join(cells)} | {was['ms']:,.1f} | {now['ms']:,.1f} |"
        yield ""
        ratios = {what: after["inserts"][what] / before["inserts"][what] for what in after["inserts"]}
        yield f"Insert, ratio after/before: CPU {ratios['cpu_ms']:.2f}, buffers {ratios['buffers']:.2f},"
        yield f"WAL {ratios['wal']:.2f}; medians of interleaved rounds."
        yield f"The migration took {size['migration_seconds']:.0f} s, including startup."


def _kind(figures: Figures) -> Iterator[str]:
    if "kind" in figures:
        kind = figures["kind"]["figures"]
        yield from ("", "## In kind, through the ingress", "", _describe_run(figures["kind"]))
        yield from ("", "| | requests/s | p99 ms | cores used on this machine |", "|---|---:|---:|---:|")
        names = {"one_500m": "1 pod of 500m", "three_100m": "3 pods of 100m", "six_100m": "6 pods of 100m"}
        for name, title in names.items():
            found = kind[name]
            yield f"| {title} | {found['per_second']:,.0f} | {found['p99_ms']:.0f} | {found['cores']:.2f} |"
        efficiency = kind["six_100m"]["per_second"] / kind["three_100m"]["per_second"] / 2
        yield from ("", f"Scaling efficiency from 3 to 6 pods: {efficiency:.2f}.")


def _describe_run(part: Figures) -> str:
    facts = [f"{name}: {value}" for name, value in part.items() if name not in ("date", "figures", "last")]
    return f"{part['date']}. {'. '.join(facts)}."


def _findings() -> Iterator[str]:
    yield ""
    yield (ROOT / "bench/findings.md").read_text().rstrip()


def _ratios(runs: Mapping[str, list[Mapping[str, float]]], rung: str, limit: str, figure: str) -> list[float]:
    """The ratio in each run; empty if either rung has no such value."""
    pairs = zip(runs[rung], runs[limit], strict=True)
    return [a[figure] / b[figure] for a, b in pairs if a[figure] is not None and b[figure] is not None]


def _spread(values: list[float]) -> tuple[float, float, float]:
    return min(values), statistics.median(values), max(values)


def _format_spread(values: list[float]) -> str:
    if not values:
        return ""
    minimum, median, maximum = _spread(values)
    return f"{_number(minimum)} **{_number(median)}** {_number(maximum)}"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
