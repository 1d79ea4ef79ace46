"""After a failover or a restore: readers ahead of the storage get an error, and all others miss nothing."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from databases import connected
from making import NOW, a_task
from replicated import replicated
from restored import FIRST, SECOND, Server, backed_up
from stores import migrate_up_to, open_store

from task_api.store import IdempotencyRecord, OtherHistory, Store, StoredChange, StoreUnavailable, Write, from_url
from task_api.store.postgres import _parse_cursor
from task_api.tasks.models import Task, to_json
from task_api.tasks.query import Query, read_order


@dataclass
class Reader:
    """Follows the feed, and keeps each of its cursors."""

    cursors: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)

    async def read(self, store: Store, up_to: str) -> None:
        """Until it has read the change with this title."""
        async with asyncio.timeout(30):
            while up_to not in self.titles:
                await self.read_some(store)

    async def read_some(self, store: Store) -> Sequence[StoredChange]:
        changes = await store.changes(self.cursors[-1] if self.cursors else None, size=2)
        self.cursors += [change.cursor for change in changes]
        self.titles += [change.task.title for change in changes]
        return changes


async def write(store: Store, *titles: str) -> None:
    """Concurrently."""
    tasks = [a_task(title=title) for title in titles]
    await asyncio.gather(*(store.commit([Write(task, "created")], now=NOW) for task in tasks))


async def titles_after(store: Store, cursor: str | None, *, up_to: str) -> list[str]:
    async with asyncio.timeout(30):
        while True:
            titles = [change.task.title for change in await store.changes(cursor, size=100)]
            if titles[-1:] == [up_to]:
                return titles
            await asyncio.sleep(0.01)


async def write_until_known(store: Store, reader: Reader) -> None:
    """Writes "a", "b" and "c", which the reader reads."""
    for title in "abc":
        await write(store, title)
    await reader.read(store, "c")


async def write_what_is_lost(store: Store, reader: Reader) -> None:
    for title in "de":
        await write(store, title)
    await reader.read(store, "e")


async def assert_continues(store: Store, reader: Reader, *, valid: int = 3) -> None:
    """The first `kept` cursors are valid in this history, which continues; the others are lost."""
    known, lost = reader.cursors[:valid], reader.cursors[valid:]
    for cursor in lost:
        with pytest.raises(OtherHistory):
            await store.changes(cursor, size=1)
    assert await store.changes(known[-1], size=1) == []
    assert await store.last_cursor() == known[-1]
    new = [f"new {n}" for n in range(30)]
    await write(store, *new)
    await write(store, "last")
    for n, cursor in enumerate(known, start=1):
        titles = await titles_after(store, cursor, up_to="last")
        assert titles[: valid - n] == reader.titles[n:valid]
        assert sorted(titles[valid - n :]) == sorted([*new, "last"])
    for cursor in lost:
        with pytest.raises(OtherHistory):
            await store.changes(cursor, size=1)


# --- failover ---------------------------------------------------------------------------


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_cursors_survive_a_failover_without_data_loss() -> None:
    reader = Reader()
    with replicated() as pair:
        async with open_store(pair.url, seconds=30, statement_seconds=20) as store:
            await write_until_known(store, reader)
        await asyncio.to_thread(pair.promote_running)
        async with open_store(pair.standby_url) as store:
            await assert_continues(store, reader)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_readers_of_changes_lost_in_a_failover_get_an_error() -> None:
    reader = Reader()
    with replicated() as pair:
        async with open_store(pair.url, seconds=30, statement_seconds=20) as store:
            await write_until_known(store, reader)
            await asyncio.to_thread(pair.disable_synchronous_replication)
            await asyncio.to_thread(pair.stop_standby)
            await write_what_is_lost(store, reader)
        await asyncio.to_thread(pair.promote)
        async with open_store(pair.standby_url) as store:
            await assert_continues(store, reader)


# --- restore of a server ----------------------------------------------------------------


@pytest.fixture(scope="module")
def container() -> Iterator[Server]:
    with backed_up() as one:
        yield one


@pytest.fixture
def server(container: Server) -> Server:
    container.start()
    return container


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_readers_past_a_point_in_time_recovery_get_an_error(server: Server) -> None:
    reader = Reader()
    async with open_store(server.url) as store:
        await write_until_known(store, reader)
        async with connected(server.url) as db:
            await db.execute("SELECT pg_create_restore_point('good')")
        await write_what_is_lost(store, reader)
    await asyncio.to_thread(server.recover_to, "good")
    async with open_store(server.second_url) as store:
        await assert_continues(store, reader)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_readers_past_a_restored_volume_snapshot_get_an_error(server: Server) -> None:
    """It has the server's identifier and timeline."""
    reader = Reader()
    async with open_store(server.url) as store:
        await write_until_known(store, reader)
    await asyncio.to_thread(server.snapshot)
    async with open_store(server.url) as store:
        await write_what_is_lost(store, reader)
    await asyncio.to_thread(server.back_to_snapshot)
    async with open_store(server.url) as store:
        await assert_continues(store, reader)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_a_task_changed_by_hand_before_and_after_the_restore_of_a_snapshot_is_current(server: Server) -> None:
    """The changes have the same version, time and transaction number."""
    task = a_task(title="a")
    async with open_store(server.url) as store:
        await store.commit([Write(task, "created")], now=NOW)
        await asyncio.to_thread(server.snapshot)
        await change_by_hand(server, store, task, "b")
        await asyncio.to_thread(server.back_to_snapshot)
        await change_by_hand(server, store, task, "c")


async def change_by_hand(server: Server, store: Store, task: Task, title: str) -> None:
    async with connected(server.url) as db:
        await db.execute("UPDATE tasks SET title = $1", title)
    found = await store.get_json(task.id)
    assert found == (1, to_json(task.model_copy(update={"title": title})))
    page = await store.page_json(Query(order=read_order("title")), size=10)
    assert [content for _, content in page] == [found[1]]


# --- restore of a dump ------------------------------------------------------------------


async def dump_and_go_on(server: Server, reader: Reader) -> None:
    async with open_store(server.url) as store:
        await write_until_known(store, reader)
        await asyncio.to_thread(server.dump)
        await write_what_is_lost(store, reader)


@pytest.mark.docker
@pytest.mark.postgresql
async def test_a_dump_can_be_restored_under_running_pods(server: Server) -> None:
    reader = Reader()
    await dump_and_go_on(server, reader)
    async with open_store(server.url) as store:
        await asyncio.to_thread(server.restore, FIRST)
        await assert_continues(store, reader)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_a_dump_restored_into_a_new_server_under_running_pods_continues_the_feed(server: Server) -> None:
    reader = Reader()
    await dump_and_go_on(server, reader)
    await asyncio.to_thread(server.start_second)
    async with open_store(server.second_url) as store, open_store(server.second_url) as other:
        await write(store, "of the young server")
        await asyncio.to_thread(server.restore, SECOND)
        await assert_continues(store, reader)
        assert await other.last_cursor() == await store.last_cursor()


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_an_sql_dump_restored_into_a_new_server_continues_the_feed(server: Server) -> None:
    reader = Reader()
    await dump_and_go_on(server, reader)
    await asyncio.to_thread(server.start_second)
    await asyncio.to_thread(server.restore_with_psql)
    async with open_store(server.second_url) as store:
        await assert_continues(store, reader)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_rows_copied_into_a_new_server_continue_the_feed(server: Server) -> None:
    reader = Reader()
    await dump_and_go_on(server, reader)
    await asyncio.to_thread(server.start_second)
    async with open_store(server.second_url) as store:
        await write(store, "of the young server")
        await asyncio.to_thread(server.restore_rows)
        await assert_continues(store, reader)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_a_fully_purged_feed_continues_in_a_new_server(server: Server) -> None:
    reader = Reader()
    async with open_store(server.url) as store:
        await write_until_known(store, reader)
        await store.purge(deleted_before=NOW + timedelta(days=1), records_before=NOW)
        await asyncio.to_thread(server.dump)
        await write_what_is_lost(store, reader)
    await asyncio.to_thread(server.start_second)
    await asyncio.to_thread(server.restore_with_psql)
    del reader.cursors[:2], reader.titles[:2]  # these are purged
    async with open_store(server.second_url) as store:
        assert await store.changes(None, size=1) == []
        await assert_continues(store, reader, valid=1)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
async def test_a_restored_database_can_be_restored_again(server: Server) -> None:
    reader = Reader()
    await dump_and_go_on(server, reader)
    await asyncio.to_thread(server.start_second)
    await asyncio.to_thread(server.restore, SECOND)
    async with open_store(server.second_url) as store:
        await assert_continues(store, reader)
        await asyncio.to_thread(server.restore, SECOND)
        await assert_continues(store, reader)


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
@pytest.mark.parametrize("port", [FIRST, SECOND], ids=["same server", "young server"])
async def test_writes_during_a_restore_succeed_or_fail_and_readers_miss_none(server: Server, port: int) -> None:
    reader = Reader()
    done = asyncio.Event()

    async def keep_writing(store: Store) -> None:
        while not done.is_set():
            with contextlib.suppress(StoreUnavailable):
                await write(store, "meanwhile")

    async with open_store(server.url) as store:
        await write_until_known(store, reader)
        await asyncio.to_thread(server.dump)
    if port == SECOND:
        await asyncio.to_thread(server.start_second)
    async with open_store(server.url if port == FIRST else server.second_url) as store:
        writers = [asyncio.create_task(keep_writing(store)) for _ in range(4)]
        try:
            await asyncio.to_thread(server.restore, port)
            # A reader follows from a valid cursor while they write.
            seen = [await reader.read_some(store) for _ in range(50)]
        finally:
            done.set()
            await asyncio.gather(*writers)
        await write(store, "last")
        await reader.read(store, "last")
        assert any(seen)
        assert len(reader.titles) == await store.count()


@pytest.mark.full
@pytest.mark.docker
@pytest.mark.postgresql
@pytest.mark.parametrize("migration", [2, 7], ids=["without numbers of histories", "with the former table of records"])
async def test_a_dump_of_an_earlier_release_restored_over_this_one_continues_the_feed_and_has_its_records(
    server: Server, migration: int
) -> None:
    reader = Reader()
    await migrate_up_to(server.url, migration)
    async with connected(server.url) as old:
        for title in "abc":
            await old.execute(OLD_WRITE, NOW, a_task(title=title).model_dump_json())
        await old.execute("INSERT INTO answers VALUES ('ann', 'kept', 'f', 201, '{}', $1)", NOW)
    await asyncio.to_thread(server.dump)
    async with open_store(server.url) as store:
        await reader.read(store, "c")
        await write_what_is_lost(store, reader)
        await store.commit([], IdempotencyRecord("ann", "lost", "f", 201, "{}"), now=NOW)
        async with connected(server.url) as db:
            await db.execute("DROP VIEW answers")  # before pg_restore --clean, as in docs/operate.md
        await asyncio.to_thread(server.restore, FIRST)
    async with open_store(server.url) as store:
        await assert_continues(store, reader)
        found = [await store.get_record("ann", key, now=NOW) for key in ("kept", "lost")]
    assert found == [IdempotencyRecord("ann", "kept", "f", 201, "{}"), None]


async def test_a_copied_sqlite_file_continues_the_feed(tmp_path: Path) -> None:
    reader = Reader()
    store = from_url(f"sqlite:///{tmp_path}/tasks.db")
    await store.open()
    await write_until_known(store, reader)
    await store.close()
    shutil.copy(tmp_path / "tasks.db", tmp_path / "copy.db")
    await store.open()
    await write_what_is_lost(store, reader)
    await store.close()
    shutil.copy(tmp_path / "copy.db", tmp_path / "tasks.db")
    await store.open()
    await assert_continues(store, reader)
    await store.close()


# --- the release before ------------------------------------------------------------------

OLD_WRITE = "INSERT INTO changes (at, type, task) SELECT $1, 'created', $2"
OLD_READ = """
    SELECT xid::text || '.' || number AS cursor, task FROM changes
     WHERE (xid, number) > ($1::text::xid8, $2) AND xid < pg_snapshot_xmin(pg_current_snapshot())
     ORDER BY changes.xid, number
"""


async def test_cursors_are_compatible_with_the_previous_release(postgres_url: str) -> None:
    await migrate_up_to(postgres_url, 2)
    async with connected(postgres_url) as old:
        written = await old.prepare(OLD_WRITE)
        read = await old.prepare(OLD_READ)
        for title in "abc":
            await written.fetch(NOW, a_task(title=title).model_dump_json())
        before = [row["cursor"] for row in await read.fetch("0", 0)]
        async with open_store(postgres_url) as store:
            assert [c.cursor for c in await store.changes(None, size=9)] == before
            await written.fetch(NOW, a_task(title="d").model_dump_json())
            await write(store, "e")
            assert await titles_after(store, before[1], up_to="e") == ["c", "d", "e"]
            assert await titles_after(store, "0.0", up_to="e") == ["a", "b", "c", "d", "e"]
            new = [change.cursor for change in await store.changes(before[2], size=9)]
            assert [row["cursor"] for row in await read.fetch(*_parse_cursor(before[2]))] == new
            assert [row["cursor"] for row in await read.fetch(*_parse_cursor(new[0]))] == new[1:]
            with pytest.raises(OtherHistory):
                await store.changes(before[2].partition(".")[0] + ".99", size=1)
