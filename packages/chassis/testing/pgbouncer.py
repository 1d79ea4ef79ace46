"""PostgreSQL behind PgBouncer, in one container built from PostgreSQL's image."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import docker
from databases import POSTGRES_IMAGE, POSTGRES_OPTIONS, docker_is_available
from docker.errors import BuildError
from testcontainers.community.postgres import PostgresContainer

IMAGE = "postgres-with-pgbouncer:test"
DOCKERFILE = f"""
FROM {POSTGRES_IMAGE}
RUN apt-get update && apt-get install -y --no-install-recommends pgbouncer && rm -rf /var/lib/apt/lists/*
"""
FIRST_PORT = 6432
FOLDER = "/var/run/postgresql"
AUTHENTICATION = {"auth_type": "trust", "auth_file": f"{FOLDER}/users"}
START = f"""echo '"test" "test"' > {FOLDER}/users && printf %s "$2" > "$1" && pgbouncer -d "$1" """


@dataclass(frozen=True)
class Pooled:
    """server: a URL that bypasses PgBouncer. ports: the port of each PgBouncer, by name."""

    server: str
    ports: dict[str, int]

    def url(self, name: str, database: str) -> str:
        return f"postgresql://test:test@127.0.0.1:{self.ports[name]}/{database}"


@contextlib.contextmanager
def running_pgbouncers(settings: dict[str, dict[str, object]]) -> Iterator[Pooled]:
    """One PgBouncer per name, with these settings, until the end of the block."""
    assert docker_is_available(), "Docker is not running, and PgBouncer needs a container. Start Docker"
    try:
        with contextlib.closing(docker.from_env()) as client:
            client.images.build(fileobj=io.BytesIO(DOCKERFILE.encode()), tag=IMAGE, rm=True)
    except BuildError as error:
        error.add_note(f"PgBouncer is installed by apt into {POSTGRES_IMAGE}, from Debian's and PostgreSQL's mirrors")
        raise
    ports = {name: FIRST_PORT + number for number, name in enumerate(settings)}
    container = PostgresContainer(IMAGE, driver=None).with_command(f"postgres {POSTGRES_OPTIONS}")
    with container.with_exposed_ports(5432, *ports.values()) as running:
        for name, port in ports.items():
            defaults = {"listen_addr": "*", "listen_port": port, "pidfile": f"{FOLDER}/{name}.pid"}
            lines = [f"{key} = {value}" for key, value in (defaults | AUTHENTICATION | settings[name]).items()]
            file = "\n".join(["[databases]", "* = host=127.0.0.1 port=5432", "[pgbouncer]", *lines, ""])
            command = ["bash", "-c", START, "bash", f"{FOLDER}/{name}.ini", file]
            done = running.get_wrapped_container().exec_run(command, user="postgres")
            assert done.exit_code == 0, done.output.decode()
        yield Pooled(
            running.get_connection_url(), {name: int(running.get_exposed_port(port)) for name, port in ports.items()}
        )
