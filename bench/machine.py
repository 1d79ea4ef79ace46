"""This machine: its cores, who runs on which, and how much of a core a process took."""

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
"""The server has a core to itself. PostgreSQL and what sends the load share the other one."""

SERVICE_PYTHON = ROOT / "services/task-api/.venv/bin/python"
SERVICE_PATH = "services/task-api/src:packages/chassis/src"
BENCH_PYTHON = ROOT / ".tools/bench/bin/python"


class CannotMeasure(Exception):
    """Something that is needed is missing or failed; the message says what and what to do."""


def run(*command: str | Path, core: str | None = None, **environment: str) -> str:
    """What the command prints. Raises CannotMeasure where it fails."""
    pinned = ["taskset", "--cpu-list", core] if core else []
    done = subprocess.run(
        [*pinned, *command], capture_output=True, text=True, cwd=ROOT, env={**os.environ, **environment}
    )
    if done.returncode != 0:
        raise CannotMeasure(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout


def cpu_seconds(pid: int) -> float:
    """What the process's threads took so far, in the kernel's nanoseconds: /proc/PID/stat counts hundredths of a
    second (https://docs.kernel.org/scheduler/sched-stats.html)."""
    return sum(int(file.read_text().split()[0]) for file in Path(f"/proc/{pid}/task").glob("*/schedstat")) / 1e9


def resident_mib(pid: int) -> float:
    """The process's resident memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server((ADDRESS, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@dataclass(frozen=True)
class Server:
    """A process that serves on a port."""

    pid: int
    port: int

    def get(self, path: str, method: str = "GET", body: str | None = None) -> bytes:
        """The answer's body. Raises CannotMeasure where it is an error."""
        connection = http.client.HTTPConnection(ADDRESS, self.port, timeout=10)
        connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
        with contextlib.closing(connection), connection.getresponse() as response:
            if response.status >= 300:
                raise CannotMeasure(f"{method} {path} was answered {response.status}: {response.read()[:500]!r}")
            return response.read()

    def wait_until_ready(self, seconds: float = 30) -> None:
        """It listens before its storage is open, and says so."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.get("/readyz")
                return
            except CannotMeasure:
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
                    raise CannotMeasure(
                        f"{' '.join(map(str, command))} does not serve:\n{log.read_text()[-2000:]}"
                    ) from None
                time.sleep(0.02)
        yield Server(process.pid, port)
    finally:
        process.terminate()
        process.wait(20)


def describe() -> dict[str, str]:
    """What the figures depend on."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((line.partition(": ")[2] for line in lines if "model name" in line), platform.machine())
    return {
        "Machine": f"{os.cpu_count()} cores ({model}), {platform.system()} {platform.release()}",
        "Commit": run("git", "describe", "--always", "--dirty").strip(),
    }


def versions(postgres_image: str) -> dict[str, str]:
    """Of what runs on the rungs."""
    found = {
        "PostgreSQL": run("docker", "run", "--rm", "--entrypoint", "postgres", postgres_image, "--version").split()[2],
        "wrk": subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout.split()[1],  # it ends with 1
    }
    if shutil.which("go"):
        found["Go"] = run("go", "env", "GOVERSION").strip().removeprefix("go")
    for python, packages in ((SERVICE_PYTHON, ("fastapi", "uvicorn", "asyncpg")), (BENCH_PYTHON, ("sqlalchemy",))):
        if python.exists():
            script = "import sys, importlib.metadata as m; print(*[m.version(name) for name in sys.argv[1:]])"
            found.update(zip(packages, run(python, "-c", script, *packages).split(), strict=True))
    return {"Python": platform.python_version(), **found}
