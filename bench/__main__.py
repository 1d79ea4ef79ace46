"""`make bench`: measures how close the service is to what is possible here, and writes bench/RESULTS.md.

python -m bench                 everything that needs no cluster
python -m bench ladder kind     these parts; the figures of the others stay as they are
"""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime

from bench import image, kind, ladder, latency, million, process, report
from bench.machine import ROOT, CannotMeasure, describe

PARTS = {
    "ladder": ladder.measure,
    "latency": latency.measure,
    "process": process.measure,
    "million": million.measure,
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
    last = json.loads(FIGURES.read_text()) if FIGURES.exists() else {}
    figures = dict(last)
    for name in names or [name for name in PARTS if name not in NEEDS_CLUSTER]:
        print(f"\n{name}", flush=True)
        try:
            measured = PARTS[name](lambda line: print(f"  {line}", flush=True))
        except CannotMeasure as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 1
        figures[name] = {"date": f"{datetime.now(UTC):%Y-%m-%d}", **describe(), "figures": measured}
        FIGURES.write_text(json.dumps(figures, indent=1) + "\n")
        (ROOT / "bench/RESULTS.md").write_text(report.write(figures, last))
    print("\nWritten: bench/RESULTS.md")
    return 0


sys.exit(main(sys.argv[1:]))
