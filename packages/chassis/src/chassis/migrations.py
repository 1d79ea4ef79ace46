"""Schema migrations: a folder of numbered SQL files, `0001_name.sql`.

Each is applied once, in order. A migration only adds (expand); a later release removes what has
become obsolete (contract). So the pods of the previous release work on the new schema during a
rollout or rollback.

The checksum of each applied migration is stored. A migration that was changed after it was applied
is rejected: existing and new databases would have different schemas.
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
    """The migrations in the folder, in order."""
    migrations = []
    for file in sorted(folder.glob("*.sql")):
        number, _, name = file.stem.partition("_")
        # read_text converts CRLF, which Git for Windows may check out, to LF: the checksum is the same.
        migrations.append(Migration(int(number), name, file.read_text(encoding="utf-8")))
    return migrations


def verify_checksums(migrations: Sequence[Migration], applied: Mapping[int, str | None]) -> None:
    """Raises StoreUnavailable if a migration was changed after it was applied.

    applied: the stored checksums by number. None, as left by a release without checksums, matches anything.
    """
    for migration in migrations:
        if applied.get(migration.number) not in (None, migration.checksum):
            raise StoreUnavailable(
                f"The file of migration {migration.number:04d} {migration.name} was changed after it was applied to"
                " this database, which would never get the change. Restore the file, and put the change into a new"
                " migration with the next number. Or, if the data is disposable, start with an empty database: for the"
                " local cluster `make down up`, for SQLite delete its file."
            )
