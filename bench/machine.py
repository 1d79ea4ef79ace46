"""This machine: its cores, their assignment, and the CPU time of processes."""

from __future__ import annotations

import contextlib
import http.client
import os
import platform
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
ADDRESS = "127.0.0.1"
SERVER_CORE = "0"
OTHER_CORE = "1"
"""The server has its own core. PostgreSQL and the load generator share the other one."""

SERVICE_PYTHON = ROOT / "services/task-api/.venv/bin/python"
SERVICE_PATH = "services/task-api/src:packages/chassis/src"
BENCH_PYTHON = ROOT / ".tools/bench/bin/python"


class BenchmarkError(Exception):
    """A requirement is missing or failed; the message says which, and the next step."""


def run(*command: str | Path, core: str | None = None, **environment: str) -> str:
    """The command's standard output. Raises BenchmarkError if it fails."""
    pinned = ["taskset", "--cpu-list", core] if core else []
    result = subprocess.run(
        [*pinned, *command], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    if result.returncode != 0:
        raise BenchmarkError(
            f"{' '.join(map(str, command))} failed with exit code {result.returncode}:\n{result.stdout}{result.stderr}"
        )
    return result.stdout


def cpu_seconds(pid: int) -> float:
    """CPU time of the process's threads, in the kernel's nanoseconds: /proc/PID/stat only counts hundredths of a second
    (https://docs.kernel.org/scheduler/sched-stats.html)."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident_mib(pid: int) -> float:
    """The process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port() -> int:
    """A currently unused port."""
    with socket.create_server((ADDRESS, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Server:
    """A server process and its port."""

    pid: int
    port: int

    def get(self, path: str, method: str = "GET", body: str | None = None) -> bytes:
        """The response's body. Raises BenchmarkError for an error response."""
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=10)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        with contextlib.closing(connection), connection.getresponse() as response:
            if response.status >= 300:
                raise BenchmarkError(f"{method} {path} returned {response.status}: {response.read()[:500]!r}")
            return response.read()

    def wait_until_ready(self, seconds: float = 30) -> None:
        """It listens before its database is open, and is not ready until then."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.get("/readyz")
                return
            except BenchmarkError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


@contextlib.contextmanager
def serving(
    *command: str | Path, port: int, log: Path, core: str = SERVER_CORE, **environment: str
) -> Iterator[Server]:
    """The command as a server on its core, from when it listens until the end of the block."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["taskset", "--cpu-list", core, *command],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + 30
        while True:
            try:
                socket.create_connection((ADDRESS, port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BenchmarkError(
                        f"{' '.join(map(str, command))} is not listening:\n{log.read_text()[-2000:]}"
                    ) from None
                time.sleep(0.02)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait(20)


def describe() -> dict[str, str]:
    """The environment that the results depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(": ")[2] for line in lines if "model name" in line), platform.machine())
    return {
        "Machine": f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}",
        "Commit": _commit(),
    }


def _commit() -> str:
    """HEAD, with `-dirty` if anything has changed since, except for the results: each part of a run writes them."""
    changed = run("git", "diff", "--name-only", "HEAD", "--", ".", ":!bench/RESULTS.md", ":!bench/results.json")
    return run("git", "describe", "--always").strip() + ("-dirty" if changed else "")


def versions(postgres_image: str) -> dict[str, str]:
    """Versions of the software in the rungs."""
    found = {
        "PostgreSQL": run("docker", "run", "--rm", "--entrypoint", "postgres", postgres_image, "--version").split()[2],
        "wrk": subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout.split()[
            1
        ],  # its exit code is 1
    }
    if shutil.which("go"):
        found["Go"] = run("go", "env", "GOVERSION").strip().removeprefix("go")
    for python, packages in ((SERVICE_PYTHON, ("fastapi", "uvicorn", "asyncpg")), (BENCH_PYTHON, ("sqlalchemy",))):
        if python.exists():
            script = "import sys, importlib.metadata as m; print(*[m.version(name) for name in sys.argv[1:]])"
            found.update(zip(packages, run(python, "-c", script, *packages).split(), strict=True))
    return {"Python": platform.python_version(), **found}
