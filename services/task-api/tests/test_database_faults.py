"""Clients live through what happens to PostgreSQL and to the network before it: nothing acknowledged is lost."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from acknowledged.processes import free_port, serving_process
from acknowledged.trial import Trial, trial
from conftest import POSTGRES_IMAGE, SUMMARY, _docker_answers, _leave_out
from proxy import Proxy
from running import environment
from testcontainers.core.container import DockerContainer

SERVE = [sys.executable, "-m", "task_api", "serve"]
DEADLINE_SECONDS = 60
VOLUME = "/var/lib/postgresql/data"


def figures(name: str, running: Trial) -> str:
    history = running.history
    return (
        f"{name}: {len(history.attempts)} requests, {len(history.failures)} failed, {running.verdict.unclear} unknown,"
        f" longest gap {history.longest_gap():.1f} s; {running.verdict}"
    )


@contextlib.contextmanager
def clients_of(database_url: str, folder: Path) -> Iterator[Trial]:
    """Clients of a process on that database, who are well before and after the block and are told the truth."""
    with serving_process(SERVE, environment(TASKS_DATABASE_URL=database_url), folder / "log") as service:
        connect = lambda: httpx2.Client(base_url=service.url, timeout=10)  # noqa: E731  # a name for an expression
        with trial(connect, folder / "history.jsonl") as running:
            yield running
    assert running.verdict.broken_promises == []
    assert running.verdict.unknown == 0
    assert running.verdict.acknowledged > 0


def wait_for(look: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not look():
        assert time.monotonic() < deadline, f"not in time: {what}"
        time.sleep(0.05)


def cut(proxy: Proxy, running: Trial, on_loop: Callable[[Callable[[], None]], object]) -> None:
    for _ in range(5):
        running.strike("cut")
        on_loop(proxy.cut)
        running.go_on(3)


def delay(proxy: Proxy, running: Trial, on_loop: Callable[[Callable[[], None]], object]) -> None:
    running.strike("delayed")
    on_loop(lambda: proxy.delay(0.1))
    running.go_on(3)
    on_loop(lambda: proxy.delay(0))


def half_open(proxy: Proxy, running: Trial, on_loop: Callable[[Callable[[], None]], object]) -> None:
    running.strike("half-open")
    on_loop(proxy.freeze_open)
    running.go_on(3)


def silent(proxy: Proxy, running: Trial, on_loop: Callable[[Callable[[], None]], object]) -> None:
    running.strike("silent")
    on_loop(proxy.freeze)
    wait_for(lambda: running.history.failures, "clients are told that the storage does not answer")
    on_loop(proxy.thaw)


@pytest.mark.timeout(180)
@pytest.mark.parametrize("fault", [cut, delay, half_open, silent], ids=lambda fault: fault.__name__)
async def test_a_network_that_fails_loses_nothing(
    fault: Callable[[Proxy, Trial, Callable[[Callable[[], None]], object]], None],
    postgres_url: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    on_loop = asyncio.get_running_loop().call_soon_threadsafe

    def live(proxy: Proxy) -> Trial:
        with clients_of(proxy.url, tmp_path) as running:
            fault(proxy, running, on_loop)
        return running

    async with Proxy(postgres_url).running() as proxy:
        running = await asyncio.to_thread(live, proxy)  # here the proxy runs
    if fault is delay:
        assert running.failures() == []
    record_property(SUMMARY, figures(f"Connections to PostgreSQL, {fault.__name__}", running))


@pytest.fixture
def small_postgres() -> Iterator[tuple[DockerContainer, str]]:
    """A PostgreSQL whose disk is small, and its URL. It starts again by itself, as Kubernetes would start it."""
    if not _docker_answers():
        _leave_out(
            "Docker was not found, so the test of a full disk is left out: it takes no other disk than a small one"
        )
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
        yield container, f"postgresql://postgres:test@127.0.0.1:{port}/postgres"


def inside(container: DockerContainer, command: str) -> int:
    """The exit code of a command in the container."""
    code = container.exec(["bash", "-c", command]).exit_code
    assert code is not None
    return code


@pytest.mark.timeout(240)
def test_a_full_disk_loses_nothing_and_needs_no_restart_of_the_service(
    small_postgres: tuple[DockerContainer, str], tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    container, url = small_postgres
    # Over TCP: the image's temporary server listens on its socket alone.
    wait_for(lambda: inside(container, "pg_isready -q -h 127.0.0.1") == 0, "PostgreSQL is there")
    with clients_of(url, tmp_path) as running:
        running.strike("disk full")
        assert inside(container, f"cat /dev/zero > {VOLUME}/filler") != 0, "the disk has no end"
        wait_for(lambda: len(running.history.failures) > 20, "clients are told that a write cannot be done")
        assert inside(container, f"rm {VOLUME}/filler") == 0
    assert {attempt.answer for attempt in running.history.failures} == {"503"}
    record_property(SUMMARY, figures("PostgreSQL's disk full", running))
