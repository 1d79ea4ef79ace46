"""A list as SQL: one way of asking for SQLite and PostgreSQL, which differ in a few expressions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from task_api.tasks.models import Status
from task_api.tasks.query import Filters, Order, Query, SortKey

OPEN = frozenset({Status.TO_DO, Status.IN_PROGRESS})
"""What tasks_open_by_project has; its migration says the same."""

DONE = frozenset({Status.DONE})
ALL = Filters()


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

    def has_prefixes(self, prefixes: Sequence[str], values: list[Any]) -> str:
        """Each of these begins a word of the task."""

    def title(self) -> str:
        """The title, compared by code points."""

    def never(self) -> str:
        """The time NEVER."""


def select(query: Query, size: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement for one page, and its values."""
    values: list[Any] = []
    conditions = list(_conditions(query, dialect, values, in_order=True).values())
    filtered = len(conditions) > 1
    after, order = _place_and_order(query, dialect, values)
    # PostgreSQL keeps a plan only where it knows the limit; to plan anew takes 46 µs each time. Where there are filters
    # it should: which index is the best depends on what they ask for.
    limit = dialect.value(size, values) if filtered else str(size)
    where = " AND ".join([*conditions, *after])
    return f"SELECT {dialect.columns} FROM tasks WHERE {where} ORDER BY {order} LIMIT {limit}", values


def gather(query: Query, size: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement for the page out of all that meets the filters, and its values."""
    values: list[Any] = []
    conditions = _conditions(query, dialect, values, in_order=False).values()
    after, order = _place_and_order(query, dialect, values)
    where = f"WHERE {' AND '.join(after)} " if after else ""
    # OFFSET 0 keeps PostgreSQL from looking for what meets the filters by the place, which it takes for more selective.
    found = f"SELECT xmin, * FROM tasks WHERE {' AND '.join(conditions)} OFFSET 0"
    return f"SELECT {dialect.columns} FROM ({found}) AS tasks {where}ORDER BY {order} LIMIT {size}", values


def is_read_in_order(query: Query, dialect: Dialect) -> bool:
    """Whether an index has exactly this list in its order, so that a page reads little more than it returns."""
    if query.filters == ALL:  # what is asked for most: a third of the calls that it takes
        return True
    return _conditions(query, dialect, [], in_order=True).keys() - _found_in_order(query) <= {"living"}


def has_index(query: Query, dialect: Dialect) -> bool:
    """Whether the filters find their tasks without an order: all do but the statuses, which many tasks have."""
    return bool(_conditions(query, dialect, [], in_order=False).keys() - {"living", "status", "completed"})


def has_owner(query: Query) -> bool:
    """Whether the list is read in the order of an index that has those of one project, assignee or parent together."""
    return _owner(query) is not None


def walk(query: Query, size: int, reads: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement for the page as far as it is among the first `reads` tasks in its order, and its values."""
    values: list[Any] = []
    conditions = _conditions(query, dialect, values, in_order=True)
    after, order = _place_and_order(query, dialect, values)
    steps: dict[str, bool] = {}
    for expression, descending in _steps(query, dialect):
        steps.setdefault(expression, descending)  # the id may be there twice
    found = _found_in_order(query)
    inside = [conditions[name] for name in conditions if name in found] + after
    if _is_open_of_project(query):
        inside.append(_one_of(OPEN))
    where = f"WHERE {' AND '.join(inside)} " if inside else ""
    outside = " AND ".join(conditions[name] for name in conditions if name not in found) or "true"
    # By their names PostgreSQL knows that they are in order already, and stops when the page is full.
    names = {step: step if step.isidentifier() else f"step{n}" for n, step in enumerate(steps)}
    named = "".join(f", {step} AS {name}" for step, name in names.items() if step != name)
    first = f"SELECT xmin, *{named} FROM tasks {where}ORDER BY {order} LIMIT {reads}"
    still = _order([(names[step], descending) for step, descending in steps.items()])
    return f"SELECT {dialect.columns} FROM ({first}) AS tasks WHERE {outside} ORDER BY {still} LIMIT {size}", values


def _conditions(query: Query, dialect: Dialect, values: list[Any], *, in_order: bool) -> dict[str, str]:
    """By the names that `_found_in_order` has for them.

    in_order: the owner is not said to be one and the same, so that it counts as a step of the order.
    """
    filters = query.filters
    owner = _owner(query) if in_order else None

    def value(wanted: object) -> str:
        return dialect.value(wanted, values)

    def is_of(column: str, wanted: object) -> str:
        return f"{column} {'>=' if column == owner else '='} {value(wanted)}" + (
            f" AND {column} <= {value(wanted)}" if column == owner else ""
        )

    where = {"deleted": "deleted_at IS NOT NULL"} if filters.deleted else {"living": "deleted_at IS NULL"}
    if filters.status:
        where["status"] = dialect.one_of("status", sorted(filters.status), values)
    if filters.priority:
        where["priority"] = dialect.one_of("priority", sorted(p.rank for p in filters.priority), values)
    where |= {f"label {label}": dialect.has_label(label, values) for label in sorted(filters.label)}
    if filters.project is not None:
        where["project"] = is_of("project", filters.project)
    if filters.parent is not None:
        where["parent"] = is_of("parent", filters.parent)
    if filters.assignee is not None:
        where["assignee"] = is_of("assignee", filters.assignee)
    if filters.due_before is not None or filters.due_after is not None:
        where["due_range"] = _range("due", filters.due_after, filters.due_before, dialect, values)
    if filters.updated_since is not None:
        where["updated_since"] = f"updated_at >= {value(filters.updated_since)}"
    if filters.status == DONE and query.order[0] == Order("completed_at", descending=True):
        # They all have one; what has none would come before them, and is all that was ever cancelled or is to be done.
        where["completed"] = _range("completed_at", None, None, dialect, values)
    if filters.without:
        where |= {f"without {name}": f"{name} IS NULL" for name in sorted(filters.without)}
    if filters.created_before is not None:
        where["created_before"] = f"created_at < {value(filters.created_before)}"
    if filters.created_after is not None:
        where["created_after"] = f"created_at >= {value(filters.created_after)}"
    if filters.completed_before is not None or filters.completed_after is not None:
        where["completed_range"] = _range(
            "completed_at", filters.completed_after, filters.completed_before, dialect, values
        )
    if filters.prefixes is not None:
        where["prefixes"] = dialect.has_prefixes(sorted(filters.prefixes), values) if filters.prefixes else "false"
    if filters.words is not None:
        where["words"] = dialect.has_words(sorted(filters.words), values) if filters.words else "false"
    return where


def _range(key: SortKey, after: datetime | None, before: datetime | None, dialect: Dialect, values: list[Any]) -> str:
    """Tasks whose time is in this range, without an end where None stands. As the index of the order has it, where
    those without a time come last: so there is no second index of that time to write.
    """
    time = _expression(key, dialect)
    conditions = [f"{time} < {dialect.never() if before is None else dialect.value(before, values)}"]
    if after is not None:
        conditions.append(f"{time} >= {dialect.value(after, values)}")
    return " AND ".join(conditions)


def _owner(query: Query) -> str | None:
    """What the tasks are of, where an index has those of each in the list's order. PostgreSQL would rather read the
    tasks of all in that order, and takes a project that ended a year ago for one that goes on: so the order begins with
    the owner, which only that index has."""
    filters = query.filters
    if query.order[0].key == "created_at":
        # One of them: there is no index of two. The first is the one that few tasks share.
        owners = {"parent": filters.parent, "assignee": filters.assignee, "project": filters.project}
        return next((name for name, wanted in owners.items() if wanted is not None and not filters.deleted), None)
    if _is_open_of_project(query):
        return "project"
    return None


def _found_in_order(query: Query) -> set[str]:
    """The conditions by which an index in the list's order finds its part of the tasks: no task outside is read."""
    if (owner := _owner(query)) is not None:
        return {owner, "due_range"} if _is_open_of_project(query) else {owner}
    match query.order[0].key:
        case "created_at":
            return {"deleted"}
        case "updated_at":
            return {"updated_since"}
        case "completed_at":
            return {"completed", "completed_range"}
        case "due":
            return {"due_range"}
    return set()


def _is_open_of_project(query: Query) -> bool:
    """Whether it is what tasks_open_by_project has: what is to be done in a project by its due date."""
    status, project = query.filters.status, query.filters.project
    return query.order[0].key == "due" and project is not None and bool(status) and status <= OPEN


def _one_of(statuses: frozenset[Status]) -> str:
    """As the indexes have it: of a placeholder PostgreSQL would not know that they have all of these."""
    return f"status IN ({', '.join(repr(status.value) for status in sorted(statuses))})"


def _place_and_order(query: Query, dialect: Dialect, values: list[Any]) -> tuple[list[str], str]:
    """The conditions that leave out the pages before, and the order."""
    steps = _steps(query, dialect)
    if query.after is None:
        return [], _order(steps)
    owner = _owner(query)
    place = (*([] if owner is None else [getattr(query.filters, owner)]), *query.after[0], query.after[1])
    return _after(steps, [dialect.value(v, values) for v in place]), _order(steps)


def _steps(query: Query, dialect: Dialect) -> list[tuple[str, bool]]:
    """What the list is sorted by, and whether it descends."""
    steps = [(_expression(step.key, dialect), step.descending) for step in query.order]
    owner = _owner(query)
    first = [] if owner is None else [(owner, query.order[0].descending)]
    return [*first, *steps, ("id", query.order[-1].descending)]


def _order(steps: list[tuple[str, bool]]) -> str:
    return ", ".join(f"{expression} {'DESC' if descending else 'ASC'}" for expression, descending in steps)


def _expression(key: SortKey, dialect: Dialect) -> str:
    match key:
        case "created_at":
            return "id"
        case "due" | "start_at" | "completed_at":
            return f"coalesce({key}, {dialect.never()})"
        case "title":
            return dialect.title()
        case _:
            return key


def _after(steps: list[tuple[str, bool]], places: list[str]) -> list[str]:
    """What comes after the place, in the order of `steps`.

    With one direction it is a comparison of rows, for which an index is used as a whole. With more the first step alone
    tells where an index begins.
    """
    expressions = [expression for expression, _ in steps]
    if len({descending for _, descending in steps}) == 1:
        return [f"({', '.join(expressions)}) {'<' if steps[0][1] else '>'} ({', '.join(places)})"]
    ways = []
    for n, (expression, descending) in enumerate(steps):
        equal = [f"{e} = {p}" for e, p in zip(expressions[:n], places[:n], strict=True)]
        ways.append("(" + " AND ".join([*equal, f"{expression} {'<' if descending else '>'} {places[n]}"]) + ")")
    return [f"{expressions[0]} {'<=' if steps[0][1] else '>='} {places[0]}", f"({' OR '.join(ways)})"]
