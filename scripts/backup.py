"""Backs up the chart's own PostgreSQL to a file of this machine, and restores it from one, while the pods run.

    scripts/backup.sh backup     writes FILE, which must not be there
    scripts/backup.sh restore    puts what is in FILE in the place of what is there

Which cluster: KUBE_CONFIG (a kubeconfig, base64) or KUBECONFIG (a file), and its current context; without either that
of `make up`.

    RELEASE (SERVICE)       whose database
    NAMESPACE               where it is (without it: that of the context)
    FILE                    the backup; backup writes backups/RELEASE-TIME.dump without it
    FROM=cronjob            for backup: fetches the newest that database.bundled.backup made, and makes none; FROM=NAME
                            fetches the one of that name
    CONFIRM                 for restore without a terminal to ask on: the release's name
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
from pathlib import Path
from typing import IO, Any

from scripts.deploy.kubeconfig import kubeconfig
from scripts.deploy.processes import Failed, Refused

MAGIC = b"PGDMP"
"""What a dump of pg_dump's custom format begins with."""
TRIES = 5
"""PostgreSQL ends one of two transactions that wait for each other, and that may be the restore."""

# In the database's pod, where both programs are of the server's version and its socket asks for no password.
DUMP = 'exec pg_dump --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --format=custom'
PSQL = 'psql --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" --quiet --no-psqlrc --set=ON_ERROR_STOP=1'
# Not pg_restore --clean: that drops what is in the dump alone, and a table that a later release added would be in the
# way of its own migration. Without COMMIT, as where the dump ends too early, PostgreSQL undoes all of it.
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
# Another one after a restore, which makes the schema anew.
SCHEMA = f"""{PSQL} --tuples-only --no-align --command="SELECT oid FROM pg_namespace WHERE nspname = 'public'\""""
# Reads all of a dump, where --list would read its head alone: one that was cut short has a whole head.
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
"""How many rows each table has."""


@dataclasses.dataclass(frozen=True)
class Database:
    """A PostgreSQL that the chart brought, by its pod."""

    release: str
    namespace: str
    server: str
    pod: str

    def run(self, command: str, *, given: IO[bytes] | None = None, to: IO[bytes] | None = None) -> str:
        """What the command says in the pod, or nothing where it goes `to` a file. Raises Failed with its reason."""
        stdin = ["--stdin"] if given else []
        inside = ("exec", *stdin, self.pod, "--container", "postgres", "--", "bash", "-c", command)
        return _must("kubectl", "--namespace", self.namespace, *inside, given=given, to=to)

    def rows(self) -> Rows:
        return _rows(self.run(ROWS_NOW))

    def rows_in(self, dump: Path) -> Rows:
        """Of a dump, all of which is read. Raises Failed where it is none, or not whole."""
        with dump.open("rb", buffering=0) as file:  # the program that gets it reads from where the system is
            if file.read(len(MAGIC)) != MAGIC:
                raise Failed("it is no dump of pg_dump's custom format")
            file.seek(0)
            return _rows(self.run(ROWS_IN_DUMP, given=file))

    def __str__(self) -> str:
        return f"release {self.release}, namespace {self.namespace}, cluster {self.server}"


def _must(*command: str, given: IO[bytes] | None = None, to: IO[bytes] | None = None) -> str:
    stdin, stdout = given or subprocess.DEVNULL, to or subprocess.PIPE
    done = subprocess.run(command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").splitlines()
        raise Failed("\n".join(line for line in lines if not line.startswith("command terminated")) or "no answer")
    return "" if to else done.stdout.decode()


def _rows(said: str) -> Rows:
    return {table.removeprefix("public."): int(rows) for table, rows in map(str.split, said.splitlines())}


def kubectl(*arguments: str, given: str | None = None) -> str:
    """What it prints. Raises Failed."""
    done = subprocess.run(["kubectl", *arguments], input=given, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Failed(f"kubectl {' '.join(arguments[:4])} failed: {done.stderr.strip()}")
    return done.stdout


def find() -> Database:
    """That of the release which the environment names. Raises Refused where there is none of the chart, or not now."""
    release = os.environ.get("RELEASE") or os.environ["SERVICE"]
    view = json.loads(kubectl("config", "view", "--minify", "--output", "json"))
    namespace = os.environ.get("NAMESPACE") or view["contexts"][0]["context"].get("namespace") or "default"
    server = view["clusters"][0]["cluster"]["server"]
    found = _items(namespace, "pods", f"{_of(release)},app.kubernetes.io/name=postgres")
    if len(names := sorted(pod["metadata"]["name"] for pod in found)) > 1:
        raise Refused(
            f"Release {release} has {len(names)} databases, one of each chart in it, and nothing here names one of "
            f"them: {', '.join(names)}. Call pg_dump in the pod that you mean: kubectl --namespace {namespace} exec"
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
    raise Refused(_elsewhere(release, namespace, server))


def _of(release: str) -> str:
    return f"app.kubernetes.io/instance={release}"


def _items(namespace: str, kind: str, selector: str) -> list[Any]:
    said = kubectl("--namespace", namespace, "get", kind, "--selector", selector, "--output", "json")
    items: list[Any] = json.loads(said)["items"]
    return items


def _elsewhere(release: str, namespace: str, server: str) -> str:
    """What to do about a database that is not the chart's own."""
    deployments = _items(namespace, "deployments", f"{_of(release)},app.kubernetes.io/component=api")
    if not deployments:
        return (
            f"There is no release {release} in namespace {namespace} of cluster {server}. "
            "Name another: RELEASE=... NAMESPACE=... (helm list --all-namespaces shows them)"
        )
    for variable in deployments[0]["spec"]["template"]["spec"]["containers"][0].get("env", []):
        secret = variable.get("valueFrom", {}).get("secretKeyRef")
        if variable["name"].endswith("DATABASE_URL") and secret:
            url = (
                f"url=$(kubectl --namespace {namespace} get secret {secret['name']}"
                f" --output go-template='{{{{index .data \"{secret['key']}\" | base64decode}}}}')"
            )
            return (
                f"Release {release} has a database of your own, which has backups of its own kind. From a machine that "
                f"reaches it, with programs of its version:\n  {url}\n"
                '  pg_dump --format=custom --file=FILE --dbname="$url"\n'
                '  pg_restore --clean --if-exists --no-owner --single-transaction --exit-on-error --dbname="$url" FILE'
            )
    return f"Release {release} keeps nothing in a database: there is nothing to back up."


# --- backup ---------------------------------------------------------------------------


def backup(database: Database, file: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Writes FILE, which is there once it is whole. Raises Refused or Failed, and leaves nothing then."""
    if file.exists():
        raise Refused(f"{file} is there already, and is not overwritten. Name another one, FILE=..., or remove it.")
    try:
        with _new(file) as (written, part):
            write(written)
            rows = database.rows_in(part)
    except Failed as failure:
        raise Failed(f"No backup was made, and {file} is not there:\n{failure}") from failure
    except OSError as error:
        raise Failed(f"{file} cannot be written: {error.strerror}. Nothing is left of the try.") from error
    size = file.stat().st_size
    print(f"{file} is a whole backup of {database}: {_text(rows)}, {size:,} bytes.", flush=True)


@contextlib.contextmanager
def _new(file: Path) -> Iterator[tuple[IO[bytes], Path]]:
    """A file under another name beside it, for its owner alone, that takes its name once the block ends well."""
    if file.parent == Path("backups"):
        file.parent.mkdir(mode=0o700, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            yield written, part
            os.fsync(written.fileno())
        part.rename(file)
    finally:
        part.unlink(missing_ok=True)
    folder = os.open(file.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _default_file(release: str, what: str = "") -> Path:
    return Path("backups", f"{release}{what}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.dump")


def _text(rows: Rows) -> str:
    return ", ".join(f"{table} {number}" for table, number in rows.items()) or "no table"


# --- restore --------------------------------------------------------------------------


def restore(database: Database, file: Path) -> None:
    """Asks, makes a backup of what is there, and restores. Raises Refused or Failed: then nothing has changed."""
    try:
        coming = database.rows_in(file)
    except OSError as error:
        raise Refused(f"{file} cannot be read: {error.strerror}. Name a backup: make restore FILE=...") from error
    except Failed as failure:
        raise Refused(f"{file} cannot be restored, and nothing was changed:\n{failure}") from failure
    there = database.rows()
    print(f"{file} takes the place of what is in {database}:\n")
    print(f"  {'rows of':<24}{'now':>12}{'backup':>12}")
    for table in sorted(there | coming):
        print(f"  {table:<24}{there.get(table, '-'):>12}{coming.get(table, '-'):>12}")
    print(flush=True)
    _confirm(database.release)
    safety = _default_file(database.release, "-before-restore")
    backup(database, safety, lambda to: database.run(DUMP, to=to))
    schema = database.run(SCHEMA)
    for attempt in range(1, TRIES + 1):
        try:
            with file.open("rb") as opened:
                database.run(RESTORE, given=opened)
            break
        except Failed as failure:
            if "deadlock detected" in str(failure) and attempt < TRIES:
                print("A request and the restore waited for each other; nothing was changed. Once more.", flush=True)
                continue
            if _changed(database, schema, f"{failure}\nWhat was there is in {safety}, too."):
                print(f"The connection broke, and all was restored before:\n{failure}", flush=True)
                break
            raise Failed(
                f"Nothing was restored and nothing was changed: the restore is one transaction.\n{failure}\n"
                f"What is there is also in {safety}."
            ) from failure
    print(f"Restored, in one transaction: {_text(coming)}. What was there before is in {safety}.", flush=True)
    # Until then PostgreSQL has no idea how big its tables are, and neither have the totals that are estimates.
    database.run(ANALYZE)
    if coming.get("schema_migrations", 0) < there.get("schema_migrations", 0):
        print(
            "It is of an older release and has its schema. The first new pod brings that up to date: "
            f"kubectl --namespace {database.namespace} rollout restart deployment --selector {_of(database.release)}",
            flush=True,
        )


def _changed(database: Database, schema: str, failure: str) -> bool:
    """Whether a restore that failed here was done there, as where the connection broke. Raises Failed: nobody knows."""
    try:
        database.rows()  # waits for who has the tables locked
        return database.run(SCHEMA) != schema
    except Failed as silent:
        raise Failed(
            "The restore failed, and PostgreSQL does not say what is there now. It is all of the backup, or all of what"
            f" was there before: look once it answers.\n{failure}\n{silent}"
        ) from silent


def _confirm(release: str) -> None:
    given = os.environ.get("CONFIRM", "")
    if not given and sys.stdin.isatty():
        given = input(f"Type the release's name, {release}, to go on: ").strip()
    if given != release:
        raise Refused(f"Nothing was changed. To go on, confirm it by the release's name: CONFIRM={release}")


# --- what the CronJob made ------------------------------------------------------------

NAMES = '"$NAME-????????T??????Z.dump"'
# As the CronJob itself does: a file that an editor wrote, and a Secret was made from, ends with a new line.
KEYS = "".join(
    f"""{key}=$(printf %s "${key}" | tr -d '\\r\\n'); """
    for key in ("RCLONE_CONFIG_S3_ACCESS_KEY_ID", "RCLONE_CONFIG_S3_SECRET_ACCESS_KEY")
)
KEPT = {
    "backup": (f"cd /backups && find . -maxdepth 1 -name {NAMES}", 'cat "/backups/$0"'),
    "upload": (f'{KEYS} rclone lsf --files-only --include {NAMES} "$TARGET/"', f'{KEYS} rclone cat "$TARGET/$0"'),
}
"""By the name of the CronJob's container: what prints the names of its backups, and what prints the backup $0."""
NAME = re.compile(r"[a-z0-9.-]+-\d{8}T\d{6}Z\.dump")


@contextlib.contextmanager
def kept_by_cronjob(database: Database, source: str) -> Iterator[tuple[str, Callable[[IO[bytes]], object]]]:
    """A backup of database.bundled.backup, the newest where the source is `cronjob`: its name, and what writes it.

    Raises Refused or Failed.
    """
    jobs = _items(database.namespace, "cronjobs", f"{_of(database.release)},app.kubernetes.io/component=backup")
    if not jobs:
        raise Refused(f"Release {database.release} has no database.bundled.backup. To make a backup: make backup")
    # A pod as the CronJob makes them, which has the volume or the keys of the bucket, and does nothing.
    template = jobs[0]["spec"]["jobTemplate"]["spec"]["template"]
    template["spec"].pop("initContainers", None)
    container = template["spec"]["containers"][0]
    list_names, read = KEPT[container["name"]]
    container |= {"command": ["sleep"], "args": ["3600"]}
    name = f"{jobs[0]['metadata']['name']}-read-{os.getpid()}"
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template["metadata"] | {"name": name},  # with its labels and annotations, as admission may ask for
        "spec": template["spec"] | {"activeDeadlineSeconds": 3600, "terminationGracePeriodSeconds": 0},
    }
    here = ("--namespace", database.namespace)
    kubectl(*here, "create", "--filename", "-", given=json.dumps(pod))
    try:
        kubectl(*here, "wait", f"pod/{name}", "--for=condition=Ready", "--timeout=120s")
        inside = (*here, "exec", name, "--container", container["name"], "--", "sh", "-c")
        there = sorted(line.removeprefix("./") for line in kubectl(*inside, list_names).split())
        if not there:
            raise Refused("The CronJob has made no backup yet. To make one: make backup")
        found = there[-1] if source == "cronjob" else source
        others = "".join(f"\n  {other}" for other in there if other != found)
        if found not in there:
            raise Refused(f"The CronJob has no backup {found}. There are:{others}")
        if others:
            print(f"{found} is fetched. There are others, which FROM=NAME fetches:{others}", flush=True)
        yield found, lambda to: _must("kubectl", *inside, read, found, to=to)
    finally:
        kubectl(*here, "delete", "pod", name, "--ignore-not-found", "--wait=false")


def do(words: list[str]) -> None:
    """One verb. Raises Refused or Failed."""
    if shutil.which("kubectl") is None:
        raise Refused("kubectl is needed and was not found. Install it: make doctor")
    file, source = os.environ.get("FILE", ""), os.environ.get("FROM", "")
    match words:
        case ["backup"] if source == "cronjob" or NAME.fullmatch(source):
            database = find()
            with kept_by_cronjob(database, source) as (name, write):
                backup(database, Path(file) if file else Path("backups", name), write)
        case ["backup"] if not source:
            database = find()
            where = Path(file) if file else _default_file(database.release)
            backup(database, where, lambda to: database.run(DUMP, to=to))
        case ["backup"]:
            raise Refused(
                f"FROM={source} is not known. A backup is made by make backup. The newest of database.bundled.backup is"
                " fetched by FROM=cronjob, another by its name."
            )
        case ["restore"] if file and not source:
            restore(find(), Path(file))
        case ["restore"]:
            raise Refused(
                "What is to be restored? Name a backup: make restore FILE=... The newest of database.bundled.backup is"
                " fetched by: make backup FROM=cronjob"
            )
        case _:
            raise Refused(f"{' '.join(words)!r} is not what this script does:\n{__doc__}")


def main() -> int:
    """One verb; returns the exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was begun is cleared away
    try:
        with kubeconfig():
            do(sys.argv[1:])
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
