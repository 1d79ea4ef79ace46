"""bench/RESULTS.md: each figure beside its goal and beside the one of last time."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from bench.ladder import CONNECTIONS, FULL, POOL, ROWS, RUNGS, RUNS, SECONDS
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
    met: Callable[[float], bool] | None
    """None where it is only to be known."""
    value: Callable[[Figures], float]
    """Of the figures by part. Raises KeyError where its part was not measured."""
    unit: str = ""


def _of(kind: str, rung: str, limit: str) -> Callable[[Figures], float]:
    """How many times faster a rung is than another: by CPU, which tells it also where something else runs beside it."""
    return lambda parts: statistics.median(_ratios(parts["ladder"][kind], limit, rung, "cpu_us"))


def _edge(parts: Figures) -> float:
    return (1 - _of("get", "service", "bare")(parts)) * 100


def _health(parts: Figures) -> float:
    return float(parts["million"]["health_many_ms"] / parts["million"]["health_few_ms"])


def _flatness(parts: Figures) -> float:
    """The worst list's later page in the time of its first."""
    return max(float(page["last"] / page["first"]) for page in parts["million"]["pages"].values())


def _under(most: float) -> Callable[[float], bool]:
    return lambda value: value < most


def _at_least(least: float) -> Callable[[float], bool]:
    return lambda value: value >= least


GOALS = [
    *(Goal(f"{REQUESTS[k]}, of rung 4", "0.85 or more", _at_least(0.85), _of(k, "service", "raw")) for k in REQUESTS),
    *(Goal(f"{REQUESTS[k]}, times rung 6", "6 or more", _at_least(6), _of(k, "service", "usual")) for k in REQUESTS),
    *(Goal(f"{REQUESTS[k]}, of rung 7 (Go)", "to be known", None, _of(k, "service", "go")) for k in REQUESTS),
    Goal("Id, limits, metrics and access log, of a GET", "under 10 %", _under(10), _edge, " %"),
    Goal(
        "p99 by p50 at 70 % of the most, arriving evenly", "under 5", _under(5), lambda of: of["latency"]["p99_of_p50"]
    ),
    Goal("/health with a million tasks, by that with ten", "1", _under(1.5), _health),
    Goal("A million: the 40th page by the first, worst list", "1", _under(1.5), _flatness),
    Goal(
        "CPU from the start to ready", "under 1.0 s", _under(1),
        lambda of: statistics.median(of["process"]["start_cpu_seconds"]), " s",
    ),
    Goal("Memory, idle", "under 80 MiB", _under(80), lambda of: of["process"]["idle_mib"], " MiB"),
    Goal("Memory after load", "under 128 MiB", _under(128), lambda of: of["process"]["loaded_mib"][-1], " MiB"),
    Goal(
        "What the image adds to its base, compressed", "under 35 MB", _under(35),
        lambda of: of["image"]["added_mib"] * 2**20 / 1e6, " MB",
    ),
    Goal("Image after a change of the code", "under 10 s", _under(10), lambda of: of["image"]["code_seconds"], " s"),
    Goal(
        "Image after a change of the dependencies", "under 60 s", _under(60),
        lambda of: of["image"]["dependency_seconds"], " s",
    ),
    Goal("make run, from nothing", "under 15 s", _under(15), lambda of: of["loops"]["run"], " s"),
    Goal("make lint, all of it", "under 30 s", _under(30), lambda of: of["loops"]["lint"], " s"),
    Goal("make lint, unchanged", "under 5 s", _under(5), lambda of: of["loops"]["lint_again"], " s"),
    Goal("make test", "under 120 s", _under(120), lambda of: of["loops"]["test"], " s"),
    Goal("make test-platform", "under 120 s", _under(120), lambda of: of["loops"]["platform"], " s"),
    Goal("make up, from nothing", "under 120 s", _under(120), lambda of: of["loops"]["up"], " s"),
    Goal("make up, unchanged", "under 15 s", _under(15), lambda of: of["loops"]["again"], " s"),
    Goal("make up, a line changed", "under 25 s", _under(25), lambda of: of["loops"]["change"], " s"),
    Goal("make e2e", "under 400 s", _under(400), lambda of: of["loops"]["e2e"], " s"),
]  # fmt: skip


def write(figures: Figures) -> str:
    """The whole page."""
    parts = [_head(), _goals(figures), _ladder(figures), _latency(figures), _process(figures), _million(figures)]
    return "\n".join(line for part in [*parts, _size(figures), _kind(figures), _findings()] for line in part) + "\n"


def _head() -> Iterator[str]:
    yield "# How fast it is"
    yield ""
    yield "Written by `make bench`; what each figure means and how it is taken: [README.md](README.md)."


def _goals(figures: Figures) -> Iterator[str]:
    parts = {name: part["figures"] for name, part in figures.items()}
    # Of each part the figures before these, whenever that was.
    last = {name: part["last"] for name, part in figures.items() if part.get("last")}
    yield from ("", "## Goals", "", "| | wanted | measured | last time | |", "|---|---|---:|---:|---|")
    for goal in GOALS:
        try:
            value = goal.value(parts)
        except KeyError:
            yield f"| {goal.name} | {goal.wanted} | not measured | | |"
            continue
        try:
            before = _number(goal.value(last)) + goal.unit
        except KeyError:
            before = ""
        verdict = "" if goal.met is None else "met" if goal.met(value) else "**missed**"
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
            "| rung | requests/s | p50 ms | p99 ms | CPU µs | % of the core | held against | by requests/s | by CPU |",
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
            against = ["", "", ""]
            if rung in LIMITS:
                limit = LIMITS[rung]
                against = [
                    RUNGS[limit],
                    _three(_ratios(runs, rung, limit, "per_second")),
                    _three(_ratios(runs, limit, rung, "cpu_us")),
                ]
            yield f"| {RUNGS[rung]} | {' | '.join([*cells, *against])} |"
        slowed = sum(run.get("busy", 1) < FULL for run in runs["service"])
        if kind == "get" and slowed:
            yield ""
            yield f"In {slowed} of these runs the service had less than {FULL:.0%} of its core: there its requests/s"
            yield "are not its own limit."


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


def _size(figures: Figures) -> Iterator[str]:
    if "size" in figures:
        size = figures["size"]["figures"]
        before, after = size["before"], size["after"]
        yield from ("", "## Two million tasks", "", _when(figures["size"]))
        yield f"A page of 50, before ({size['commit']}) and after, in one run: CPU of PostgreSQL and time of a request"
        yield "alone, ms, the least of several; buffers by pg_stat_statements. With a statement timeout of a minute."
        columns = "CPU before | after | times less | buffers before | after | times less | ms before | after"
        yield from ("", f"| list | {columns} |")
        yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
        for name, now in after["lists"].items():
            was = before["lists"][name]
            cells = (
                f"{was[what]:,.{digits}f} | {now[what]:,.{digits}f} | {was[what] / max(now[what], least):,.1f}"
                for what, digits, least in (("cpu_ms", 1, 0.1), ("buffers", 0, 1))
            )
            yield f"| {name} | {' | '.join(cells)} | {was['ms']:,.1f} | {now['ms']:,.1f} |"
        yield ""
        more = {what: after["inserts"][what] / before["inserts"][what] for what in after["inserts"]}
        yield f"An insert takes {more['cpu_ms']:.2f} of the CPU, {more['buffers']:.2f} of the buffers and"
        yield f"{more['wal']:.2f} of the WAL of before: medians of rounds in turns."
        yield f"The migration took {size['migration_seconds']:.0f} s with the start."


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
    facts = [f"{name}: {value}" for name, value in part.items() if name not in ("date", "figures", "last")]
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
