"""The JSON of tasks, kept for the next list that has them.

Most of what a list costs is the way from a row to JSON: 23 columns are sent, decoded, made a Task and written out. So
PostgreSQL is asked for the keys of a page, which are 32 bytes each, and for the rows of those alone that are not here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

import asyncpg

from task_api.store.postgres_lists import find
from task_api.store.postgres_rows import FIELDS, Dialect, task_of
from task_api.store.protocol import TaskJson
from task_api.tasks.models import to_json
from task_api.tasks.query import Query

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

KEY = "uuid_send(id) || int4send(version) || timestamptz_send(updated_at) || xidsend(xmin)"
"""What no two different contents have in common: a restored task may have the version of another content, and one that
was changed by hand its version and time, but not the transaction that wrote the row too."""

KEYS, KEYS_AND_FIELDS = Dialect(KEY), Dialect(f"{KEY}, {FIELDS}")

BY_KEYS = f"""
    SELECT found.* FROM unnest($1::uuid[]) AS wanted (id),
        LATERAL (SELECT {KEY}, {FIELDS} FROM tasks WHERE tasks.id = wanted.id LIMIT 1) AS found
"""

MAX_BYTES = 16 * 1024 * 1024
OVERHEAD_BYTES = 250
"""Of an entry: two objects and their place in the dictionary."""


class TaskJsonCache:
    """Up to `max_bytes` of JSON, the oldest of which goes first."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, bytes] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    async def page(self, db: Connection, query: Query, size: int) -> list[TaskJson]:
        """As Store.page_json.

        All of it is of one statement: of what another one found beside, only what has the same key is taken.
        """
        keys: list[bytes] = [row[0] for row in await find(db, query, size, KEYS)]
        entries = self._entries
        if missing := [key for key in keys if key not in entries]:
            found = {key: entries[key] for key in keys if key in entries}
            found |= self._keep(await db.fetch(BY_KEYS, [UUID(bytes=key[:16]) for key in missing]))
            if any(key not in found for key in missing):  # changed meanwhile
                return list(self._keep(await find(db, query, size, KEYS_AND_FIELDS)).items())
            return [(key, found[key]) for key in keys]
        return [(key, entries[key]) for key in keys]

    def _keep(self, rows: Sequence[asyncpg.Record]) -> dict[bytes, bytes]:
        """The JSON of rows with KEY and FIELDS, by their keys and in their order."""
        found = {}
        for key, *fields in rows:
            found[key] = content = to_json(task_of(fields))
            if key not in self._entries:
                self._entries[key] = content
                self.size_bytes += len(content) + OVERHEAD_BYTES
        while self.size_bytes > self._max_bytes:
            _, content = self._entries.popitem(last=False)
            self.size_bytes -= len(content) + OVERHEAD_BYTES
        return found
