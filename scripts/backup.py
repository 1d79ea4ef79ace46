"""Backs up the chart's bundled PostgreSQL to a local file, and restores it from one, while the pods run.

    scripts/backup.sh backup     writes FILE, which must not exist
    scripts/backup.sh restore    replaces the current data with that of FILE

Cluster: KUBE_CONFIG (a kubeconfig, base64) or KUBECONFIG (a file), and its current context; by default that of `make
up`.

    RELEASE (SERVICE)       the release of the database
    NAMESPACE               its namespace (default: that of the context)
    FILE                    the backup file (backup's default: backups/RELEASE-TIME.dump)
    FROM=cronjob            for backup: instead of creating a backup, downloads the newest one of
                            database.bundled.backup; FROM=NAME downloads the one of that name
    CONFIRM                 for restore without a terminal: the release's name
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from itertools import chain, count
from pathlib import Path
from typing import IO, Any

from scripts.deploy.kubeconfig import kubeconfig
from scripts.deploy.processes import Failed, Refused

MAGIC = b"PGDMP"
"""The first bytes of a dump in pg_dump's custom format."""
MAX_ATTEMPTS = 5
"""PostgreSQL aborts one of two deadlocked transactions, which may be the restore."""

# In the database's pod, where both programs match the server's version and its socket needs no password.
DUMP = 'exec pg_dump --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --format=custom'
PSQL = 'psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --quiet --no-psqlrc --set=ON_ERROR_STOP=1'
# Not pg_restore --clean: that only drops objects of the dump, and a table added by a later release would break its own
# migration. Without COMMIT, as if the dump ends early, PostgreSQL rolls everything back.
RESTORE = f"""set -o pipefail
{{
  cat << 'SQL'
BEGIN;
SET LOCAL lock_timeout = '30s';
DO $$
DECLARE name text;
BEGIN
  FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
    EXECUTE format('DROP SCHEMA %I CASCADE', name);
  END LOOP;
END $$;
CREATE SCHEMA public AUTHORIZATION pg_database_owner;
GRANT USAGE ON SCHEMA public TO PUBLIC;
SQL
  pg_restore --no-owner --file=- && echo 'COMMIT;'
}} | PGOPTIONS='-c client_min_messages=warning' {PSQL} > /dev/null"""
ANALYZE = f"{PSQL} --command=ANALYZE"
# Changes with a restore, which recreates the schema.
SCHEMA = f"""{PSQL} --tuples-only --no-align --command="SELECT oid FROM pg_namespace WHERE nspname = 'public'\""""
# Reads the whole dump, where --list would only read its header: a truncated one has a complete header.
ROWS_IN_DUMP = """set -o pipefail
pg_restore --file=- | awk '
  !inside && /^COPY .* FROM stdin;$/ { table = $2; rows = 0; inside = 1; next }
  inside && $0 == "\\\\." { print table, rows; inside = 0 }
  inside { rows++ }'"""
ROWS_NOW = rf"""{PSQL} --tuples-only --no-align --field-separator=' ' << 'SQL'
  SELECT format('SELECT %L, count(*) FROM %I.%I', format('%I.%I', schemaname, tablename), schemaname, tablename)
  FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema') ORDER BY 1 \gexec
SQL"""

Rows = dict[str, int]
"""Row count by table."""


@dataclasses.dataclass(frozen=True)
class Database:
    """A bundled PostgreSQL of the chart, identified by its pod."""

    release: str
    namespace: str
    server: str
    pod: str

    def run(self, command: str, *, source: IO[bytes] | None = None, to: IO[bytes] | None = None) -> str:
        """The command's output in the pod; empty if it is written `to` a file. Raises Failed with its error."""
        stdin = ["--stdin"] if source else []
        in_pod = ("exec", *stdin, self.pod, "--container", "postgres", "--", "bash", "-c", command)
        return _exec("kubectl", "--namespace", self.namespace, *in_pod, source=source, to=to)

    def rows(self) -> Rows:
        return _rows(self.run(ROWS_NOW))

    def rows_in(self, dump: Path) -> Rows:
        """The row counts of a dump, all of which is read. Raises Failed if it is not a complete dump."""
        # Unbuffered: the program that gets it reads from the file's position.
        with dump.open("rb", buffering=0) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise Failed("not a dump in pg_dump's custom format")
            file.seek(0)
            return _rows(self.run(ROWS_IN_DUMP, source=file))

    def __str__(self) -> str:
        return f"release {self.release}, namespace {self.namespace}, cluster {self.server}"


def _exec(*command: str, source: IO[bytes] | None = None, to: IO[bytes] | None = None) -> str:
    stdin, stdout = source or subprocess.DEVNULL, to or subprocess.PIPE
    result = subprocess.run(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False)
    if result.returncode != 0:
        lines = result.stderr.decode(errors="replace").splitlines()
        raise Failed("\n".join(line for line in lines if not line.startswith("command terminated")) or "no output")
    return "" if to else result.stdout.decode()


def _rows(output: str) -> Rows:
    return {table.removeprefix("public."): int(rows) for table, rows in map(str.split, output.splitlines())}


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """Its output. Raises Failed."""
    result = subprocess.run(["kubectl", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise Failed(f"kubectl {' '.join(arguments[:4])} failed: {result.stderr.strip()}")
    return result.stdout


def find() -> Database:
    """The database of the release in the environment. Raises Refused if the chart has none, or it is not ready."""
    release = os.environ.get("RELEASE") or os.environ["SERVICE"]
    view = json.loads(kubectl("config", "view", "--minify", "--output", "json"))
    namespace = os.environ.get("NAMESPACE") or view["contexts"][0]["context"].get("namespace") or "default"
    server = view["clusters"][0]["cluster"]["server"]
    found = _items(namespace, "pods", f"{_selector(release)},app.kubernetes.io/name=postgres")
    if len(names := sorted(pod["metadata"]["name"] for pod in found)) > 1:
        raise Refused(
            f"Release {release} has {len(names)} databases, one per chart, and this command cannot select one of "
            f"them: {', '.join(names)}. Run pg_dump in the right pod: kubectl --namespace {namespace} exec"
            f" {names[0]} -- sh -c 'pg_dump --username=$POSTGRES_USER --format=custom $POSTGRES_DB' > FILE"
        )
    for pod in found:
        if any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions") or []):
            return Database(release, namespace, server, pod["metadata"]["name"])
    if found:
        raise Refused(
            f"PostgreSQL of release {release} is not ready. See why: "
            f"kubectl --namespace {namespace} describe pod {found[0]['metadata']['name']}"
        )
    raise Refused(_explain_missing_database(release, namespace, server))


def _selector(release: str) -> str:
    return f"app.kubernetes.io/instance={release}"


def _items(namespace: str, kind: str, selector: str) -> list[Any]:
    output = kubectl("--namespace", namespace, "get", kind, "--selector", selector, "--output", "json")
    items: list[Any] = json.loads(output)["items"]
    return items


def _explain_missing_database(release: str, namespace: str, server: str) -> str:
    """Instructions for a database that is not the chart's bundled one."""
    deployments = _items(namespace, "deployments", f"{_selector(release)},app.kubernetes.io/component=api")
    if not deployments:
        return (
            f"There is no release {release} in namespace {namespace} of cluster {server}. "
            "Set RELEASE=... NAMESPACE=... (helm list --all-namespaces lists them)"
        )
    for variable in deployments[0]["spec"]["template"]["spec"]["containers"][0].get("env", []):
        secret = variable.get("valueFrom", {}).get("secretKeyRef")
        if variable["name"].endswith("DATABASE_URL") and secret:
            url = (
                f"url=$(kubectl --namespace {namespace} get secret {secret['name']}"
                f" --output go-template='{{{{index .data \"{secret['key']}\" | base64decode}}}}')"
            )
            return (
                f"Release {release} uses an external database, which has its own backups. From a machine that "
                f"can reach it, with client programs of its version:\n  {url}\n"
                '  pg_dump --format=custom --file=FILE --dbname="$url"\n'
                '  pg_restore --clean --if-exists --no-owner --single-transaction --exit-on-error --dbname="$url" FILE'
            )
    return f"Release {release} stores nothing in a database: there is nothing to back up."


# --- backup ---------------------------------------------------------------------------


def backup(database: Database, file: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes FILE, which appears only once it is complete. Raises Refused or Failed, and leaves nothing behind then."""
    if file.exists():
        raise Refused(f"{file} already exists and is not overwritten. Use another FILE=..., or remove it.")
    try:
        with _atomic_write(file) as (output, part):
            write(output)
            rows = database.rows_in(part)
    except Failed as failure:
        raise Failed(f"The backup failed, and {file} was not written:\n{failure}") from failure
    except OSError as error:
        raise Failed(f"Cannot write {file}: {error.strerror}. No partial file was left.") from error
    size = file.stat().st_size
    print(f"{file} is a complete backup of {database}: {_format_rows(rows)}, {size:,} bytes.", flush=True)


@contextlib.contextmanager
def _atomic_write(file: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A temporary file beside it, readable by its owner only, renamed to the file when the block succeeds."""
    if file.parent == Path("backups"):
        file.parent.mkdir(mode=0o700, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            yield output, part
            os.fsync(output.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def default_file(release: str, now: datetime, suffix: str = "") -> Path:
    """A file that does not exist yet, even for the second one within a second."""
    name = f"{release}{suffix}-{now:%Y%m%dT%H%M%SZ}"
    files = (Path("backups", f"{name}{number}.dump") for number in chain([""], (f"-{n}" for n in count(2))))
    return next(file for file in files if not file.exists())


def _format_rows(rows: Rows) -> str:
    return ", ".join(f"{table} {number}" for table, number in rows.items()) or "no tables"


# --- restore --------------------------------------------------------------------------


def restore(database: Database, file: Path) -> None:
    """Asks for confirmation, backs up the current data, and restores.

    Raises Refused if nothing was changed, and Failed with a message that says whether anything was.
    """
    try:
        after = database.rows_in(file)
    except OSError as error:
        raise Refused(f"Cannot read {file}: {error.strerror}. Set a backup: make restore FILE=...") from error
    except Failed as failure:
        raise Refused(f"{file} cannot be restored; nothing was changed:\n{failure}") from failure
    before = database.rows()
    print(f"{file} replaces the data in {database}:\n")
    print(f"  {'rows in':<24}{'now':>12}{'backup':>12}")
    for table in sorted(before | after):
        print(f"  {table:<24}{before.get(table, '-'):>12}{after.get(table, '-'):>12}")
    print(flush=True)
    _confirm(database.release)
    safety = default_file(database.release, datetime.now(UTC), "-before-restore")
    backup(database, safety, lambda to: database.run(DUMP, to=to))
    schema = database.run(SCHEMA)
    for attempt in range(1, MAX_ATTEMPTS + 1):
        try:
            with file.open("rb") as dump:
                database.run(RESTORE, source=dump)
            break
        except Failed as failure:
            if "deadlock detected" in str(failure) and attempt < MAX_ATTEMPTS:
                print("The restore and a request deadlocked; nothing was changed. Retrying.", flush=True)
                continue
            if _changed(database, schema, f"{failure}\nThe previous data is also in {safety}."):
                print(f"The connection was lost after the restore had completed:\n{failure}", flush=True)
                break
            raise Failed(
                f"The restore failed and nothing was changed: it is a single transaction.\n{failure}\n"
                f"The current data is also in {safety}."
            ) from failure
    print(f"Restored in one transaction: {_format_rows(after)}. The previous data is in {safety}.", flush=True)
    # Until then PostgreSQL has no table statistics, on which estimated totals are based.
    database.run(ANALYZE)
    if after.get("schema_migrations", 0) < before.get("schema_migrations", 0):
        print(
            "The backup has the schema of an older release. The first new pod migrates it: "
            f"kubectl --namespace {database.namespace} rollout restart deployment --selector "
            f"{_selector(database.release)}",
            flush=True,
        )


def _changed(database: Database, schema: str, failure: str) -> bool:
    """Whether a restore that failed on the client was committed, as after a lost connection. Raises Failed if that is
    unknown."""
    try:
        database.rows()  # waits for transactions that hold locks on the tables
        return database.run(SCHEMA) != schema
    except Failed as error:
        raise Failed(
            "The restore failed, and PostgreSQL is not responding. Its data is either all of the backup or all of the"
            f" previous data: check once it responds.\n{failure}\n{error}"
        ) from error


def _confirm(release: str) -> None:
    confirmation = os.environ.get("CONFIRM", "")
    if not confirmation and sys.stdin.isatty():
        confirmation = input(f"Type the release's name, {release}, to continue: ").strip()
    if confirmation != release:
        raise Refused(f"Nothing was changed. To restore, confirm with the release's name: CONFIRM={release}")


# --- backups of the CronJob -----------------------------------------------------------

NAMES = '"$NAME-????????T??????Z.dump"'
# As in the CronJob: a Secret created from a file that an editor saved ends with a newline.
KEYS = "".join(
    f"""{key}=$(printf %s "${key}" | tr -d '\\r\\n'); """
    for key in ("RCLONE_CONFIG_S3_ACCESS_KEY_ID", "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY")
)
READ_COMMANDS = {
    "backup": (f"cd /backups && find . -maxdepth 1 -name {NAMES}", 'cat "/backups/$0"'),
    "upload": (f'{KEYS} rclone lsf --files-only --include {NAMES} "$TARGET/"', f'{KEYS} rclone cat "$TARGET/$0"'),
}
"""By the name of the CronJob's container: the command that lists its backups, and the one that prints backup $0."""
NAME = re.compile(r"[a-z0-9.-]+-\d{8}T\d{6}Z\.dump")


@contextlib.contextmanager
def cronjob_backup(database: Database, source: str) -> Iterator[tuple[str, Callable[[IO[bytes]], object]]]:
    """A backup of database.bundled.backup (the newest if the source is `cronjob`): its name, and a function that writes
    it.

    Raises Refused or Failed.
    """
    jobs = _items(database.namespace, "cronjobs", f"{_selector(database.release)},app.kubernetes.io/component=backup")
    if not jobs:
        raise Refused(f"Release {database.release} has no database.bundled.backup. To create a backup: make backup")
    # A pod like the CronJob's, with its volume or its bucket credentials, that only sleeps.
    template = jobs[0]["spec"]["jobTemplate"]["spec"]["template"]
    template["spec"].pop("initContainers", None)
    container = template["spec"]["containers"][0]
    list_names, read = READ_COMMANDS[container["name"]]
    container |= {"command": ["sleep"], "args": ["3600"]}
    name = f"{jobs[0]['metadata']['name']}-read-{os.getpid()}"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template["metadata"]
        | {"name": name},  # with its labels and annotations, which admission policies may require
        "spec": template["spec"] | {"activeDeadlineSeconds": 3600, "terminationGracePeriodSeconds": 0},
    }
    in_namespace = ("--namespace", database.namespace)
    kubectl(*in_namespace, "create", "--filename", "-", stdin=json.dumps(pod))
    try:
        kubectl(*in_namespace, "wait", f"pod/{name}", "--for=condition=Ready", "--timeout=120s")
        in_pod = (*in_namespace, "exec", name, "--container", container["name"], "--", "sh", "-c")
        names = sorted(line.removeprefix("./") for line in kubectl(*in_pod, list_names).split())
        if not names:
            raise Refused("The CronJob has not created a backup yet. To create one: make backup")
        found = names[-1] if source == "cronjob" else source
        others = "".join(f"\n  {other}" for other in names if other != found)
        if found not in names:
            raise Refused(f"The CronJob has no backup {found}. Available:{others}")
        if others:
            print(f"Downloading {found}. Others, for FROM=NAME:{others}", flush=True)
        yield found, lambda to: _exec("kubectl", *in_pod, read, found, to=to)
    finally:
        kubectl(*in_namespace, "delete", "pod", name, "--ignore-not-found", "--wait=false")


def run_command(arguments: list[str]) -> None:
    """Runs one command. Raises Refused or Failed."""
    if shutil.which("kubectl") is None:
        raise Refused("kubectl is required but was not found. Install it: make doctor")
    file, source = os.environ.get("FILE", ""), os.environ.get("FROM", "")
    match arguments:
        case ["backup"] if source == "cronjob" or NAME.fullmatch(source):
            database = find()
            with cronjob_backup(database, source) as (name, write):
                backup(database, Path(file) if file else Path("backups", name), write)
        case ["backup"] if not source:
            database = find()
            target = Path(file) if file else default_file(database.release, datetime.now(UTC))
            backup(database, target, lambda to: database.run(DUMP, to=to))
        case ["backup"]:
            raise Refused(
                f"Unknown FROM={source}. To create a backup: make backup. FROM=cronjob downloads the newest of"
                " database.bundled.backup, FROM=NAME another one."
            )
        case ["restore"] if file and not source:
            restore(find(), Path(file))
        case ["restore"]:
            raise Refused(
                "No backup given. Set one: make restore FILE=... To download the newest of database.bundled.backup"
                " first: make backup FROM=cronjob"
            )
        case _:
            raise Refused(f"Unknown command {' '.join(arguments)!r}.\n{__doc__}")


def main() -> int:
    """Runs one command; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that cleanup runs
    try:
        with kubeconfig():
            run_command(sys.argv[1:])
    except Refused as refusal:
        print(refusal, file=sys.stderr)
        return 2
    except Failed as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
