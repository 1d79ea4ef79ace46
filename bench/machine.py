"""This machine: its cores, who runs on which, and how much of a core a process took."""

from __future__ import annotations

import contextlib
import http.client
import os
import platform
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
ADDRESS = "127.0.0.1"
SERVER_CORE = "0"
OTHER_CORE = "1"
"""The server has a core to itself. PostgreSQL and what sends the load share the other one."""

TICKS = os.sysconf("SC_CLK_TCK")


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
    """What the process took so far, its threads included (proc(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


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

    def wait_until_ready(self) -> None:
        """It listens before its storage is open, and says so."""
        deadline = time.monotonic() + 30
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


def describe() -> Mapping[str, str]:
    """What the figures depend on."""
    model = next(
        (x.partition(": ")[2] for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x), ""
    )
    return {
        "Machine": f"{os.cpu_count()} cores ({model}), Linux {platform.release()}",
        "Python": platform.python_version(),
    }
