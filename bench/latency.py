"""Latency when requests come at a rate of their own and do not wait for each other: 70 % of what the service can do."""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench import database
from bench.database import ID_FORMAT
from bench.ladder import ROWS, SERVICE_PYTHON, wrk
from bench.machine import ADDRESS, OTHER_CORE, ROOT, CannotMeasure, free_port, run, serving

VEGETA = ROOT / ".tools/bench-go/vegeta"
RUNS = 5
SECONDS = 8
SHARE = 0.7


def measure(say: Callable[[str], None]) -> dict[str, object]:
    """In each run the highest rate is found by wrk, then vegeta sends that share of it, evenly."""
    if not VEGETA.exists():
        raise CannotMeasure("it needs vegeta, which is built with Go: https://go.dev/dl/")
    runs = []
    with database.running() as db, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {"TASKS_DATABASE_URL": db.url, "PYTHONPATH": "services/task-api/src"}
        command = (SERVICE_PYTHON, "-m", "task_api", "serve", "--port", str(port))
        with serving(*command, port=port, log=Path(folder) / "log", **environment) as server:
            server.wait_until_ready()
            db.fill(1, ROWS)
            targets = Path(folder) / "targets"
            ids = [ID_FORMAT % (1 + n * 7919 % ROWS) for n in range(2000)]
            targets.write_text("".join(f"GET http://{ADDRESS}:{port}/v1/tasks/{task_id}\n" for task_id in ids))
            for _ in range(RUNS):
                most = wrk(server, "get", db, seconds=3).per_second
                rate = round(most * SHARE)
                said = _vegeta(targets, rate, Path(folder) / "sent")
                runs.append({"most": most, "rate": rate, **said})
                say(f"{rate}/s of {most:.0f}/s: p50 {said['p50_ms']:.2f} ms, p99 {said['p99_ms']:.2f} ms")
    return {"runs": runs, "p99_of_p50": statistics.median(run["p99_ms"] / run["p50_ms"] for run in runs)}


def _vegeta(targets: Path, rate: int, sent: Path) -> dict[str, float]:
    run(
        VEGETA, "attack", "-targets", targets, "-rate", str(rate), "-duration", f"{SECONDS}s", "-output", sent,
        "-workers", "32", "-max-connections", "64", core=OTHER_CORE,
    )  # fmt: skip
    said = json.loads(run(VEGETA, "report", "-type", "json", sent))
    if said["success"] < 1:
        raise CannotMeasure(f"not every request was answered: {said['status_codes']} {said['errors']}")
    return {"p50_ms": said["latencies"]["50th"] / 1e6, "p99_ms": said["latencies"]["99th"] / 1e6}
