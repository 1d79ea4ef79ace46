"""The schema, as numbered SQL files: `0001_name.sql`, one folder per kind of database.

Each is applied once, in order. A migration only adds (expand); what it makes superfluous is
removed by a later release (contract). So the pods of the last release work on the new schema
while a rollout or a rollback is under way.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Migration:
    number: int
    name: str
    sql: str


def migrations(kind: str) -> list[Migration]:
    """All migrations for `kind` ("postgres" or "sqlite"), in order."""
    found = []
    for file in sorted((Path(__file__).parent / kind).glob("*.sql")):
        number, _, name = file.stem.partition("_")
        found.append(Migration(int(number), name, file.read_text()))
    return found
