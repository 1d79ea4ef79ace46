"""`make bench`: measures how close the service is to what is possible here, and writes bench/RESULTS.md.

python -m bench                 everything that needs no cluster
python -m bench ladder kind     these parts; the figures of the others stay as they are
python -m bench loops test=93   what scripts/bench-loop.sh has timed, in seconds; without any, what it timed before
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime

from bench import database, image, kind, ladder, latency, million, process, report, size
from bench.machine import ROOT, CannotMeasure, describe, versions

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
FIGURES = ROOT / "bench/results.json"


def main(names: list[str]) -> int:
    """Measures the parts in their order, and writes what is known after each."""
    unknown = set(names) - PARTS.keys()
    if unknown:
        print(f"There is no part {', '.join(sorted(unknown))}. The parts: {' '.join(PARTS)}", file=sys.stderr)
        return 2
    name = "versions"
    try:
        facts = versions(database.image())
        for name in names or [name for name in PARTS if name not in NEEDS_CLUSTER]:
            print(f"\n{name}", flush=True)
            keep(name, PARTS[name](lambda line: print(f"  {line}", flush=True)), facts)
    except CannotMeasure as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 1
    print("\nWritten: bench/RESULTS.md")
    return 0


def keep(name: str, measured: Mapping[str, object], facts: Mapping[str, str]) -> None:
    """Writes down what was measured of a part, and what was the last time that it was."""
    figures = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    last = figures.get(name, {}).get("figures")
    now = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **describe(), **facts}
    figures[name] = {**now, "figures": measured, "last": last}
    FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
    (ROOT / "bench/RESULTS.md").write_text(report.write(figures))


def keep_loops(timed: list[str]) -> int:
    """Those that were not timed keep their figures; where none were, this prints what is kept."""
    known = json.loads(FIGURES.read_text()).get("loops", {}).get("figures", {}) if FIGURES.exists() else {}
    if not timed:
        print(*(f"{name}={seconds}" for name, seconds in known.items()), sep="\n")
        return 0
    keep("loops", {**known, **{name: int(seconds) for name, _, seconds in (one.partition("=") for one in timed)}}, {})
    return 0


sys.exit(keep_loops(sys.argv[2:]) if sys.argv[1:2] == ["loops"] else main(sys.argv[1:]))
