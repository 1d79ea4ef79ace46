"""`backup` and `restore` of a SQLite file, with the service running and stopped."""

from __future__ import annotations

import contextlib
import resource
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from running import Service, eventually, expect_error, run, serving

from chassis.storage import StoreUnavailable
from task_api.store import sqlite_backup


def settings(database: Path) -> dict[str, str]:
    return {"TASKS_DATABASE_URL": f"sqlite:///{database}"}


def write(service: Service, title: str) -> dict[str, Any]:
    response = httpx2.post(f"{service.url}/v1/tasks", json={"title": title})
    assert response.status_code == 201, response.text
    task: dict[str, Any] = response.json()
    return task


def titles(service: Service) -> list[str]:
    found = httpx2.get(f"{service.url}/v1/tasks", params={"page_size": 200, "sort": "created_at"}).json()
    return [task["title"] for task in found["items"]]


@contextlib.contextmanager
def writers(service: Service) -> Iterator[list[dict[str, Any]]]:
    """Two clients that write until the end of the block; the list has the acknowledged tasks."""
    acknowledged: list[dict[str, Any]] = []
    stop = threading.Event()

    def go_on() -> None:
        with httpx2.Client(base_url=service.url) as client:
            while not stop.is_set():
                response = client.post("/v1/tasks", json={"title": "meanwhile"})
                assert response.status_code == 201, response.text
                acknowledged.append(response.json())

    with ThreadPoolExecutor(2) as threads:
        going = [threads.submit(go_on) for _ in range(2)]
        try:
            yield acknowledged
        finally:
            stop.set()
    for one in going:
        one.result()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file that the service created with one task, and closed."""
    file = tmp_path / "tasks.db"
    with serving(**settings(file)) as service:
        write(service, "kept")
        assert service.stop() == 0
    return file


def test_a_backup_during_writes_has_every_task_acknowledged_before_it(tmp_path: Path) -> None:
    database, backup = tmp_path / "tasks.db", tmp_path / "backup.db"
    with serving(**settings(database)) as service, writers(service) as acknowledged:
        eventually(lambda: len(acknowledged) >= 50, "fifty tasks are written")
        before = list(acknowledged)
        done = run("backup", str(backup), **settings(database))
        assert done.returncode == 0, done.stderr
        seen = len(acknowledged)
        eventually(lambda: len(acknowledged) > seen, "writing goes on")
    with serving(**settings(backup)) as restored, httpx2.Client(base_url=restored.url) as client:
        for task in before:
            assert client.get(f"/v1/tasks/{task['id']}").json() == task
        # All are complete: search, lookup by id and the feed find the same tasks.
        total = client.get("/health").json()["tasks_total"]
    with contextlib.closing(sqlite3.connect(backup)) as db:
        counts = [
            db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("tasks", "task_words", "changes")
        ]
    assert counts == [total] * 3
    assert f"{total} tasks of" in done.stdout


def test_a_backup_is_one_file_readable_only_by_its_owner(database: Path, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    backup = tmp_path / "backups/first.db"
    assert run("backup", str(backup), **settings(database)).returncode == 0
    assert list(backup.parent.iterdir()) == [backup]
    assert backup.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(sqlite3.connect(f"file:{backup}?mode=ro", uri=True)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)  # no other files belong to it
        assert db.execute("SELECT title FROM tasks").fetchall() == [("kept",)]


def test_a_backup_after_kill_9_has_every_acknowledged_task(tmp_path: Path) -> None:
    database, backup = tmp_path / "tasks.db", tmp_path / "backup.db"
    with serving(**settings(database)) as service:
        write(service, "in the -wal file alone")
        service.process.kill()
        service.process.wait()
    assert run("backup", str(backup), **settings(database)).returncode == 0
    with serving(**settings(backup)) as restored:
        assert titles(restored) == ["in the -wal file alone"]


def test_a_restore_under_a_running_service_is_complete_and_keeps_the_previous_contents(
    database: Path, tmp_path: Path
) -> None:
    backup = tmp_path / "backup.db"
    assert run("backup", str(backup), **settings(database)).returncode == 0
    with serving(**settings(database)) as service:
        write(service, "after the backup")
        done = run("restore", str(backup), **settings(database))
        assert done.returncode == 0, done.stderr
        assert titles(service) == ["kept"]
        write(service, "after the restore")
        assert titles(service) == ["kept", "after the restore"]
        assert service.stop() == 0
    (before,) = tmp_path.glob("tasks.db.before-restore-*Z")
    assert str(before) in done.stdout
    with serving(**settings(before)) as service:
        assert titles(service) == ["kept", "after the backup"]


def test_a_reader_of_changes_gets_an_error_after_a_restore(database: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    with serving(**settings(database)) as service:
        assert run("backup", str(backup), **settings(database)).returncode == 0
        kept = httpx2.get(f"{service.url}/v1/changes").json()
        write(service, "after the backup")
        lost = httpx2.get(f"{service.url}/v1/changes").json()
        assert run("restore", str(backup), **settings(database)).returncode == 0
        write(service, "after the restore")
        response = httpx2.get(f"{service.url}/v1/changes", params={"since": lost["next_since"]})
        assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (410, "other-history")
        later = httpx2.get(f"{service.url}/v1/changes", params={"since": kept["next_since"]}).json()
        assert [change["task"]["title"] for change in later["items"]] == ["after the restore"]


def test_a_restore_creates_the_file_and_migrates_the_schema(database: Path, tmp_path: Path) -> None:
    backup, elsewhere = tmp_path / "backup.db", tmp_path / "new/folder/tasks.db"
    with contextlib.closing(sqlite3.connect(database)) as db:
        db.execute("ALTER TABLE schema_migrations DROP COLUMN checksum")  # as an older release had it
    assert run("backup", str(backup), **settings(database)).returncode == 0
    done = run("restore", str(backup), **settings(elsewhere))
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"Restored 1 tasks of {backup} to {elsewhere}.\n"
    with contextlib.closing(sqlite3.connect(elsewhere)) as db:
        assert db.execute("SELECT count(checksum) > 0 FROM schema_migrations").fetchone() == (1,)
    with serving(**settings(elsewhere)) as service:
        assert titles(service) == ["kept"]


# --- errors: the message is clear, and nothing is left or changed ------------------------


def test_a_backup_does_not_overwrite_files(database: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("not to be lost")
    assert "already exists and is not overwritten" in expect_error("backup", str(mine), **settings(database))
    assert mine.read_text() == "not to be lost"
    assert "is the database itself" in expect_error("backup", str(database), **settings(database))


def test_a_backup_without_a_database_is_an_error(tmp_path: Path) -> None:
    missing, backup = tmp_path / "missing.db", tmp_path / "backup.db"
    assert f"There is no SQLite file {missing}" in expect_error("backup", str(backup), **settings(missing))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "tasks.db").write_bytes(b"")
    assert "it does not have the tables of this service" in expect_error(
        "backup", str(backup), **settings(tmp_path / "tasks.db")
    )
    assert not backup.exists()


def test_a_backup_into_a_missing_folder_is_an_error(database: Path, tmp_path: Path) -> None:
    error = expect_error("backup", str(tmp_path / "nowhere/backup.db"), **settings(database))
    assert "No such file or directory" in error
    assert "No partial file is left." in error


def test_a_backup_on_a_full_disk_leaves_no_partial_file(database: Path, tmp_path: Path) -> None:
    (tmp_path / "backups").mkdir()
    backup = tmp_path / "backups/backup.db"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))  # maximum file size: as on a full disk
    try:
        with pytest.raises(StoreUnavailable, match=r"Cannot back up .*: disk I/O error\. No partial file is left\."):
            sqlite_backup.back_up(database, backup)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(backup.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "it does not have the tables of this service"), (b"PGDMP" * 1000, "file is not a database")],
)
def test_an_invalid_backup_is_not_restored(database: Path, tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "wrong").write_bytes(content)
    before = database.read_bytes()
    error = expect_error("restore", str(tmp_path / "wrong"), **settings(database))
    assert reason in error
    assert "Nothing was changed." in error
    assert database.read_bytes() == before


def test_a_backup_with_a_torn_page_is_not_restored(database: Path, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    assert run("backup", str(backup), **settings(database)).returncode == 0
    with contextlib.closing(sqlite3.connect(backup)) as db:
        (page,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'tasks_by_update'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    whole = backup.read_bytes()
    backup.write_bytes(whole[: (page - 1) * size] + b"\xff" * size + whole[page * size :])
    error = expect_error("restore", str(backup), **settings(database))
    assert "Nothing was changed." in error
    with serving(**settings(database)) as service:
        assert titles(service) == ["kept"]


def test_a_restore_that_times_out_on_a_lock_changes_nothing(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backup = tmp_path / "backup.db"
    sqlite_backup.back_up(database, backup)
    monkeypatch.setattr(sqlite_backup, "LOCKED_SECONDS", 0.2)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable, match="Another process has locked"):
            sqlite_backup.restore(backup, database)
        other.execute("ROLLBACK")
        assert other.execute("SELECT title FROM tasks").fetchall() == [("kept",)]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://", "Tasks are stored in memory"),
        ("postgresql://me:hunter2@db/tasks", "In a cluster: make backup, make restore FILE=..."),
    ],
)
@pytest.mark.parametrize("command", ["backup", "restore"])
def test_other_backends_get_advice_on_backups(tmp_path: Path, command: str, url: str, message: str) -> None:
    error = expect_error(command, str(tmp_path / "tasks.db"), TASKS_DATABASE_URL=url)
    assert message in error
    assert "hunter2" not in error
    assert list(tmp_path.iterdir()) == []
