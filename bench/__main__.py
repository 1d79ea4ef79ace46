"""`make bench`: runs the benchmarks and writes bench/RESULTS.md.

python -m bench                 all parts that need no cluster
python -m bench ladder kind     only these parts; the results of the others are kept
python -m bench loops test=93   durations from scripts/bench-loop.sh, in seconds; without any, prints the previous ones
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from bench import database, image, kind, ladder, latency, million, process, report, size
from bench.machine import ROOT, BenchmarkError, describe, versions

PARTS = {
    "ladder": ladder.measure,
    "latency": latency.measure,
    "process": process.measure,
    "million": million.measure,
    "size": size.measure,
    "image": image.measure,
    "kind": kind.measure,
}
NEEDS_CLUSTER = {"kind"}
RESULTS = ROOT / "bench/results.json"


def main(names: list[str]) -> int:
    """Runs the parts in order, and writes the results after each."""
    unknown = set(names) - PARTS.keys()
    if unknown:
        print(f"Unknown part {', '.join(sorted(unknown))}. Choose from: {' '.join(PARTS)}", file=sys.stderr)
        return 2
    name = "versions"
    try:
        facts = versions(database.image())
        for name in names or [name for name in PARTS if name not in NEEDS_CLUSTER]:
            print(f"\n{name}", flush=True)
            store(name, PARTS[name](lambda line: print(f"  {line}", flush=True)), facts)
    except BenchmarkError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    print("\nWrote bench/RESULTS.md")
    return 0


def store(name: str, measured: Mapping[str, object], facts: Mapping[str, str]) -> None:
    """Stores the results of a part, and its previous ones."""
    figures = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    last = figures.get(name, {}).get("figures")
    now = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **describe(), **facts}
    figures[name] = {**now, "figures": measured, "last": last}
    RESULTS.write_text(json.dumps(figures, indent=1) + "\n")
    (ROOT / "bench/RESULTS.md").write_text(report.write(figures))


def store_loops(durations: list[str]) -> int:
    """Stores durations, keeping those of other loops; without any, prints the stored ones."""
    known = json.loads(RESULTS.read_text()).get("loops", {}).get("figures", {}) if RESULTS.exists() else {}
    if not durations:
        print(*(f"{name}={seconds}" for name, seconds in known.items()), sep="\n")
        return 0
    new = {name: int(seconds) for name, _, seconds in (duration.partition("=") for duration in durations)}
    store("loops", {**known, **new}, {})
    return 0


sys.exit(store_loops(sys.argv[2:]) if sys.argv[1:2] == ["loops"] else main(sys.argv[1:]))
