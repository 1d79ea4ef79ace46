"""The service as a later release: with one more migration, which adds a column or fails.

python next_release.py good|bad serve
"""

from __future__ import annotations

import sys

from chassis.migrations import Migration, read_migrations
from chassis.postgres import schema
from task_api.__main__ import main

SQL = {
    # Long enough for the pods of the previous release to write concurrently.
    "good": "ALTER TABLE tasks ADD COLUMN effort integer; SELECT pg_sleep(0.3)",
    "bad": "ALTER TABLE tasks ADD COLUMN effort integer; SELECT 1 / 0",
}

if __name__ == "__main__":
    added = Migration(9999, "effort", SQL[sys.argv.pop(1)])
    vars(schema)["read_migrations"] = lambda folder: [*read_migrations(folder), added]
    sys.exit(main())
