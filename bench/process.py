"""A single process: its startup cost and its memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import database
from bench.ladder import ROWS, wrk
from bench.machine import SERVICE_PATH, SERVICE_PYTHON, cpu_seconds, free_port, resident_mib, serving

STARTS = 5
MINUTES = 10

MALLOC = {"MALLOC_TRIM_THRESHOLD_": "131072"}
"""As in the image."""


def measure(log: Callable[[str], None]) -> dict[str, object]:
    """With PostgreSQL, as in production."""
    with database.running() as db, tempfile.TemporaryDirectory() as folder:
        environment = {"TASKS_DATABASE_URL": db.url, "PYTHONPATH": SERVICE_PATH, **MALLOC}
        starts, idle, minutes = [], 0.0, []
        for number in range(STARTS + 1):
            port = free_port()
            command = (SERVICE_PYTHON, "-m", "task_api", "serve", "--port", str(port))
            with serving(*command, port=port, log=Path(folder) / "log", **environment) as server:
                server.wait_until_ready()
                if number:  # the first start compiles and migrates
                    starts.append(cpu_seconds(server.pid))
                    log(f"ready after {starts[-1]:.2f} s of CPU")
                if number == STARTS:
                    db.fill(1, ROWS)
                    time.sleep(5)
                    idle = resident_mib(server.pid)
                    log(f"{idle:.0f} MiB idle")
                    for _ in range(MINUTES):
                        for kind in ("get", "list", "post"):
                            wrk(server, kind, db, seconds=20)
                        minutes.append(resident_mib(server.pid))
                        log(f"{minutes[-1]:.0f} MiB after {len(minutes)} min of load")
    return {"start_cpu_seconds": starts, "idle_mib": idle, "loaded_mib": minutes}
