"""The service as a later release would be: with a migration more, which adds a column, or which fails.

python next_release.py good|bad serve
"""

from __future__ import annotations

import sys

from task_api.__main__ import main
from task_api.store import postgres_schema
from task_api.store.migrations import Migration, migrations

SQL = {
    # Long enough that the pods of the release before write meanwhile.
    "good": "ALTER TABLE tasks ADD COLUMN effort integer; SELECT pg_sleep(0.3)",
    "bad": "ALTER TABLE tasks ADD COLUMN effort integer; SELECT 1 / 0",
}

if __name__ == "__main__":
    added = Migration(9999, "effort", SQL[sys.argv.pop(1)])
    vars(postgres_schema)["migrations"] = lambda kind: [*migrations(kind), added]
    sys.exit(main())
