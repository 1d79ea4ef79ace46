"""Caches the JSON of tasks for reading one and for lists.

Most of the cost of a list is the conversion of its rows: 23 columns are sent, decoded, made into a Task and serialized.
So a page reads a key of 40 bytes per task, and complete rows only for the tasks whose JSON is not cached. Reading a
task does the same.
"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum, auto
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from chassis.postgres.database import fetch_by_keys
from task_api.store.postgres_lists import find
from task_api.store.postgres_rows import FIELDS, Dialect, select_by_ids, task_of
from task_api.store.protocol import TaskJson, VersionedJson
from task_api.tasks.models import to_json
from task_api.tasks.query import Query

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

KEY = (
    "uuid_send(id) || int4send(version) || timestamptz_send(updated_at) || xidsend(xmin)"
    " || timestamptz_send(pg_postmaster_start_time())"
)
"""Differs wherever the content differs. The version alone does not: after a restore, the same version can have other
content. Nor do version and time: a row changed by hand keeps both, but not the transaction that wrote it. After the
restore of a volume's snapshot, which restarts the server, another transaction gets the same number."""

KEYS, KEYS_AND_FIELDS = Dialect(KEY), Dialect(f"{KEY}, {FIELDS}")

NOT_DELETED = "deleted_at IS NULL"
KEY_OF_ONE, ROW_OF_ONE = (
    f"SELECT {dialect.columns} FROM tasks WHERE id = $1 AND {NOT_DELETED}" for dialect in (KEYS, KEYS_AND_FIELDS)
)
KEYS_OF_MANY, ROWS_OF_MANY = (select_by_ids(dialect.columns, NOT_DELETED) for dialect in (KEYS, KEYS_AND_FIELDS))

MAX_CACHE_BYTES = 16 * 1024 * 1024
OVERHEAD_BYTES = 250
"""Memory of an entry besides its JSON: two objects and a slot of the dictionary."""


class ReadKind(Enum):
    """What is read: each kind has its own share of tasks that are cached."""

    FIRST_PAGE = auto()
    LATER_PAGE = auto()
    BY_ID = auto()


class TaskJsonCache:
    """The JSON of tasks by KEY, up to `max_bytes`: the oldest entries are evicted first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._mostly_missing = dict.fromkeys(ReadKind, False)
        """Whether most tasks of the last read of this kind were not cached: then the next one reads rows at once.
        Readers of whole lists would take a second statement for every page otherwise."""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def by_ids(self, db: Connection, ids: Sequence[UUID]) -> list[VersionedJson | None]:
        """See Store.get_json, for each of `ids`.

        A row read by a second statement may be newer than its key, or gone: either is right for this request, which
        came before both.
        """
        if self._mostly_missing[ReadKind.BY_ID]:
            found = self._convert(await fetch_by_keys(db, ids, one=ROW_OF_ONE, many=ROWS_OF_MANY), ReadKind.BY_ID)
        else:
            rows = await fetch_by_keys(db, ids, one=KEY_OF_ONE, many=KEYS_OF_MANY)
            found = await self._complete(db, [row[0] for row in rows], ReadKind.BY_ID)
        by_id = {key[:16]: (int.from_bytes(key[16:20], "big"), content) for key, content in found.items()}
        return [by_id.get(task_id.bytes) for task_id in ids]

    async def page(self, db: Connection, query: Query, size: int) -> list[TaskJson]:
        """See Store.page_json.

        The page is consistent: it is the result of a single statement. Rows read by a second one are used only if they
        still have the key that the first one read; otherwise the page is read again, with its rows.
        """
        kind = ReadKind.FIRST_PAGE if query.after is None else ReadKind.LATER_PAGE
        if not self._mostly_missing[kind]:
            keys: list[bytes] = [row[0] for row in await find(db, query, size, KEYS)]
            found = await self._complete(db, keys, kind)
            with contextlib.suppress(KeyError):
                return [(key, found[key]) for key in keys]
        return list(self._convert(await find(db, query, size, KEYS_AND_FIELDS), kind).items())

    async def _complete(self, db: Connection, keys: Sequence[bytes], kind: ReadKind) -> dict[bytes, bytes]:
        """The JSON of the tasks with these keys by key, from the cache or from their rows as they are now."""
        entries = self._entries
        try:
            return {key: entries[key] for key in keys}
        except KeyError:
            found = {key: entries[key] for key in keys if key in entries}  # they may be evicted while waiting
        missing = [key for key in keys if key not in found]
        self._mostly_missing[kind] = 2 * len(missing) > len(keys)
        return found | self._add(await db.fetch(ROWS_OF_MANY, [UUID(bytes=key[:16]) for key in missing]))

    def _convert(self, rows: Sequence[asyncpg.Record], kind: ReadKind) -> dict[bytes, bytes]:
        missing = sum(row[0] not in self._entries for row in rows)
        self._mostly_missing[kind] = 2 * missing > len(rows)
        return self._add(rows)

    def _add(self, rows: Sequence[asyncpg.Record]) -> dict[bytes, bytes]:
        """Caches the JSON of rows with KEY and FIELDS, and returns it by key, in the order of the rows."""
        added, entries = {}, self._entries
        for key, *fields in rows:
            content = entries.get(key)
            if content is None:
                content = entries[key] = to_json(task_of(fields))
                self.size_bytes += len(content) + OVERHEAD_BYTES
            added[key] = content
        while self.size_bytes > self._max_bytes:
            _, content = entries.popitem(last=False)
            self.size_bytes -= len(content) + OVERHEAD_BYTES
        return added
