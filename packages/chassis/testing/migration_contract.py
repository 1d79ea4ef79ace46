"""Contract of every store for migrations that were changed, are incomplete, or were applied without checksums."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import ClassVar

import pytest

from chassis.storage import StoreUnavailable

Start = Callable[[], Awaitable[None]]
"""Opens and closes the store, as a process of the service does at startup and shutdown."""
Execute = Callable[[str], Awaitable[list[tuple[object, ...]]]]
"""Executes a statement, bypassing the store; returns its rows."""

NUMBERS = "SELECT number FROM schema_migrations ORDER BY number"
WITHOUT_CHECKSUM = "SELECT number FROM schema_migrations WHERE checksum IS NULL"


class MigrationContract:
    """Base class: pytest collects its subclasses. Their modules define the fixtures `start`, `execute` and `folder`,
    with copies of the migrations that the store applies.

    first: file name of the first migration. word: a word in it.
    """

    first: ClassVar[str]
    word: ClassVar[str]

    @property
    def title(self) -> str:
        return self.first.removesuffix(".sql").replace("_", " ")

    async def test_a_changed_migration_is_rejected_by_name_until_it_is_restored(
        self, start: Start, folder: Path
    ) -> None:
        await start()
        file = folder / self.first
        before = file.read_text()
        assert self.word in before
        file.write_text(before.replace(self.word, "other"))
        with pytest.raises(
            StoreUnavailable, match=rf"{self.title} was changed .* Restore the file.* next number\. Or, .*"
        ):
            await start()
        file.write_text(before)
        await start()

    async def test_different_line_endings_are_not_a_change(self, start: Start, folder: Path) -> None:
        await start()
        file = folder / self.first
        file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))
        await start()

    async def test_migrations_applied_without_checksums_are_accepted(
        self, start: Start, folder: Path, execute: Execute
    ) -> None:
        await start()
        await execute("ALTER TABLE schema_migrations DROP COLUMN checksum")
        await start()
        assert await execute(WITHOUT_CHECKSUM) == []
        (folder / self.first).write_text("SELECT 1;")
        with pytest.raises(StoreUnavailable, match=self.title):
            await start()

    async def test_a_release_without_checksums_works_with_the_new_schema(
        self, start: Start, folder: Path, execute: Execute
    ) -> None:
        await start()
        await execute("INSERT INTO schema_migrations (number, name, applied_at) VALUES (9999, 'theirs', '2026-11-23')")
        await start()  # this release does not know it
        (folder / "9999_theirs.sql").write_text("SELECT 1;")
        await start()
        assert await execute(WITHOUT_CHECKSUM) == []

    @pytest.mark.parametrize("rest", ["ALTER TABLE half ADD COLUMN", "INSERT INTO half VALUES"])
    async def test_a_failed_migration_leaves_nothing_behind(
        self, start: Start, folder: Path, execute: Execute, rest: str
    ) -> None:
        await start()
        applied = await execute(NUMBERS)
        file = folder / "9999_half.sql"
        file.write_text(f"CREATE TABLE half (a integer);\n{rest}")
        with pytest.raises(StoreUnavailable):
            await start()
        assert await execute(NUMBERS) == applied
        file.write_text("CREATE TABLE half (a integer);")
        await start()
        assert await execute("SELECT a FROM half") == []
