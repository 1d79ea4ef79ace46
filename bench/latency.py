"""Latency when requests come at a rate of their own and do not wait for each other: 70 % of what the service can do."""

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
    CannotMeasure,
    free_port,
    run,
    serving,
)

VEGETA = ROOT / ".tools/bench-go/vegeta"
RUNS = 5
MOST_SECONDS = 4
SECONDS = 10
SHARE = 0.7


def measure(say: Callable[[str], None]) -> dict[str, object]:
    """In each run vegeta first sends as much as is answered, then that share of it, evenly."""
    if not VEGETA.exists():
        raise CannotMeasure("it needs vegeta, which is built with Go: https://go.dev/dl/")
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
                most = _the_most(targets, Path(folder) / "sent")
                rate = round(most * SHARE)
                said = _evenly(targets, rate, Path(folder) / "sent")
                runs.append({"most": most, "rate": rate, **said})
                say(f"{rate}/s of {most:.0f}/s: p50 {said['p50_ms']:.2f} ms, p99 {said['p99_ms']:.2f} ms")
    return {"runs": runs, "p99_of_p50": statistics.median(run["p99_ms"] / run["p50_ms"] for run in runs)}


def _the_most(targets: Path, sent: Path) -> float:
    """Requests/s of clients that wait for their answers. By vegeta, too: it takes more of the core that it shares with
    PostgreSQL than wrk does, and of what wrk finds 70 % would be more than it can send."""
    said = _vegeta(targets, sent, "-rate", "0", "-max-workers", str(CONNECTIONS), "-duration", f"{MOST_SECONDS}s")
    return float(said["throughput"])


def _evenly(targets: Path, rate: int, sent: Path) -> dict[str, float]:
    said = _vegeta(targets, sent, "-rate", str(rate), "-workers", "32", "-duration", f"{SECONDS}s")
    return {"p50_ms": said["latencies"]["50th"] / 1e6, "p99_ms": said["latencies"]["99th"] / 1e6}


def _vegeta(targets: Path, sent: Path, *pace: str) -> dict[str, Any]:
    run(VEGETA, "attack", "-targets", targets, "-output", sent, "-max-connections", "64", *pace, core=OTHER_CORE)
    said: dict[str, Any] = json.loads(run(VEGETA, "report", "-type", "json", sent))
    if said["success"] < 1:
        raise CannotMeasure(f"not every request was answered: {said['status_codes']} {said['errors']}")
    return said
