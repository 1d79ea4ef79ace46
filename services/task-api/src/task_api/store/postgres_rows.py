"""Mapping between tasks and PostgreSQL rows, and the list conditions in PostgreSQL's SQL."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic_core import from_json

from task_api.tasks.models import Priority, Status, Task, construct_unchecked
from task_api.tasks.query import words_of

FIELDS = ", ".join(Task.model_fields)
"""A column for each field of a task, in the model's order; `version` is the last."""
FIELD_COUNT = len(Task.model_fields)
ROW_SIZE = FIELD_COUNT + 2
ROW = ", ".join(f"${n}" for n in range(1, ROW_SIZE)) + f", array_to_tsvector(${ROW_SIZE})"
"""The placeholders of FIELDS, `due` and `words`."""


def row_of(task: Task) -> tuple[object, ...]:
    """The values for ROW, in its order."""
    return (
        task.id,
        task.title,
        task.description,
        task.status,
        task.priority.rank,
        task.due_at,
        task.due_on,
        task.start_at,
        task.labels,
        task.project,
        task.parent,
        task.assignee,
        task.percent_done,
        task.recurrence,
        task.time_zone,
        task.followed_by,
        task.position,
        json.dumps(task.metadata) if task.metadata else "{}",
        task.created_at,
        task.updated_at,
        task.completed_at,
        task.deleted_at,
        task.version,
        task.due,
        list(words_of(task)),
    )


STATUSES = {status.value: status for status in Status}
PRIORITIES = list(Priority)


def task_of(row: Iterable[Any]) -> Task:
    """The task of a row with the columns FIELDS, in their order.

    Name by name: dict(zip(names, row)) resizes the dictionary three times, which is 9 % of the CPU of a list of 50.
    """
    (
        id_,
        title,
        description,
        status,
        priority,
        due_at,
        due_on,
        start_at,
        labels,
        project,
        parent,
        assignee,
        percent_done,
        recurrence,
        time_zone,
        followed_by,
        position,
        metadata,
        created_at,
        updated_at,
        completed_at,
        deleted_at,
        version,
    ) = row
    return construct_unchecked(
        {
            "id": id_,
            "title": title,
            "description": description,
            "status": STATUSES[status],
            "priority": PRIORITIES[priority],
            "due_at": due_at,
            "due_on": due_on,
            "start_at": start_at,
            "labels": labels,
            "project": project,
            "parent": parent,
            "assignee": assignee,
            "percent_done": percent_done,
            "recurrence": recurrence,
            "time_zone": time_zone,
            "followed_by": followed_by,
            "position": position,
            "metadata": from_json(metadata),
            "created_at": created_at,
            "updated_at": updated_at,
            "completed_at": completed_at,
            "deleted_at": deleted_at,
            "version": version,
        }
    )


def select_by_ids(columns: str, condition: str = "true") -> str:
    """The statement for the rows with the ids in the array $1 that fulfil the condition.

    It uses the primary key whatever the size of the table. For `id = ANY ($1)` PostgreSQL scans a small table, and
    keeps that cached plan while the table grows, until it is analyzed: ten times the CPU of a GET after 40,000 more
    tasks.
    """
    return f"""
        SELECT found.* FROM unnest($1::uuid[]) AS requested (id),
            LATERAL (SELECT {columns} FROM tasks WHERE tasks.id = requested.id AND {condition} LIMIT 1) AS found
    """


class Dialect:
    has_indexes_by_project_and_due = True

    def __init__(self, columns: str = FIELDS) -> None:
        self.columns = columns

    def value(self, value: object, values: list[Any]) -> str:
        values.append(value)
        return f"${len(values)}" + (_TYPES.get(type(value), ""))

    def one_of(self, column: str, chosen: Sequence[Any], values: list[Any]) -> str:
        values.append(list(chosen))
        return f"{column} = ANY (${len(values)})"

    def has_label(self, label: str, values: list[Any]) -> str:
        values.append([label])
        return f"labels @> ${len(values)}::text[]"

    def has_words(self, words: Sequence[str], values: list[Any]) -> str:
        # Quoted and cast, not parsed: to_tsquery would tokenize and fold them again.
        values.append(" & ".join(f"'{word}'" for word in words))
        return f"words @@ ${len(values)}::text::tsquery"

    def has_prefixes(self, prefixes: Sequence[str], values: list[Any]) -> str:
        values.append(" & ".join(f"'{prefix}':*" for prefix in prefixes))
        return f"words @@ ${len(values)}::text::tsquery"

    def title(self) -> str:
        return 'title COLLATE "C"'

    def never(self) -> str:
        return "'infinity'::timestamptz"  # as asyncpg sends NEVER; a literal, to match the index expressions


# PostgreSQL infers the type of most placeholders from the comparison; inside coalesce it cannot.
_TYPES: dict[type, str] = {datetime: "::timestamptz", UUID: "::uuid", float: "::float8"}
