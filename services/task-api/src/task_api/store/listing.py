"""A list as SQL: one way of asking for SQLite and PostgreSQL, which differ in a few expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from task_api.tasks.query import Query, SortKey


class Dialect(Protocol):
    """How one database says it. Each method returns SQL; `values` collects what stands behind its placeholders."""

    columns: str

    def value(self, value: object, values: list[Any]) -> str:
        """A placeholder for a number, a text, an id or a time."""

    def one_of(self, column: str, chosen: Sequence[Any], values: list[Any]) -> str:
        """The column is one of these."""

    def has_label(self, label: str, values: list[Any]) -> str:
        """The task has this label."""

    def has_words(self, words: Sequence[str], values: list[Any]) -> str:
        """The task has all these words."""

    def title(self) -> str:
        """The title, compared by code points."""

    def never(self, values: list[Any], /) -> str:
        """The time NEVER."""


def select(query: Query, size: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement for one page, and its values."""
    values: list[Any] = []
    filters = query.filters

    def value(v: object) -> str:
        return dialect.value(v, values)

    where = [f"deleted_at IS {'NOT ' if filters.deleted else ''}NULL"]
    if filters.status:
        where.append(dialect.one_of("status", sorted(filters.status), values))
    if filters.priority:
        where.append(dialect.one_of("priority", sorted(p.rank for p in filters.priority), values))
    where += [dialect.has_label(label, values) for label in sorted(filters.label)]
    if filters.project is not None:
        where.append(f"project = {value(filters.project)}")
    if filters.parent is not None:
        where.append(f"parent = {value(filters.parent)}")
    if filters.assignee is not None:
        where.append(f"assignee = {value(filters.assignee)}")
    if filters.due_before is not None:
        where.append(f"due < {value(filters.due_before)}")
    if filters.due_after is not None:
        where.append(f"due >= {value(filters.due_after)}")
    if filters.updated_since is not None:
        where.append(f"updated_at >= {value(filters.updated_since)}")
    if filters.words is not None:
        where.append(dialect.has_words(sorted(filters.words), values) if filters.words else "false")

    filtered = len(where) > 1

    steps = [(_expression(step.key, dialect, values), step.descending) for step in query.order]
    steps.append(("id", query.order[-1].descending))
    if query.after is not None:
        where.append(_after(steps, [value(v) for v in (*query.after[0], query.after[1])]))
    order = ", ".join(f"{expression} {'DESC' if descending else 'ASC'}" for expression, descending in steps)
    condition = " AND ".join(where)
    # PostgreSQL keeps a plan only where it knows the limit; to plan anew takes 46 µs each time. Where there are filters
    # it should: which index is the best depends on what they ask for.
    limit = value(size) if filtered else str(size)
    return f"SELECT {dialect.columns} FROM tasks WHERE {condition} ORDER BY {order} LIMIT {limit}", values


def _expression(key: SortKey, dialect: Dialect, values: list[Any]) -> str:
    match key:
        case "created_at":
            return "id"
        case "due" | "start_at" | "completed_at":
            return f"coalesce({key}, {dialect.never(values)})"
        case "title":
            return dialect.title()
        case _:
            return key


def _after(steps: list[tuple[str, bool]], places: list[str]) -> str:
    """What comes after the place, in the order of `steps`.

    With one direction it is a comparison of rows, for which an index is used as a whole.
    """
    expressions = [expression for expression, _ in steps]
    if len({descending for _, descending in steps}) == 1:
        return f"({', '.join(expressions)}) {'<' if steps[0][1] else '>'} ({', '.join(places)})"
    ways = []
    for n, (expression, descending) in enumerate(steps):
        equal = [f"{e} = {p}" for e, p in zip(expressions[:n], places[:n], strict=True)]
        ways.append("(" + " AND ".join([*equal, f"{expression} {'<' if descending else '>'} {places[n]}"]) + ")")
    return f"({' OR '.join(ways)})"
