"""Caches the JSON of tasks for lists.

Most of the cost of a list is the conversion of its rows: 23 columns are sent, decoded, made into a Task and serialized.
So a page reads a key of 32 bytes per task, and complete rows only for the tasks whose JSON is not cached.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from task_api.store.postgres_lists import find
from task_api.store.postgres_rows import FIELDS, Dialect, select_by_ids, task_of
from task_api.store.protocol import TaskJson
from task_api.tasks.models import to_json
from task_api.tasks.query import Query

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

KEY = "uuid_send(id) || int4send(version) || timestamptz_send(updated_at) || xidsend(xmin)"
"""Differs wherever the content differs. The version alone does not: after a restore, the same version can have other
content. Nor do version and time: a row changed by hand keeps both, but not the transaction that wrote it."""

KEYS, KEYS_AND_FIELDS = Dialect(KEY), Dialect(f"{KEY}, {FIELDS}")

GET_BY_IDS = select_by_ids(KEYS_AND_FIELDS.columns)

MAX_CACHE_BYTES = 16 * 1024 * 1024
OVERHEAD_BYTES = 250
"""Memory of an entry besides its JSON: two objects and a slot of the dictionary."""


class TaskJsonCache:
    """The JSON of tasks by KEY, up to `max_bytes`: the oldest entries are evicted first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self._mostly_missing = {True: False, False: False}
        """Whether most of the last first page, and of the last later page, was not cached: then the next one is read
        with its rows at once. Readers of whole lists would take a second statement for every page otherwise."""
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def page(self, db: Connection, query: Query, size: int) -> list[TaskJson]:
        """See Store.page_json.

        The page is consistent: it is the result of a single statement. Rows read by a second one are used only if they
        still have the key that the first one read; otherwise the page is read again, with its rows.
        """
        entries, is_first = self._entries, query.after is None
        if self._mostly_missing[is_first]:
            return self._convert(await find(db, query, size, KEYS_AND_FIELDS), is_first=is_first)
        keys: list[bytes] = [row[0] for row in await find(db, query, size, KEYS)]
        if not (missing := [key for key in keys if key not in entries]):
            return [(key, entries[key]) for key in keys]
        self._mostly_missing[is_first] = 2 * len(missing) > len(keys)
        cached = {key: entries[key] for key in keys if key in entries}  # they may be evicted while waiting
        cached |= self._add(await db.fetch(GET_BY_IDS, [UUID(bytes=key[:16]) for key in missing]))
        if all(key in cached for key in missing):
            return [(key, cached[key]) for key in keys]
        return self._convert(await find(db, query, size, KEYS_AND_FIELDS), is_first=is_first)

    def _convert(self, rows: Sequence[asyncpg.Record], *, is_first: bool) -> list[TaskJson]:
        missing = sum(row[0] not in self._entries for row in rows)
        self._mostly_missing[is_first] = 2 * missing > len(rows)
        return list(self._add(rows).items())

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
