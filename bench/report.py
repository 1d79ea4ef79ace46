"""bench/RESULTS.md: each result with its target and its previous value."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.ladder import CONNECTIONS, FULL_SHARE, LOADS, POOL, ROWS, RUNGS, RUNS, SECONDS
from bench.latency import FIXED_RATE
from bench.machine import ROOT

Figures = Mapping[str, Any]

REQUESTS = {"get": "GET /v1/tasks/{id}", "post": "POST /v1/tasks", "list": "GET /v1/tasks (50 tasks)"}
TITLES = {**REQUESTS, "keyed": "POST /v1/tasks with an Idempotency-Key"}
BASELINES = {
    "loop": "pgbench", "raw": "constant", "service": "raw", "bare": "raw", "before": "service",
    "sqlite": "sqlite_before", "conventional": "service", "go": "service", "go_batched": "go",
}  # fmt: skip
"""The rung that each rung is compared with."""
WITHOUT_HTTP = ("pgbench", "loop")
"""Their clients are the connections to PostgreSQL."""
COLUMNS = (
    ("per_second", 0, 1), ("p50_ms", 2, 1), ("p99_ms", 2, 1), ("cpu_us", 0, 1), ("busy", 0, 100),
    ("postgres_us", 0, 1), ("statements", 2, 1), ("commits", 2, 1),
)  # fmt: skip
"""Columns of the ladder: figure, digits, factor."""


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


def _speedup(load: str, rung: str, limit: str) -> Callable[[Figures], float]:
    """How many times faster a rung is than another: by CPU, which is also meaningful with other processes on the
    machine."""
    return _ratio(load, limit, rung, "cpu_us")


def _ratio(load: str, rung: str, limit: str, figure: str) -> Callable[[Figures], float]:
    return lambda parts: statistics.median(_ratios(parts["ladder"][load], rung, limit, figure))


def _median(load: str, figure: str) -> Callable[[Figures], float]:
    return lambda parts: statistics.median(run[figure] for run in parts["ladder"][load]["service"])


def _key_efficiency(parts: Figures) -> float:
    """The service's CPU per POST without a key, divided by that with one."""
    runs = {load: parts["ladder"][load]["service"] for load in ("post", "keyed")}
    return statistics.median(_ratios(runs, "post", "keyed", "cpu_us"))


def _middleware_share(parts: Figures) -> float:
    return (1 - _speedup("get", "service", "bare")(parts)) * 100


def _health(parts: Figures) -> float:
    return float(parts["million"]["health_many_ms"] / parts["million"]["health_few_ms"])


def _page_ratio(parts: Figures) -> float:
    """The ratio of a late page to the first, for the worst list."""
    return max(float(page["last"] / page["first"]) for page in parts["million"]["pages"].values())


def _under(limit: float) -> Callable[[float], bool]:
    return lambda value: value < limit


def _at_least(minimum: float, name: str, value: Callable[[Figures], float]) -> Goal:
    return Goal(name, f"{minimum:g} or more", lambda measured: measured >= minimum, value)


def _at_most(maximum: float, name: str, value: Callable[[Figures], float]) -> Goal:
    return Goal(name, f"{maximum:g} or less", lambda measured: measured <= maximum, value)


GOALS = [
    *(
        _at_least(0.85, f"{title}: ratio to rung 4", _speedup(kind, "service", "raw"))
        for kind, title in REQUESTS.items()
    ),
    *(
        _at_least(6, f"{title}: ratio to rung 6", _speedup(kind, "service", "conventional"))
        for kind, title in REQUESTS.items()
    ),
    *(
        _at_least(minimum, f"{REQUESTS[kind]}: ratio to rung 7 (Go)", _speedup(kind, "service", "go"))
        for kind, minimum in (("get", 0.7), ("post", 0.7), ("list", 1.3))
    ),
    *(
        Goal(f"{REQUESTS[kind]}: ratio to Go, batched", "informational", None, _speedup(kind, "service", "go_batched"))
        for kind in ("get", "post")
    ),
    _at_least(
        1.2, f"{REQUESTS['post']}: requests/s, ratio to rung 7 (Go)", _ratio("post", "service", "go", "per_second")
    ),
    _at_least(
        2, f"{REQUESTS['get']}: requests/s, ratio to rung 5 before", _ratio("get", "service", "before", "per_second")
    ),
    _at_least(0.85, "POST with an Idempotency-Key: ratio to POST without", _key_efficiency),
    *(
        goal
        for kind in ("get", "post")
        for goal in (
            _at_least(
                0.97, f"{kind.upper()}, one client: requests/s, ratio to rung 5 before",
                _ratio(f"{kind}_1", "service", "before", "per_second"),
            ),
            _at_most(
                1.05, f"{kind.upper()}, one client: CPU per request, ratio to rung 5 before",
                _ratio(f"{kind}_1", "service", "before", "cpu_us"),
            ),
        )
    ),
    Goal(f"Statements per GET, {CONNECTIONS} clients", "under 0.25", _under(0.25), _median("get", "statements")),
    Goal(f"Commits per POST, {CONNECTIONS} clients", "under 0.3", _under(0.3), _median("post", "commits")),
    _at_most(
        0.5, "PostgreSQL's CPU per POST, ratio to rung 5 before", _ratio("post", "service", "before", "postgres_us")
    ),
    *(
        _at_least(
            minimum, f"{kind.upper()} on SQLite: requests/s, ratio to rung 5 before",
            _ratio(kind, "sqlite", "sqlite_before", "per_second"),
        )
        for kind, minimum in (("post", 3.5), ("get", 0.95))
    ),
    Goal(
        "Share of request ID, limits, metrics and access log in a GET", "under 10 %", _under(10),
        _middleware_share, " %",
    ),
    Goal(
        "p99/p50 ratio at 70 % of peak throughput, constant arrival rate", "under 5", _under(5),
        lambda parts: parts["latency"]["p99_to_p50"],
    ),
    Goal(
        f"p99 at {FIXED_RATE:,} GET/s, constant arrival rate", "under 5 ms", _under(5),
        lambda parts: statistics.median(run["fixed_p99_ms"] for run in parts["latency"]["runs"]), " ms",
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
    yield f"{POOL} connections to PostgreSQL, {ROWS} tasks. {RUNS} runs of {SECONDS} s per rung,"
    yield "interleaved: medians, and ratios as minimum, **median** and maximum of the runs. CPU is the server's"
    yield "CPU time per request, PostgreSQL that of all its processes; statements, and commits of transactions that"
    yield "wrote, per request. A ratio above 1 means that the rung is faster."
    if "before" in ladder["figures"]:
        yield f'"Before" is the commit {ladder["figures"]["before"]}.'
    for request, title in TITLES.items():
        loads = {name: load for name, load in LOADS.items() if load.request == request and name in ladder["figures"]}
        if not loads:
            continue
        yield from ("", f"### {title}", "")
        yield (
            "| clients | rung | requests/s | p50 ms | p99 ms | CPU µs | core % | PostgreSQL µs | statements | commits"
            " | baseline | requests/s ratio | CPU ratio |"
        )
        yield "|---:|---|---:|---:|---:|---:|---:|---:|---:|---:|---|---|---|"
        for name, load in loads.items():
            runs = ladder["figures"][name]
            for rung in (rung for rung in load.rungs if rung in runs):
                yield f"| {POOL if rung in WITHOUT_HTTP else load.clients} | {_rung(runs, rung)} |"
        constrained = sum(run.get("busy", 1) < FULL_SHARE for run in ladder["figures"][request]["service"])
        if request == "get" and constrained:
            yield ""
            yield f"In {constrained} of these runs, with {CONNECTIONS} clients, the service used less than"
            yield f"{FULL_SHARE:.0%} of its core: its requests/s are limited by something else there."


def _rung(runs: Mapping[str, list[Mapping[str, float]]], rung: str) -> str:
    """The cells of a rung."""
    cells = [
        ""
        if runs[rung][0].get(figure) is None
        else f"{statistics.median(run[figure] for run in runs[rung]) * factor:,.{digits}f}"
        for figure, digits, factor in COLUMNS
    ]
    baseline = BASELINES.get(rung, "")
    comparison = ["", "", ""]
    if baseline in runs:
        comparison = [
            RUNGS[baseline],
            _format_spread(_ratios(runs, rung, baseline, "per_second")),
            _format_spread(_ratios(runs, baseline, rung, "cpu_us")),
        ]
    return " | ".join([RUNGS[rung], *cells, *comparison])


def _latency(figures: Figures) -> Iterator[str]:
    if "latency" in figures:
        yield from ("", "## Latency at a constant rate", "", _describe_run(figures["latency"]))
        yield f"GET of a task at 70 % of the peak rate measured just before, and at {FIXED_RATE:,}/s: vegeta sends"
        yield "without waiting for responses."
        yield from ("", f"| peak requests/s | sent requests/s | p50 ms | p99 ms | p99 ms at {FIXED_RATE:,}/s |")
        yield "|---:|---:|---:|---:|---:|"
        for run in figures["latency"]["figures"]["runs"]:
            fixed = f"{run['fixed_p99_ms']:.2f}" if "fixed_p99_ms" in run else ""
            yield f"| {run['peak']:,.0f} | {run['rate']:,.0f} | {run['p50_ms']:.2f} | {run['p99_ms']:.2f} | {fixed} |"


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
        yield f"WAL {ratios['wal']:.2f}. Completing a task: CPU {ratios['completion_cpu_ms']:.2f}."
        yield "Medians of interleaved rounds."
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
