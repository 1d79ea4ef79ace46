"""A PostgreSQL primary and standby in one container, to stop, restart and promote."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import asyncpg
from databases import POSTGRES_IMAGE, connected, docker_is_available
from programs import eventually
from testcontainers.core.container import DockerContainer

PRIMARY, STANDBY = 5432, 5433
"""Their ports in the container."""
SETUP = f"""
set -eu
initdb --pgdata=/tmp/primary --username=test --auth=trust --no-sync
echo "listen_addresses = '*'" >> /tmp/primary/postgresql.conf
echo 'host all all all trust' >> /tmp/primary/pg_hba.conf
pg_ctl start --pgdata=/tmp/primary --log=/tmp/primary.log
pg_basebackup --username=test --pgdata=/tmp/standby --write-recovery-conf
echo 'port = {STANDBY}' >> /tmp/standby/postgresql.conf
pg_ctl start --pgdata=/tmp/standby --log=/tmp/standby.log
# As in the chart's CloudNativePG Cluster: a commit waits for any one standby.
psql --username=test --dbname=postgres --command "ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'" \
  --command 'SELECT pg_reload_conf()'
touch /tmp/ready
sleep infinity
"""

WAITING = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
Mode = Literal["fast", "immediate"]


@dataclass
class Replicated:
    """url: of the primary. standby_url: of the original standby, which accepts writes once it is promoted."""

    url: str
    standby_url: str
    _container: DockerContainer

    def disable_synchronous_replication(self) -> None:
        """From here on commits are acknowledged without waiting for a standby."""
        set_none = "ALTER SYSTEM SET synchronous_standby_names = ''"
        self._run(f'psql --username=test --dbname=postgres --command "{set_none}" --command "SELECT pg_reload_conf()"')

    def stop_standby(self) -> None:
        self._run("pg_ctl stop --pgdata=/tmp/standby --mode=immediate")

    def start_standby(self) -> None:
        self._run("pg_ctl start --pgdata=/tmp/standby --log=/tmp/standby.log")

    def restart_primary(self, mode: Mode) -> None:
        self._run(f"pg_ctl restart --pgdata=/tmp/primary --log=/tmp/primary.log --mode={mode}")

    def promote(self) -> None:
        """Stops the primary, starts the stopped standby and promotes it, without any WAL it has missed."""
        self._run("pg_ctl stop --pgdata=/tmp/primary --mode=immediate")
        self._run("pg_ctl start --pgdata=/tmp/standby --log=/tmp/standby.log")
        self._run("pg_ctl promote --pgdata=/tmp/standby")

    def promote_running(self) -> None:
        """Like `promote`, with a standby that is running."""
        self._run("pg_ctl stop --pgdata=/tmp/primary --mode=immediate")
        self._run("pg_ctl promote --pgdata=/tmp/standby")

    async def terminate_waiting_sessions(self) -> int:
        """Terminates the sessions whose commit waits for the standby; returns their number."""
        async with connected(self.url) as db:
            return len(await db.fetch(WAITING.replace("count(*)", "pg_terminate_backend(pid)")))

    async def waiting(self) -> int:
        """Number of commits that wait for the standby."""
        try:
            async with connected(self.url) as db:
                return int(await db.fetchval(WAITING))
        except (OSError, asyncpg.PostgresError):
            return 0

    def _run(self, command: str) -> None:
        done = self._container.exec(["bash", "-c", command])
        assert done.exit_code == 0, f"{command}: {done.output!r}"


@contextlib.contextmanager
def replicated() -> Iterator[Replicated]:
    """Runs primary and standby until the end of the block."""
    assert docker_is_available(), "Docker is not running, and primary and standby need a container. Start Docker"
    container = DockerContainer(POSTGRES_IMAGE).with_kwargs(entrypoint=["bash", "-c", SETUP], user="postgres")
    with container.with_exposed_ports(PRIMARY, STANDBY):
        eventually(lambda: container.exec("test -e /tmp/ready").exit_code == 0, "both servers are running", seconds=60)
        host, ports = container.get_container_host_ip(), map(container.get_exposed_port, (PRIMARY, STANDBY))
        primary, standby = (f"postgresql://test@{host}:{port}/postgres" for port in ports)
        yield Replicated(primary, standby, container)
