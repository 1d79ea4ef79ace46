"""scripts/backup.sh with a kubectl whose `exec` leads into a real PostgreSQL: that of a container."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from manifests import REPOSITORY

pytestmark = pytest.mark.docker

(IMAGE,) = re.findall(r"^POSTGRES_IMAGE=(\S+)$", (REPOSITORY / "versions.env").read_text(), re.MULTILINE)
KUBECTL = """#!/usr/bin/env bash
set -euo pipefail
here=$(dirname "$0")
case "$*" in
  'config view --minify --output json') cat "$here/context.json" ;;
  *' get pods '*' --output json') cat "$here/pods.json" ;;
  *' get deployments '*' --output json') cat "$here/deployments.json" ;;
  *' get cronjobs '*' --output json') cat "$here/cronjobs.json" ;;
  '--namespace shop create --filename -') cat > "$here/pod.json" ;;
  '--namespace shop wait pod/orders-backup-read-'* | '--namespace shop delete pod orders-backup-read-'*) ;;
  '--namespace shop exec '*)
    while [[ $1 != -- ]]; do shift; done
    shift
    [[ ! -f $here/trouble ]] || . "$here/trouble"
    docker exec --interactive --env NAME=orders CONTAINER "$@"
    ;;
  *) echo "kubectl $*: not faked" >&2; exit 64 ;;
esac
"""
POD = {"metadata": {"name": "orders-postgres-0"}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}
TABLES = """
CREATE TABLE schema_migrations (number integer PRIMARY KEY);
CREATE TABLE orders (number integer PRIMARY KEY, text text NOT NULL);
CREATE FUNCTION greet() RETURNS text LANGUAGE sql AS 'SELECT ''hello''';
INSERT INTO schema_migrations VALUES (1);
INSERT INTO orders SELECT i, repeat(md5(i::text), 50) || E'\\n\\\\.\\n' FROM generate_series(1, 1000) AS i;
"""
LATER = """
INSERT INTO schema_migrations VALUES (2);
CREATE TABLE lines (number integer REFERENCES orders);
DELETE FROM orders WHERE number > 900;
"""


class Shop:
    """A release named orders, and the script with all that leads there."""

    def __init__(self, folder: Path, container: str) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.container = container
        self.bin.mkdir()
        (self.bin / "kubectl").write_text(KUBECTL.replace("CONTAINER", container))
        (self.bin / "kubectl").chmod(0o755)
        context = {"context": {"namespace": "shop"}}
        self.says("context", contexts=[context], clusters=[{"cluster": {"server": "https://shop.example"}}])
        self.says("pods", items=[POD])
        self.says("deployments", items=[])
        self.says("cronjobs", items=[])
        (folder / "kubeconfig").write_text("apiVersion: v1\n")
        self.file = folder / "orders.dump"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in {"NAMESPACE", "FILE", "FROM"}},
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "KUBECONFIG": str(folder / "kubeconfig"),
            "SERVICE": "orders",
        }
        # The script's own working directory is the repository, where it would leave its backups.
        (folder / "scripts").symlink_to(REPOSITORY / "scripts")

    def says(self, kind: str, **answer: Any) -> None:
        (self.bin / f"{kind}.json").write_text(json.dumps(answer))

    def has_trouble(self, shell: str) -> None:
        """What kubectl does first of all that leads into the pod, with the command in its arguments."""
        (self.bin / "trouble").write_text(shell)

    def command(self, verb: str) -> list[str]:
        return [sys.executable, "-m", "scripts.backup", verb]

    def run(self, verb: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb),
            cwd=self.folder,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def backup(self) -> subprocess.CompletedProcess[str]:
        return self.run("backup", FILE=str(self.file))

    def restore(self, **variables: str) -> subprocess.CompletedProcess[str]:
        return self.run("restore", **{"FILE": str(self.file), "CONFIRM": "orders"} | variables)

    def sql(self, statements: str) -> str:
        psql = ("psql", "-qtA", "-v", "ON_ERROR_STOP=1", "-U", "orders")
        return docker("exec", "--interactive", self.container, *psql, given=statements)

    @property
    def content(self) -> str:
        """All that is in the tables, and what they are."""
        return self.sql(
            "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace;"
            "SELECT md5(string_agg(o::text, ' ' ORDER BY number)) FROM orders AS o;"
            "SELECT max(number) FROM schema_migrations; SELECT greet()"
        )

    @property
    def left(self) -> list[str]:
        """What it made beside FILE, and what it left there."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in [*self.folder.glob("*orders.dump*"), *self.folder.glob("backups/*"), *self.folder.glob(".*")]
        )


def docker(*arguments: str, given: str | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=given, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The id of a container with a PostgreSQL in it."""
    variables = ("POSTGRES_USER=orders", "POSTGRES_DB=orders", "POSTGRES_PASSWORD=secret")
    options = [argument for variable in variables for argument in ("--env", variable)]
    container = docker("run", "--detach", "--rm", *options, IMAGE)
    try:
        # Over TCP: while it initialises, the image's temporary server listens on the socket alone.
        waiting = "for i in $(seq 120); do pg_isready --quiet --host=127.0.0.1 && exit; sleep 0.5; done; exit 1"
        docker("exec", container, "bash", "-c", waiting)
        yield container
    finally:
        docker("rm", "--force", "--volumes", container)


@pytest.fixture
def shop(postgres: str, tmp_path: Path) -> Shop:
    shop = Shop(tmp_path, postgres)
    shop.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner;" + TABLES)
    return shop


# --- backup ---------------------------------------------------------------------------


def test_a_backup_is_one_whole_file_that_its_owner_alone_reads(shop: Shop) -> None:
    done = shop.backup()
    assert done.returncode == 0, done.stderr
    assert shop.left == ["orders.dump"]
    assert shop.file.stat().st_mode & 0o777 == 0o600
    assert "release orders, namespace shop, cluster https://shop.example" in done.stdout
    assert "orders 1000, schema_migrations 1" in done.stdout


def test_without_a_name_it_has_that_of_the_release_and_the_time(shop: Shop) -> None:
    assert shop.run("backup").returncode == 0
    (name,) = shop.left
    assert re.fullmatch(r"backups/orders-\d{8}T\d{6}Z\.dump", name)
    assert (shop.folder / "backups").stat().st_mode & 0o777 == 0o700


def test_a_backup_overwrites_nothing(shop: Shop) -> None:
    shop.file.write_text("mine")
    done = shop.backup()
    assert done.returncode == 2
    assert "already exists and is not overwritten" in done.stderr
    assert shop.file.read_text() == "mine"


@pytest.mark.parametrize("bytes_", [0, 100, 5000])
def test_a_stream_that_is_cut_short_leaves_no_backup(shop: Shop, bytes_: int) -> None:
    shop.has_trouble(
        'if [[ $* == *pg_dump* ]]; then docker exec CONTAINER "$@" | head -c BYTES || true; exit 0; fi'.replace(
            "CONTAINER", shop.container
        ).replace("BYTES", str(bytes_))
    )
    done = shop.backup()
    assert done.returncode == 1
    assert "The backup failed" in done.stderr
    assert shop.left == []


def test_a_dump_that_fails_says_why_and_leaves_no_backup(shop: Shop) -> None:
    shop.has_trouble("echo 'pg_dump: error: no such thing' >&2; echo PGDMP; exit 1")
    done = shop.backup()
    assert done.returncode == 1
    assert "pg_dump: error: no such thing" in done.stderr
    assert shop.left == []


# --- restore --------------------------------------------------------------------------


def test_a_restore_brings_back_what_was_backed_up_and_keeps_what_was_there(shop: Shop) -> None:
    before = shop.content
    shop.backup()
    shop.sql(LATER)
    done = shop.restore()
    assert done.returncode == 0, done.stderr
    assert shop.content == before  # the table of a later release is gone, too: its migration makes it again
    table = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith("  ")}
    assert (table["orders"], table["lines"]) == (["900", "1000"], ["0", "-"])
    assert "The backup has the schema of an older release." in done.stdout
    assert (
        "kubectl --namespace shop rollout restart deployment --selector app.kubernetes.io/instance=orders"
        in done.stdout
    )
    (safety,) = (shop.folder / "backups").iterdir()
    assert re.fullmatch(r"orders-before-restore-\d{8}T\d{6}Z\.dump", safety.name)
    assert shop.restore(FILE=str(safety)).returncode == 0
    assert shop.sql("SELECT count(*) FROM orders; SELECT count(*) FROM lines").split() == ["900", "0"]


def test_a_restore_into_an_empty_database_is_all_of_it(shop: Shop) -> None:
    before = shop.content
    shop.backup()
    shop.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner")
    done = shop.restore()
    assert done.returncode == 0, done.stderr
    assert shop.content == before
    assert "older release" not in done.stdout


def test_a_restore_that_is_cut_short_changes_nothing(shop: Shop) -> None:
    shop.backup()
    shop.sql(LATER)
    before = shop.content
    cut = shop.file.stat().st_size // 2
    shop.has_trouble(f'if [[ $* == *COMMIT* ]]; then head -c {cut} | docker exec -i {shop.container} "$@"; exit; fi')
    done = shop.restore()
    assert done.returncode == 1
    assert "The restore failed and nothing was changed" in done.stderr
    assert shop.content == before


def test_a_connection_that_breaks_when_all_is_done_is_no_failure(shop: Shop) -> None:
    shop.backup()
    before = shop.content
    shop.sql(LATER)
    shop.has_trouble(f'if [[ $* == *COMMIT* ]]; then docker exec -i {shop.container} "$@"; echo lost >&2; exit 1; fi')
    done = shop.restore()
    assert done.returncode == 0, done.stderr
    assert "The connection was lost after the restore had completed:\nlost" in done.stdout
    assert shop.content == before


def test_where_nobody_knows_what_became_of_a_restore_it_says_so(shop: Shop) -> None:
    shop.backup()
    shop.has_trouble('if [[ $* == *COMMIT* ]]; then touch "$here/gone"; fi; if [[ -e $here/gone ]]; then exit 1; fi')
    done = shop.restore()
    assert done.returncode == 1
    assert "Its data is either all of the backup or all of the previous data" in done.stderr


def test_a_restore_and_a_request_that_wait_for_each_other_are_tried_again(shop: Shop) -> None:
    shop.backup()
    before = shop.content
    shop.sql(LATER)
    shop.has_trouble(
        "if [[ $* == *COMMIT* && ! -e $here/tried ]]; then"
        ' touch "$here/tried"; echo "ERROR:  deadlock detected" >&2; exit 3; fi'
    )
    done = shop.restore()
    assert done.returncode == 0, done.stderr
    assert "deadlocked; nothing was changed. Retrying." in done.stdout
    assert shop.content == before


def test_nothing_is_restored_unless_it_is_confirmed_by_the_releases_name(shop: Shop) -> None:
    shop.backup()
    shop.sql(LATER)
    before = shop.content
    for given in ("", "yes"):
        done = shop.restore(CONFIRM=given)
        assert done.returncode == 2
        assert "Nothing was changed. To restore, confirm with the release's name: CONFIRM=orders" in done.stderr
    assert shop.content == before
    assert shop.left == ["orders.dump"]


@pytest.mark.parametrize(("typed", "code"), [("orders", 0), ("no", 2)])
def test_on_a_terminal_it_asks(shop: Shop, typed: str, code: int) -> None:
    shop.backup()
    ours, its = pty.openpty()
    with os.fdopen(ours, "wb", buffering=0) as terminal, os.fdopen(its, "rb") as stdin:
        terminal.write(f"{typed}\n".encode())
        environment = shop.environment | {"FILE": str(shop.file), "CONFIRM": ""}
        done = subprocess.run(
            shop.command("restore"), cwd=shop.folder, env=environment, stdin=stdin, capture_output=True, timeout=60
        )
    assert b"Type the release's name, orders, to continue: " in done.stdout
    assert done.returncode == code


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "not a dump"), (b"SQLite format 3\0", "not a dump"), (b"PGDMP\1\16\0", "pg_restore: error")],
)
def test_what_is_no_dump_is_not_restored(shop: Shop, content: bytes, reason: str) -> None:
    shop.file.write_bytes(content)
    before = shop.content
    done = shop.restore()
    assert done.returncode == 2
    assert reason in done.stderr
    assert shop.content == before


def test_a_file_that_is_not_there_or_not_named_is_said(shop: Shop) -> None:
    assert f"Cannot read {shop.file}: No such file or directory" in shop.restore().stderr
    assert "No backup given." in shop.restore(FILE="").stderr
    assert "make backup FROM=cronjob" in shop.restore(FROM="cronjob").stderr
    assert "has no database.bundled.backup" in shop.run("backup", FROM="cronjob").stderr
    assert "Unknown FROM=tape." in shop.run("backup", FROM="tape").stderr


# --- what the CronJob made ------------------------------------------------------------

CRONJOB = {
    "metadata": {"name": "orders-backup"},
    "spec": {
        "jobTemplate": {"spec": {"template": {"metadata": {}, "spec": {"containers": [{"name": "backup"}]}}}},
    },
}
OLD, NEW = (f"orders-2026010{day}T031700Z.dump" for day in (1, 2))


@pytest.fixture
def shop_with_cronjob(shop: Shop) -> Shop:
    """Its volume is a folder of the container, with a backup before LATER and one after it."""
    shop.says("cronjobs", items=[CRONJOB])
    docker("exec", shop.container, "bash", "-c", "mkdir -p /backups/lost+found && rm -f /backups/*.dump")
    for name in (OLD, NEW):
        dump = f"pg_dump --username=orders --format=custom --file=/backups/{name}"
        docker("exec", shop.container, "bash", "-c", dump)
        if name == OLD:
            shop.sql(LATER)
    return shop


def test_the_newest_of_the_cronjob_is_fetched_and_the_others_are_named(shop_with_cronjob: Shop) -> None:
    done = shop_with_cronjob.run("backup", FROM="cronjob")
    assert done.returncode == 0, done.stderr
    assert shop_with_cronjob.left == [f"backups/{NEW}"]
    assert "orders 900" in done.stdout
    assert f"Downloading {NEW}. Others, for FROM=NAME:\n  {OLD}\n" in done.stdout


def test_an_older_one_is_fetched_by_its_name(shop_with_cronjob: Shop) -> None:
    done = shop_with_cronjob.run("backup", FROM=OLD)
    assert done.returncode == 0, done.stderr
    assert shop_with_cronjob.left == [f"backups/{OLD}"]
    assert "orders 1000" in done.stdout


def test_a_name_that_is_not_there_is_refused_with_those_that_are(shop_with_cronjob: Shop) -> None:
    done = shop_with_cronjob.run("backup", FROM="orders-20260103T031700Z.dump")
    assert done.returncode == 2
    assert f"The CronJob has no backup orders-20260103T031700Z.dump. Available:\n  {OLD}\n  {NEW}\n" in done.stderr
    assert shop_with_cronjob.left == []


def test_where_there_is_none_yet_it_says_so_and_where_nobody_can_look_why(shop_with_cronjob: Shop) -> None:
    docker("exec", shop_with_cronjob.container, "bash", "-c", "rm /backups/*.dump")
    assert "has not created a backup yet" in shop_with_cronjob.run("backup", FROM="cronjob").stderr
    shop_with_cronjob.has_trouble("echo 'InvalidAccessKeyId' >&2; exit 1")
    done = shop_with_cronjob.run("backup", FROM="cronjob")
    assert done.returncode == 1
    assert "InvalidAccessKeyId" in done.stderr


# --- where there is nothing for it to do ------------------------------------------------


def api(**variable: Any) -> dict[str, Any]:
    container = {"env": [{"name": "ORDERS_AUTH", "value": "none"}, {"name": "ORDERS_DATABASE_URL"} | variable]}
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


def test_of_a_database_of_your_own_it_says_the_commands(shop: Shop) -> None:
    shop.says("pods", items=[])
    shop.says("deployments", items=[api(valueFrom={"secretKeyRef": {"name": "mine", "key": "fqdn-uri"}})])
    done = shop.backup()
    assert done.returncode == 2
    assert "get secret mine --output go-template='{{index .data \"fqdn-uri\" | base64decode}}'" in done.stderr
    assert "pg_dump --format=custom --file=FILE" in done.stderr


@pytest.mark.parametrize(
    ("deployments", "says"),
    [([], "There is no release orders in namespace shop"), ([api(value="memory://")], "there is nothing to back up")],
)
def test_a_release_without_a_database_is_refused(shop: Shop, deployments: list[Any], says: str) -> None:
    shop.says("pods", items=[])
    shop.says("deployments", items=deployments)
    assert says in shop.backup().stderr


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_of_two_databases_in_a_release_none_is_taken_for_the_other(shop: Shop, verb: str) -> None:
    shop.says("pods", items=[POD | {"metadata": {"name": f"shop-{alias}-postgres-0"}} for alias in ("red", "blue")])
    shop.file.write_text("a backup")
    done = shop.run(verb, FILE=str(shop.folder / "other.dump") if verb == "backup" else str(shop.file))
    assert done.returncode != 0
    assert "has 2 databases" in done.stderr
    assert "shop-blue-postgres-0, shop-red-postgres-0" in done.stderr


def test_a_database_that_is_not_ready_is_refused(shop: Shop) -> None:
    shop.says("pods", items=[POD | {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}])
    assert "is not ready. See why: kubectl --namespace shop describe pod orders-postgres-0" in shop.backup().stderr
