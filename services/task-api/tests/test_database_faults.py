"""Clients survive faults of PostgreSQL and of the network: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from acknowledged.processes import free_port, serving_process
from acknowledged.row import Row
from acknowledged.trial import Trial, judged
from databases import POSTGRES_IMAGE, docker_is_available
from proxy import Proxy
from running import SERVE, environment, eventually, start
from testcontainers.core.container import DockerContainer

VOLUME = "/var/lib/postgresql/data"
FULL = pytest.mark.full

OnLoop = Callable[[Callable[[], None]], object]
"""Runs something on the event loop of the proxy."""
Fault = Callable[[Proxy, Trial, OnLoop], None]


@contextlib.contextmanager
def clients_of(
    database_url: str, fault: str, folder: Path, keep: Callable[[Row], None], *, graceful: bool = False
) -> Iterator[Trial]:
    """Clients of a process on that database, healthy before and after the block, and checked after it."""
    with (
        serving_process(SERVE, environment(TASKS_DATABASE_URL=database_url), folder / "log", start) as service,
        judged(fault, service.client, folder / "history.jsonl", keep, graceful=graceful) as running,
    ):
        yield running


def cut(proxy: Proxy, running: Trial, on_loop: OnLoop) -> None:
    for _ in range(5):
        running.mark_fault("cut")
        on_loop(proxy.cut)
        running.wait_until_recovered(3)


def delay(proxy: Proxy, running: Trial, on_loop: OnLoop) -> None:
    running.mark_fault("delayed")
    on_loop(lambda: proxy.delay(0.1))
    running.wait_until_recovered(3)
    on_loop(lambda: proxy.delay(0))


def half_open(proxy: Proxy, running: Trial, on_loop: OnLoop) -> None:
    running.mark_fault("half-open")
    on_loop(proxy.freeze_open)
    running.wait_until_recovered(3)


def silent(proxy: Proxy, running: Trial, on_loop: OnLoop) -> None:
    running.mark_fault("silent")
    on_loop(proxy.freeze)
    eventually(lambda: running.history.failures, "clients get errors")
    on_loop(proxy.thaw)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("fault", "name", "graceful"),
    [
        (cut, "cut, five times", True),
        pytest.param(delay, "0.1 s late", True, marks=FULL),
        pytest.param(half_open, "half-open", False, marks=FULL),
        pytest.param(silent, "silent until a client is told so", False, marks=FULL),
    ],
    ids=["cut", "delay", "half-open", "silent"],
)
async def test_network_failures_lose_no_acknowledged_write(
    fault: Fault, name: str, graceful: bool, postgres_url: str, tmp_path: Path, keep: Callable[[Row], None]
) -> None:
    on_loop = asyncio.get_running_loop().call_soon_threadsafe

    def live(proxy: Proxy) -> Trial:
        with clients_of(
            proxy.url, f"process: connections to PostgreSQL {name}", tmp_path, keep, graceful=graceful
        ) as running:
            fault(proxy, running, on_loop)
        return running

    async with Proxy(postgres_url).running() as proxy:
        running = await asyncio.to_thread(live, proxy)  # the proxy runs here
    # 409: PostgreSQL may still hold the key for a transaction whose connection is frozen.
    assert {failure.result for failure in running.history.failures} <= {"409", "503"}


@pytest.fixture
def own_postgres() -> Iterator[tuple[DockerContainer, str]]:
    """A PostgreSQL for this test with a small disk, and its URL. It restarts automatically, as in Kubernetes."""
    assert docker_is_available(), "Docker is not running, and this test needs PostgreSQL in a container. Start it"
    port = free_port()
    container = (
        DockerContainer(POSTGRES_IMAGE)
        .with_env("POSTGRES_PASSWORD", "test")
        .with_env("PGDATA", f"{VOLUME}/pgdata")
        .with_bind_ports(5432, port)
        .with_tmpfs_mount(VOLUME, "size=128m")
        .with_kwargs(
            entrypoint=["bash", "-c", "until false; do docker-entrypoint.sh postgres; sleep 0.2; done"],
        )
    )
    with container:
        # Over TCP: the image's temporary server listens only on its socket.
        eventually(lambda: inside(container, "pg_isready -q -h 127.0.0.1") == 0, "PostgreSQL is there", seconds=60)
        yield container, f"postgresql://postgres:test@127.0.0.1:{port}/postgres"


def inside(container: DockerContainer, command: str) -> int:
    """The exit code of a command in the container."""
    code = container.exec(["bash", "-c", command]).exit_code
    assert code is not None
    return code


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.timeout(600)
def test_a_full_disk_loses_nothing_and_the_service_recovers(
    own_postgres: tuple[DockerContainer, str], tmp_path: Path, keep: Callable[[Row], None]
) -> None:
    container, url = own_postgres
    with clients_of(url, "process: PostgreSQL's disk full", tmp_path, keep) as running:
        running.mark_fault("disk full")
        assert inside(container, f"cat /dev/zero > {VOLUME}/filler") != 0, "the disk did not become full"
        eventually(lambda: len(running.history.failures) > 20, "clients get errors for writes")
        assert inside(container, f"rm {VOLUME}/filler") == 0
    assert {attempt.result for attempt in running.history.failures} == {"503"}


@pytest.mark.docker
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("mode", "signal"),
    [("fast", "INT"), pytest.param("immediate", "QUIT", marks=FULL)],
    ids=["fast", "immediate"],
)
def test_a_postgres_restart_loses_nothing_and_the_service_recovers(
    own_postgres: tuple[DockerContainer, str], mode: str, signal: str, tmp_path: Path, keep: Callable[[Row], None]
) -> None:
    container, url = own_postgres
    with clients_of(url, f"process: PostgreSQL restarted, mode {mode}", tmp_path, keep) as running:
        running.mark_fault("restart")
        stop = f"read -r pid < {VOLUME}/pgdata/postmaster.pid; kill -{signal} $pid"
        assert inside(container, f"set -e; {stop}; while kill -0 $pid; do sleep 0.05; done") == 0
    assert {failure.result for failure in running.history.failures} <= {"503"}
