"""A PostgreSQL with everything needed for backups, and room for a second one, in one container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from acknowledged.processes import free_port
from databases import POSTGRES_IMAGE, docker_is_available
from running import eventually
from testcontainers.core.container import DockerContainer

FIRST, SECOND = 5432, 5433
"""Their ports in the container."""
TRIES = 5
PSQL = "psql --username=test --dbname=postgres --no-psqlrc --quiet"
SETUP = f"""
set -eu
initdb --pgdata=/tmp/young --username=test --auth=trust --no-sync
echo "listen_addresses = '*'" >> /tmp/young/postgresql.conf
echo 'fsync = off' >> /tmp/young/postgresql.conf
echo 'host all all all trust' >> /tmp/young/pg_hba.conf
cp -r /tmp/young /tmp/old
echo 'archive_mode = on' >> /tmp/old/postgresql.conf
echo "archive_command = 'cp %p /tmp/archive/%f'" >> /tmp/old/postgresql.conf
mkdir /tmp/archive
pg_ctl start --pgdata=/tmp/old
# It has counted far: a new server begins at a few hundred transactions.
{PSQL} <<'END'
DO $$ BEGIN FOR i IN 1..20000 LOOP PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$
END
pg_ctl stop --pgdata=/tmp/old
touch /tmp/ready
sleep infinity
"""


@dataclass
class Server:
    """The server that is backed up. second_url: of a server made from a backup, or that it is restored into."""

    url: str
    second_url: str
    _container: DockerContainer

    def start(self) -> None:
        """Starts the first server, empty."""
        for name in ("first", "second"):
            self._run(f"if test -e /tmp/{name}; then pg_ctl stop --pgdata=/tmp/{name} --mode=immediate; fi")
            self._run(f"rm -rf /tmp/{name} /tmp/archive/*")
        self._run("cp -r /tmp/old /tmp/first && pg_ctl start --pgdata=/tmp/first --log=/tmp/first.log")

    def start_second(self) -> None:
        """A new server, with only a few hundred transactions so far."""
        self._run("cp -r /tmp/young /tmp/second")
        self._start_second()

    def recover_to(self, restore_point: str) -> None:
        """Creates the second by point-in-time recovery, from a base backup of the first and its WAL archive."""
        self._sql("SELECT pg_switch_wal()")
        archived = "SELECT last_archived_wal >= pg_walfile_name(pg_current_wal_lsn() - 1) FROM pg_stat_archiver"
        eventually(lambda: self._sql(archived) == "t", "all WAL is in the archive")
        self._run(
            f"""
            cp -r /tmp/old /tmp/second
            echo "restore_command = 'cp /tmp/archive/%f %p'" >> /tmp/second/postgresql.conf
            echo "recovery_target_name = '{restore_point}'" >> /tmp/second/postgresql.conf
            echo "recovery_target_action = 'promote'" >> /tmp/second/postgresql.conf
            echo 'archive_mode = off' >> /tmp/second/postgresql.conf
            touch /tmp/second/recovery.signal
            """
        )
        self._start_second()
        recovers = "SELECT pg_is_in_recovery()"
        eventually(lambda: self._sql(recovers, SECOND) == "f", "the second has recovered")

    def snapshot(self) -> None:
        """Copies the volume, as after a power failure."""
        self._run("pg_ctl stop --pgdata=/tmp/first --mode=immediate")
        self._run("cp -r /tmp/first /tmp/snapshot && pg_ctl start --pgdata=/tmp/first --log=/tmp/first.log")

    def back_to_snapshot(self) -> None:
        """Replaces the volume with the copy."""
        self._run("pg_ctl stop --pgdata=/tmp/first --mode=immediate && rm -r /tmp/first && mv /tmp/snapshot /tmp/first")
        self._run("pg_ctl start --pgdata=/tmp/first --log=/tmp/first.log")

    def dump(self) -> None:
        self._run("pg_dump --username=test --dbname=postgres --format=custom --file=/tmp/dump")

    def restore(self, port: int) -> None:
        """Retries on a deadlock with a write, which PostgreSQL resolves by aborting the restore, as `make restore`
        does."""
        command = (
            f"pg_restore --username=test --dbname=postgres --port={port}"
            " --clean --if-exists --no-owner --single-transaction /tmp/dump"
        )
        for _ in range(TRIES):
            done = self._container.exec(["bash", "-ec", command])
            if b"deadlock detected" not in done.output:
                break
        assert done.exit_code == 0, f"{command}: {done.output!r}"

    def restore_with_psql(self) -> None:
        """As plain SQL, into the second."""
        self._run(f"set -o pipefail; pg_restore --file=- /tmp/dump | {PSQL} --port={SECOND} --set=ON_ERROR_STOP=1")

    def restore_rows(self) -> None:
        """Only the rows, into tables of the second that the service has created."""
        tables = "tasks, changes, changes_purged, idempotency_records, schema_migrations"
        self._run(f"{PSQL} --port={SECOND} --command 'TRUNCATE {tables}'")
        self._run(f"pg_restore --username=test --dbname=postgres --port={SECOND} --data-only /tmp/dump")

    def _start_second(self) -> None:
        self._run(f"echo 'port = {SECOND}' >> /tmp/second/postgresql.conf")
        self._run("pg_ctl start --pgdata=/tmp/second --log=/tmp/second.log")

    def _sql(self, statement: str, port: int = FIRST) -> str:
        return self._run(f"{PSQL} --port={port} --tuples-only --no-align --command '{statement}'").strip()

    def _run(self, command: str) -> str:
        done = self._container.exec(["bash", "-ec", command])
        assert done.exit_code == 0, f"{command}: {done.output!r}"
        return str(done.output.decode())


@contextlib.contextmanager
def backed_up() -> Iterator[Server]:
    """Runs until the end of the block."""
    assert docker_is_available(), "Docker is not running, and the backed-up server runs in a container. Start it"
    ports = free_port(), free_port()
    container = DockerContainer(POSTGRES_IMAGE).with_kwargs(entrypoint=["bash", "-c", SETUP], user="postgres")
    with container.with_bind_ports(FIRST, ports[0]).with_bind_ports(SECOND, ports[1]):
        eventually(lambda: container.exec("test -e /tmp/ready").exit_code == 0, "the server is running", seconds=60)
        first, second = (f"postgresql://test@127.0.0.1:{port}/postgres" for port in ports)
        yield Server(first, second, container)
