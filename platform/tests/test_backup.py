"""scripts/backup.sh with a fake kubectl whose `exec` runs in a container with a real PostgreSQL."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from manifests import REPOSITORY
from scripts.backup import default_file

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
    """A release named orders, and the script with everything that it uses."""

    def __init__(self, folder: Path, container: str) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.container = container
        self.bin.mkdir()
        (self.bin / "kubectl").write_text(KUBECTL.replace("CONTAINER", container))
        (self.bin / "kubectl").chmod(0o755)
        context = {"context": {"namespace": "shop"}}
        self.set_objects("context", contexts=[context], clusters=[{"cluster": {"server": "https://shop.example"}}])
        self.set_objects("pods", items=[POD])
        self.set_objects("deployments", items=[])
        self.set_objects("cronjobs", items=[])
        (folder / "kubeconfig").write_text("apiVersion: v1\n")
        self.file = folder / "orders.dump"
        self.environment = {
            **{name: value for name, value in os.environ.items() if name not in {"NAMESPACE", "FILE", "FROM"}},
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHON": sys.executable,
            "KUBECONFIG": str(folder / "kubeconfig"),
            "SERVICE": "orders",
        }
        # The script's working directory is the repository, where it would leave its backups.
        (folder / "scripts").symlink_to(REPOSITORY / "scripts")

    def set_objects(self, kind: str, **output: Any) -> None:
        (self.bin / f"{kind}.json").write_text(json.dumps(output))

    def set_failure(self, shell: str) -> None:
        """Runs this in kubectl before the first call that enters the pod, with the command in its arguments."""
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
        return docker("exec", "--interactive", self.container, *psql, stdin_text=statements)

    @property
    def content(self) -> str:
        """All tables with their definitions."""
        return self.sql(
            "SELECT string_agg(relname, ' ' ORDER BY relname) FROM pg_class"
            " WHERE relnamespace = 'public'::regnamespace;"
            "SELECT md5(string_agg(o::text, ' ' ORDER BY number)) FROM orders AS o;"
            "SELECT max(number) FROM schema_migrations; SELECT greet()"
        )

    @property
    def files(self) -> list[str]:
        """The files created beside FILE, including leftovers."""
        return sorted(
            str(path.relative_to(self.folder))
            for path in [*self.folder.glob("*orders.dump*"), *self.folder.glob("backups/*"), *self.folder.glob(".*")]
        )


def docker(*arguments: str, stdin_text: str | None = None) -> str:
    done = subprocess.run(["docker", *arguments], input=stdin_text, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The id of a container with PostgreSQL."""
    variables = ("POSTGRES_USER=orders", "POSTGRES_DB=orders", "POSTGRES_PASSWORD=secret")
    options = [argument for variable in variables for argument in ("--env", variable)]
    container = docker("run", "--detach", "--rm", *options, IMAGE)
    try:
        # Over TCP: during initialisation the image's temporary server listens only on the socket.
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


def test_backup_is_one_complete_file_readable_only_by_its_owner(shop: Shop) -> None:
    done = shop.backup()
    assert done.returncode == 0, done.stderr
    assert shop.files == ["orders.dump"]
    assert shop.file.stat().st_mode & 0o777 == 0o600
    assert "release orders, namespace shop, cluster https://shop.example" in done.stdout
    assert "orders 1000, schema_migrations 1" in done.stdout


def test_default_name_has_release_and_time(shop: Shop) -> None:
    assert shop.run("backup").returncode == 0
    (name,) = shop.files
    assert re.fullmatch(r"backups/orders-\d{8}T\d{6}Z\.dump", name)
    assert (shop.folder / "backups").stat().st_mode & 0o777 == 0o700


def test_backup_overwrites_no_file(shop: Shop) -> None:
    shop.file.write_text("mine")
    done = shop.backup()
    assert done.returncode == 2
    assert "already exists and is not overwritten" in done.stderr
    assert shop.file.read_text() == "mine"


@pytest.mark.parametrize("bytes_", [0, 100, 5000])
def test_truncated_stream_leaves_no_backup(shop: Shop, bytes_: int) -> None:
    shop.set_failure(
        'if [[ $* == *pg_dump* ]]; then docker exec CONTAINER "$@" | head -c BYTES || true; exit 0; fi'.replace(
            "CONTAINER", shop.container
        ).replace("BYTES", str(bytes_))
    )
    done = shop.backup()
    assert done.returncode == 1
    assert "The backup failed" in done.stderr
    assert shop.files == []


def test_failed_dump_reports_the_reason_and_leaves_no_backup(shop: Shop) -> None:
    shop.set_failure("echo 'pg_dump: error: no such thing' >&2; echo PGDMP; exit 1")
    done = shop.backup()
    assert done.returncode == 1
    assert "pg_dump: error: no such thing" in done.stderr
    assert shop.files == []


# --- restore --------------------------------------------------------------------------


def test_backups_within_the_same_second_have_different_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("backups").mkdir()
    files = []
    for _ in range(3):
        files.append(default_file("orders", datetime(2026, 12, 1, tzinfo=UTC)))
        files[-1].touch()
    assert [file.name for file in files] == [f"orders-20261201T000000Z{number}.dump" for number in ("", "-2", "-3")]


def test_restore_brings_back_the_backup_and_saves_the_previous_data(shop: Shop) -> None:
    before = shop.content
    shop.backup()
    shop.sql(LATER)
    done = shop.restore()
    assert done.returncode == 0, done.stderr
    assert shop.content == before  # a later release's table is dropped, too: its migration recreates it
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


def test_restore_into_an_empty_database_is_complete(shop: Shop) -> None:
    before = shop.content
    shop.backup()
    shop.sql("DROP SCHEMA public CASCADE; CREATE SCHEMA public AUTHORIZATION pg_database_owner")
    done = shop.restore()
    assert done.returncode == 0, done.stderr
    assert shop.content == before
    assert "older release" not in done.stdout


def test_interrupted_restore_changes_nothing(shop: Shop) -> None:
    shop.backup()
    shop.sql(LATER)
    before = shop.content
    cut = shop.file.stat().st_size // 2
    shop.set_failure(f'if [[ $* == *COMMIT* ]]; then head -c {cut} | docker exec -i {shop.container} "$@"; exit; fi')
    done = shop.restore()
    assert done.returncode == 1
    assert "The restore failed and nothing was changed" in done.stderr
    assert shop.content == before


def test_connection_loss_after_the_commit_is_no_failure(shop: Shop) -> None:
    shop.backup()
    before = shop.content
    shop.sql(LATER)
    shop.set_failure(f'if [[ $* == *COMMIT* ]]; then docker exec -i {shop.container} "$@"; echo lost >&2; exit 1; fi')
    done = shop.restore()
    assert done.returncode == 0, done.stderr
    assert "The connection was lost after the restore had completed:\nlost" in done.stdout
    assert shop.content == before


def test_unknown_outcome_of_a_restore_is_reported(shop: Shop) -> None:
    shop.backup()
    shop.set_failure('if [[ $* == *COMMIT* ]]; then touch "$here/gone"; fi; if [[ -e $here/gone ]]; then exit 1; fi')
    done = shop.restore()
    assert done.returncode == 1
    assert "Its data is either all of the backup or all of the previous data" in done.stderr


def test_restore_is_retried_after_a_deadlock(shop: Shop) -> None:
    shop.backup()
    before = shop.content
    shop.sql(LATER)
    shop.set_failure(
        "if [[ $* == *COMMIT* && ! -e $here/tried ]]; then"
        ' touch "$here/tried"; echo "ERROR:  deadlock detected" >&2; exit 3; fi'
    )
    done = shop.restore()
    assert done.returncode == 0, done.stderr
    assert "deadlocked; nothing was changed. Retrying." in done.stdout
    assert shop.content == before


def test_restore_requires_confirmation_by_release_name(shop: Shop) -> None:
    shop.backup()
    shop.sql(LATER)
    before = shop.content
    for confirmation in ("", "yes"):
        done = shop.restore(CONFIRM=confirmation)
        assert done.returncode == 2
        assert "Nothing was changed. To restore, confirm with the release's name: CONFIRM=orders" in done.stderr
    assert shop.content == before
    assert shop.files == ["orders.dump"]


@pytest.mark.parametrize(("typed", "code"), [("orders", 0), ("no", 2)])
def test_restore_asks_for_confirmation_on_a_terminal(shop: Shop, typed: str, code: int) -> None:
    shop.backup()
    controller, terminal_end = pty.openpty()
    with os.fdopen(controller, "wb", buffering=0) as terminal, os.fdopen(terminal_end, "rb") as stdin:
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
def test_invalid_dump_is_not_restored(shop: Shop, content: bytes, reason: str) -> None:
    shop.file.write_bytes(content)
    before = shop.content
    done = shop.restore()
    assert done.returncode == 2
    assert reason in done.stderr
    assert shop.content == before


def test_missing_file_is_reported(shop: Shop) -> None:
    assert f"Cannot read {shop.file}: No such file or directory" in shop.restore().stderr
    assert "No backup given." in shop.restore(FILE="").stderr
    assert "make backup FROM=cronjob" in shop.restore(FROM="cronjob").stderr
    assert "has no database.bundled.backup" in shop.run("backup", FROM="cronjob").stderr
    assert "Unknown FROM=tape." in shop.run("backup", FROM="tape").stderr


# --- backups of the CronJob -----------------------------------------------------------

CRONJOB = {
    "metadata": {"name": "orders-backup"},
    "spec": {
        "jobTemplate": {"spec": {"template": {"metadata": {}, "spec": {"containers": [{"name": "backup"}]}}}},
    },
}
OLD, NEW = (f"orders-2026010{day}T031700Z.dump" for day in (1, 2))


@pytest.fixture
def shop_with_cronjob(shop: Shop) -> Shop:
    """With a volume that is a folder in the container, with a backup from before LATER and one from after it."""
    shop.set_objects("cronjobs", items=[CRONJOB])
    docker("exec", shop.container, "bash", "-c", "mkdir -p /backups/lost+found && rm -f /backups/*.dump")
    for name in (OLD, NEW):
        dump = f"pg_dump --username=orders --format=custom --file=/backups/{name}"
        docker("exec", shop.container, "bash", "-c", dump)
        if name == OLD:
            shop.sql(LATER)
    return shop


def test_newest_cronjob_backup_is_fetched_and_the_others_are_listed(shop_with_cronjob: Shop) -> None:
    done = shop_with_cronjob.run("backup", FROM="cronjob")
    assert done.returncode == 0, done.stderr
    assert shop_with_cronjob.files == [f"backups/{NEW}"]
    assert "orders 900" in done.stdout
    assert f"Downloading {NEW}. Others, for FROM=NAME:\n  {OLD}\n" in done.stdout


def test_older_backup_is_fetched_by_name(shop_with_cronjob: Shop) -> None:
    done = shop_with_cronjob.run("backup", FROM=OLD)
    assert done.returncode == 0, done.stderr
    assert shop_with_cronjob.files == [f"backups/{OLD}"]
    assert "orders 1000" in done.stdout


def test_unknown_name_is_rejected_with_the_available_ones(shop_with_cronjob: Shop) -> None:
    done = shop_with_cronjob.run("backup", FROM="orders-20260103T031700Z.dump")
    assert done.returncode == 2
    assert f"The CronJob has no backup orders-20260103T031700Z.dump. Available:\n  {OLD}\n  {NEW}\n" in done.stderr
    assert shop_with_cronjob.files == []


def test_missing_backups_and_inaccessible_volumes_are_reported(shop_with_cronjob: Shop) -> None:
    docker("exec", shop_with_cronjob.container, "bash", "-c", "rm /backups/*.dump")
    assert "has not created a backup yet" in shop_with_cronjob.run("backup", FROM="cronjob").stderr
    shop_with_cronjob.set_failure("echo 'InvalidAccessKeyId' >&2; exit 1")
    done = shop_with_cronjob.run("backup", FROM="cronjob")
    assert done.returncode == 1
    assert "InvalidAccessKeyId" in done.stderr


# --- releases without a bundled database ------------------------------------------------


def api(**variable: Any) -> dict[str, Any]:
    container = {"env": [{"name": "ORDERS_AUTH", "value": "none"}, {"name": "ORDERS_DATABASE_URL"} | variable]}
    return {"spec": {"template": {"spec": {"containers": [container]}}}}


def test_commands_for_an_external_database_are_printed(shop: Shop) -> None:
    shop.set_objects("pods", items=[])
    shop.set_objects("deployments", items=[api(valueFrom={"secretKeyRef": {"name": "mine", "key": "fqdn-uri"}})])
    done = shop.backup()
    assert done.returncode == 2
    assert "get secret mine --output go-template='{{index .data \"fqdn-uri\" | base64decode}}'" in done.stderr
    assert "pg_dump --format=custom --file=FILE" in done.stderr


@pytest.mark.parametrize(
    ("deployments", "message"),
    [([], "There is no release orders in namespace shop"), ([api(value="memory://")], "there is nothing to back up")],
)
def test_release_without_a_database_is_rejected(shop: Shop, deployments: list[Any], message: str) -> None:
    shop.set_objects("pods", items=[])
    shop.set_objects("deployments", items=deployments)
    assert message in shop.backup().stderr


@pytest.mark.parametrize("verb", ["backup", "restore"])
def test_ambiguous_database_is_rejected_with_the_candidates(shop: Shop, verb: str) -> None:
    shop.set_objects(
        "pods", items=[POD | {"metadata": {"name": f"shop-{alias}-postgres-0"}} for alias in ("red", "blue")]
    )
    shop.file.write_text("a backup")
    done = shop.run(verb, FILE=str(shop.folder / "other.dump") if verb == "backup" else str(shop.file))
    assert done.returncode != 0
    assert "has 2 databases" in done.stderr
    assert "shop-blue-postgres-0, shop-red-postgres-0" in done.stderr


def test_database_that_is_not_ready_is_rejected(shop: Shop) -> None:
    shop.set_objects("pods", items=[POD | {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}])
    assert "is not ready. See why: kubectl --namespace shop describe pod orders-postgres-0" in shop.backup().stderr
