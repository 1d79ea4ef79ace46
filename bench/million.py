"""A million tasks: what /health costs there, and whether a page costs more the later it comes."""

from __future__ import annotations

import http.client
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import database
from bench.ladder import SERVICE_PYTHON
from bench.machine import ADDRESS, CannotMeasure, free_port, serving

FEW, MANY = 10, 1_000_000
STEP = 100_000
ASKED = 40
LISTS = {
    "newest first": "",
    "sort=due": "sort=due",
    "sort=title": "sort=title",
    "sort=-priority": "sort=-priority",
    "sort=position": "sort=position",
    "sort=-updated_at": "sort=-updated_at",
    "project=project7": "project=project7",
    "status=todo&priority=high": "status=todo&priority=high",
    "label=label7, sort=due": "label=label7&sort=due",
    "q=word7": "q=word7",
    "q=plants (all of them)": "q=plants",
    "sort=-priority,due": "sort=-priority,due",
}


def measure(say: Callable[[str], None]) -> dict[str, object]:
    """Times are those of the client, one request after the other: medians, in ms."""
    with database.running() as db, tempfile.TemporaryDirectory() as folder:
        port = free_port()
        environment = {"TASKS_DATABASE_URL": db.url, "PYTHONPATH": "services/task-api/src"}
        command = (SERVICE_PYTHON, "-m", "task_api", "serve", "--port", str(port))
        with serving(*command, port=port, log=Path(folder) / "log", **environment) as server:
            server.wait_until_ready()
            db.fill(1, FEW)
            few = _health(port)
            for first in range(FEW + 1, MANY, STEP):
                db.fill(first, min(first + STEP - 1, MANY))
            say(f"{MANY} tasks are there")
            many = _health(port)
            say(f"/health: {few:.1f} ms with {FEW} tasks, {many:.1f} ms with {MANY}")
            pages = {}
            for name, query in LISTS.items():
                pages[name] = _pages(port, query)
                say(f"{name}: first page {pages[name]['first']:.1f} ms, {ASKED}th {pages[name]['last']:.1f} ms")
    return {"health_few_ms": few, "health_many_ms": many, "pages": pages}


def _health(port: int) -> float:
    """What /health takes when it counts the tasks, which it does every five seconds."""
    times = []
    for _ in range(5):
        time.sleep(5.1)
        times.append(_ask(port, "/health")[0])
    return statistics.median(times)


def _pages(port: int, query: str) -> dict[str, float]:
    """The first page asked for again and again, and the page that comes that many pages later. The worst is not hidden:
    the first answer of all counts."""
    path = f"/v1/tasks?{query}"
    slowest, _ = _ask(port, path)
    first = statistics.median(_ask(port, path)[0] for _ in range(10))
    following = path
    for _ in range(ASKED):
        _, body = _ask(port, following)
        cursor = json.loads(body)["next_cursor"]
        if cursor is None:
            break
        following = f"{path}&cursor={cursor}"
    last = statistics.median(_ask(port, following)[0] for _ in range(10))
    return {"slowest": slowest, "first": first, "last": last}


def _ask(port: int, path: str) -> tuple[float, bytes]:
    start = time.perf_counter()
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=30)
    connection.request("GET", path)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    if response.status != 200:
        raise CannotMeasure(f"{path} was answered {response.status}: {body[:300]!r}")
    return (time.perf_counter() - start) * 1000, body
