"""Prints the rungs' input, taken from the service: its statements, its list, its columns.

services/task-api/.venv/bin/python bench/rungs/fixture.py
"""

import json

from task_api.store.listing import select
from task_api.store.postgres_rows import FIELDS, PRIORITIES, Dialect, select_by_ids
from task_api.store.postgres_writes import CREATE_TASK
from task_api.tasks.query import Query

statement, _ = select(Query(), 51, Dialect())
print(
    json.dumps(
        {
            "get": f"SELECT {FIELDS} FROM tasks WHERE id = $1",
            "get_many": select_by_ids(FIELDS),
            "list": statement,
            "post": CREATE_TASK,
            "priorities": PRIORITIES,
        }
    )
)
