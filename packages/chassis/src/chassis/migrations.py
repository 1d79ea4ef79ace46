"""The schema of a database, as a folder of numbered SQL files: `0001_name.sql`.

Each is applied once, in order. A migration only adds (expand); what it makes superfluous is
removed by a later release (contract). So the pods of the last release work on the new schema
while a rollout or a rollback is under way.

The checksum of each is kept with it. Changed once it was applied, it would be one thing in the
databases that have it and another in the next: that is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chassis.storage import StoreUnavailable


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    sql: str

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.sql.encode()).hexdigest()


def read_migrations(folder: Path) -> list[Migration]:
    """All that the folder has, in order."""
    found = []
    for file in sorted(folder.glob("*.sql")):
        number, _, name = file.stem.partition("_")
        # With CRLF in the place of LF, as Git for Windows may check it out, it is the same.
        found.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return found


def refuse_changed(wanted: Sequence[Migration], applied: Mapping[int, str | None]) -> None:
    """Raises StoreUnavailable where one was applied in another form.

    applied: the checksums by number. A release that kept none leaves None, and anything is right.
    """
    for migration in wanted:
        if applied.get(migration.number) not in (None, migration.checksum):
            raise StoreUnavailable(
                f"The file of migration {migration.number:04d} {migration.name} was changed after it was applied to"
                " this database, which would never get the change. Put the file back as it was, and write the change"
                " into one with the next number. Or, where the data may go, begin with an empty database: for the local"
                " cluster `make down up`, for SQLite without its file."
            )
