"""Live update of the tasks service: its startup, and its migrations."""

from __future__ import annotations

import time
from collections.abc import Callable

from e2e.conftest import SUMMARY
from e2e.dev_container import PACKAGE, RELOAD_LINE, Running, median, running, timed_save
from e2e.eventually import eventually

SAVES = 5
PAUSE_SECONDS = 1.0
"""A developer looks at the response before the next save. The modules before the last saved file are then preloaded,
starting 0.2 s after the response."""


def tables(dev: Running) -> set[str]:
    """The tables of the SQLite file."""
    program = "import sqlite3; print(*(t for t, in sqlite3.connect('/tmp/tasks.db').execute("
    return set(dev.run("python", "-c", program + "'SELECT name FROM sqlite_master')))").split())


def test_saved_line_of_a_route_is_served(dev_image: str, record_property: Callable[[str, object], None]) -> None:
    routes = f"{PACKAGE}/tasks/routes.py"
    with running(dev_image) as dev:
        before = dev.read(routes)

        def save(version: str) -> None:
            dev.save({routes: f'{before}\n\nimport task_api\n\ntask_api.__version__ = "{version}"\n'})

        saves = []
        for number in range(SAVES):
            time.sleep(PAUSE_SECONDS)
            saves.append(timed_save(dev, f"9.9.{number}", save))
    record_property(SUMMARY, f"Median of {SAVES} saves of a route, {PAUSE_SECONDS:g} s apart: {median(saves)}")


def test_startup_error_is_in_the_response(dev_image: str) -> None:
    with running(dev_image) as dev:
        before = dev.read(f"{PACKAGE}/service.py")
        broken = before.replace("await super().open()", "1 / 0")
        assert broken != before
        dev.save({f"{PACKAGE}/service.py": broken})
        dev.fails("ZeroDivisionError")


def test_saved_migration_is_applied_and_rejected_once_it_was_changed(dev_image: str) -> None:
    migration = f"{PACKAGE}/store/migrations/sqlite/0099_effort.sql"
    with running(dev_image, storage="sqlite:////tmp/tasks.db") as dev:
        dev.save({migration: "CREATE TABLE effort (hours integer);\n"})
        eventually(lambda: "effort" in tables(dev), "the migration is applied")
        dev.save({migration: "CREATE TABLE effort (minutes integer);\n"})
        dev.fails("migration 0099 effort was changed after it was applied")
        dev.save({migration: "CREATE TABLE effort (hours integer);\n"})
        eventually(lambda: dev.version() is not None, "it serves again")


def test_partially_written_file_is_not_loaded_yet(dev_image: str) -> None:
    migration = f"{PACKAGE}/store/migrations/sqlite/0099_effort.sql"
    with running(dev_image, storage="sqlite:////tmp/tasks.db") as dev:
        with dev.writing(migration) as file:
            eventually(lambda: dev.run("sh", "-c", f"ls /{migration} || true"), "the file exists and is empty")
            dev.save_version("8.8.8")
            time.sleep(0.5)  # nothing may happen during it
            file.write(b"CREATE TABLE effort (hours integer);\n")
            file.flush()
            eventually(lambda: "effort" in dev.run("sh", "-c", f"cat /{migration} || true"), "the file is half written")
            dev.save_version("9.9.9")
            file.write(b"CREATE TABLE rest (hours integer);\n")
        dev.serves("9.9.9")
        assert tables(dev) >= {"effort", "rest"}
        assert dev.log().count(RELOAD_LINE) == 1
