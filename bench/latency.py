"""Latency at a constant arrival rate (open loop): at 70 % of the service's peak throughput, and at a fixed rate."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench import database
from bench.database import ID_FORMAT
from bench.ladder import CONNECTIONS, ROWS
from bench.machine import (
    ADDRESS,
    OTHER_CORE,
    ROOT,
    SERVICE_PATH,
    SERVICE_PYTHON,
    BenchmarkError,
    free_port,
    run,
    serving,
)

VEGETA = ROOT / ".tools/bench-go/vegeta"
RUNS = 5
PEAK_SECONDS = 4
SECONDS = 10
PEAK_SHARE = 0.7
FIXED_RATE = 4450
"""70 % of the peak before concurrent reads were batched (RESULTS.md of commit 773f4e26)."""


def measure(log: Callable[[str], None]) -> dict[str, object]:
    """Each run measures the peak throughput with vegeta, then sends this share of it at a constant rate, and then the
    fixed rate, which the next build can be compared at."""
    if not VEGETA.exists():
        raise BenchmarkError("vegeta is required, which is built with Go: https://go.dev/dl/")
    runs = []
    with database.running() as db, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {"TASKS_DATABASE_URL": db.url, "PYTHONPATH": SERVICE_PATH}
        command = (SERVICE_PYTHON, "-m", "task_api", "serve", "--port", str(port))
        with serving(*command, port=port, log=Path(folder) / "log", **environment) as server:
            server.wait_until_ready()
            db.fill(1, ROWS)
            targets = Path(folder) / "targets"
            ids = [ID_FORMAT % (1 + n * 7919 % ROWS) for n in range(2000)]
            targets.write_text("".join(f"GET http://{ADDRESS}:{port}/v1/tasks/{task_id}\n" for task_id in ids))
            for _ in range(RUNS):
                peak = _measure_peak_rate(targets, Path(folder) / "sent")
                rate = round(peak * PEAK_SHARE)
                result = _measure_at_rate(targets, rate, Path(folder) / "sent")
                fixed = _measure_at_rate(targets, FIXED_RATE, Path(folder) / "sent")
                runs.append({"peak": peak, "rate": rate, **result, "fixed_p99_ms": fixed["p99_ms"]})
                log(
                    f"{rate}/s of {peak:.0f}/s: p50 {result['p50_ms']:.2f} ms, p99 {result['p99_ms']:.2f} ms;"
                    f" {FIXED_RATE}/s: p99 {fixed['p99_ms']:.2f} ms"
                )
    return {"runs": runs, "p99_to_p50": statistics.median(run["p99_ms"] / run["p50_ms"] for run in runs)}


def _measure_peak_rate(targets: Path, sent: Path) -> float:
    """Requests/s of a closed loop. Also with vegeta: it needs more of the core that it shares with PostgreSQL than wrk
    does, and could not send 70 % of what wrk measures."""
    result = _vegeta(targets, sent, "-rate", "0", "-max-workers", str(CONNECTIONS), "-duration", f"{PEAK_SECONDS}s")
    return float(result["throughput"])


def _measure_at_rate(targets: Path, rate: int, sent: Path) -> dict[str, float]:
    result = _vegeta(targets, sent, "-rate", str(rate), "-workers", "32", "-duration", f"{SECONDS}s")
    return {"p50_ms": result["latencies"]["50th"] / 1e6, "p99_ms": result["latencies"]["99th"] / 1e6}


def _vegeta(targets: Path, sent: Path, *pace: str) -> dict[str, Any]:
    run(VEGETA, "attack", "-targets", targets, "-output", sent, "-max-connections", "64", *pace, core=OTHER_CORE)
    result: dict[str, Any] = json.loads(run(VEGETA, "report", "-type", "json", sent))
    if result["success"] < 1:
        raise BenchmarkError(f"not every request succeeded: {result['status_codes']} {result['errors']}")
    return result
