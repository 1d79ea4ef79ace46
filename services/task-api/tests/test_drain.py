"""Start and shutdown under load: no task is lost, streams end with a retry delay, and no request waits for long.

What is common to all services is tested in packages/chassis/tests/test_drain.py.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest
from conftest import SUMMARY
from running import DEADLINE_SECONDS, environment, eventually, serving


class Clients:
    """Writers with persistent connections that reconnect when told to, as proxies do."""

    def __init__(self, url: str, number: int) -> None:
        self._url = url
        self._ending = threading.Event()
        self.answers: Counter[int] = Counter()
        self.failures: list[str] = []
        self.created: list[str] = []
        self.told_to_close = 0
        self._threads = [threading.Thread(target=self._run) for _ in range(number)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with httpx2.Client(base_url=self._url, timeout=DEADLINE_SECONDS) as client:
            while not self._ending.is_set():
                try:
                    response = client.post("/v1/tasks", json={"title": "x"})
                except httpx2.HTTPError as error:
                    self.failures.append(repr(error))
                    return
                self.answers[response.status_code] += 1
                if response.status_code == 201:
                    self.created.append(response.json()["id"])
                if response.headers.get("connection") == "close":
                    self.told_to_close += 1
                    return  # a proxy would use another pod now


@pytest.mark.timeout(600)
def test_a_drain_under_load_fails_no_request(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/tasks.db"
    with serving(TASKS_DATABASE_URL=url, TASKS_DRAIN_SECONDS="2") as service:
        clients = Clients(service.url, 8)
        eventually(lambda: clients.answers[201] > 50, "fifty tasks")
        service.process.send_signal(signal.SIGTERM)
        code = service.process.wait(DEADLINE_SECONDS)
        clients.end()
    assert code == 0
    assert clients.failures == []
    assert set(clients.answers) == {201}
    assert clients.told_to_close == 8
    with serving(TASKS_DATABASE_URL=url) as service, httpx2.Client(base_url=service.url) as client:
        missing = [task for task in clients.created if client.get(f"/v1/tasks/{task}").status_code != 200]
    assert missing == []


def test_a_stream_ends_when_the_drain_starts_and_has_a_retry_delay() -> None:
    with (
        serving(TASKS_DRAIN_SECONDS="300") as service,
        httpx2.Client(base_url=service.url, timeout=DEADLINE_SECONDS) as client,
        client.stream("GET", "/v1/changes?since=now", headers={"Accept": "text/event-stream"}) as stream,
    ):
        lines = stream.iter_lines()
        assert next(lines) == "retry: 2000"
        service.process.send_signal(signal.SIGTERM)
        assert [line for line in lines if line] == []  # its end
        assert service.process.poll() is None
        assert service.stop() == 0


@pytest.mark.full
@pytest.mark.timeout(600)
def test_cold_start_cpu_is_bounded(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    """Start and shutdown take at most three times the CPU of importing FastAPI, alternating on the same core: 0.7 s
    where that takes 0.3 (2.2 times). The measurements are printed."""
    runs, imported = [], []
    pin = [taskset, "-c", str(min(os.sched_getaffinity(0)))] if (taskset := shutil.which("taskset")) else []
    for _ in range(3):
        process = subprocess.Popen(
            [*pin, sys.executable, "-m", "task_api", "serve", "--port", "0"],
            env=environment(TASKS_DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db"),
            stderr=subprocess.PIPE,
            text=True,
        )
        start = time.monotonic()
        assert process.stderr is not None
        with process.stderr:
            assert any("Listening on" in line for line in process.stderr)
            wall = time.monotonic() - start
            process.terminate()
            _, _, usage = os.wait4(process.pid, 0)
            process.returncode = 0
        runs.append((usage.ru_utime + usage.ru_stime, wall))
        fastapi = subprocess.Popen([*pin, sys.executable, "-c", "import fastapi"], env=environment())
        _, _, usage = os.wait4(fastapi.pid, 0)
        fastapi.returncode = 0
        imported.append(usage.ru_utime + usage.ru_stime)
    imports = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", "import task_api.__main__"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    times = sorted(
        ((int(line.split("|")[1]), line.split("|")[2].strip()) for line in imports.splitlines()[1:]), reverse=True
    )
    top = [f"{name} {micros / 1000:.0f}" for micros, name in times if "." not in name][:8]
    cpu, wall = min(runs)
    assert cpu < 3 * min(imported)
    record_property(
        SUMMARY,
        f"Cold start: {cpu:.2f} s of CPU to ready and to the end again, {cpu / min(imported):.1f} times that of"
        f" importing FastAPI; ready after {wall:.2f} s."
        f" The imports that take longest, in ms: {', '.join(top)}",
    )
