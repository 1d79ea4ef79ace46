"""Lists as SQL: `select` for SQLite and PostgreSQL, which differ in a few expressions, the others for PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from task_api.tasks.models import Status
from task_api.tasks.query import Filters, Order, Query, SortKey

OPEN = frozenset({Status.TO_DO, Status.IN_PROGRESS})
CLOSED = frozenset(Status) - OPEN
"""The statuses in the partial indexes tasks_open_by_project and tasks_closed_by_project; their migrations have the
same."""

DONE = frozenset({Status.DONE})
ALL = Filters()


class Dialect(Protocol):
    """The SQL of one database. Each method returns SQL and appends the values of its placeholders to `values`."""

    columns: str

    def value(self, value: object, values: list[Any]) -> str:
        """A placeholder for a number, a string, an id or a timestamp."""

    def one_of(self, column: str, chosen: Sequence[Any], values: list[Any]) -> str:
        """The column has one of these values."""

    def has_label(self, label: str, values: list[Any]) -> str:
        """The task has this label."""

    def has_words(self, words: Sequence[str], values: list[Any]) -> str:
        """The task has all these words."""

    def has_prefixes(self, prefixes: Sequence[str], values: list[Any]) -> str:
        """Each of these is a prefix of a word of the task."""

    def title(self) -> str:
        """The title, collated by code points."""

    def never(self) -> str:
        """The timestamp NEVER."""


def select(query: Query, size: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement for a page, and its values."""
    values: list[Any] = []
    conditions = list(_conditions(query, dialect, values, in_order=True).values())
    filtered = len(conditions) > 1
    after, order = _keyset_and_order(query, dialect, values)
    # PostgreSQL caches a plan only if the limit is a literal; planning takes 46 µs each time. With filters it should
    # replan: the best index depends on their values.
    limit = dialect.value(size, values) if filtered else str(size)
    where = " AND ".join([*conditions, *after])
    return f"SELECT {dialect.columns} FROM tasks WHERE {where} ORDER BY {order} LIMIT {limit}", values


def filter_then_sort(query: Query, size: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement that finds all matching tasks and sorts them for the page, and its values."""
    values: list[Any] = []
    conditions = _conditions(query, dialect, values, in_order=False).values()
    after, order = _keyset_and_order(query, dialect, values)
    where = f"WHERE {' AND '.join(after)} " if after else ""
    # OFFSET 0 is an optimization fence: PostgreSQL takes the keyset for more selective than the filters.
    found = f"SELECT * FROM tasks WHERE {' AND '.join(conditions)} OFFSET 0"
    # Sorting ids and reading the page's rows afterwards copies less: with the newest first, each of 40,000 matches is
    # for a moment among the first, and the page took 42 ms instead of 17 ms.
    ids = f"SELECT id FROM ({found}) AS tasks {where}ORDER BY {order} LIMIT {size}"
    return f"SELECT {dialect.columns} FROM tasks WHERE id = ANY(ARRAY({ids})) ORDER BY {order}", values


def is_read_in_order(query: Query, dialect: Dialect) -> bool:
    """Whether an index has exactly this list in its order, so that a page reads few rows that it does not return."""
    if query.filters == ALL:  # the most frequent case: a third of the function calls
        return True
    if _is_of_project_by_due(query):
        return False  # its indexes are partial: only `scan_in_order` has their conditions
    return _conditions(query, dialect, [], in_order=True).keys() - _found_in_order(query) <= {"not_deleted"}


def has_index(query: Query, dialect: Dialect) -> bool:
    """Whether an index serves the filters regardless of order: all but the statuses, which many tasks share."""
    return bool(_conditions(query, dialect, [], in_order=False).keys() - {"not_deleted", "status", "completed"})


def has_owner(query: Query) -> bool:
    """Whether the list is read in the order of an index that groups tasks by project, assignee or parent."""
    return _owner(query) is not None


def scan_in_order(query: Query, size: int, reads: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement for the part of the page within the first `reads` tasks in list order, and its values."""
    values: list[Any] = []
    conditions = _conditions(query, dialect, values, in_order=True)
    after, _ = _keyset_and_order(query, dialect, values)
    steps: dict[str, bool] = {}
    for expression, descending in _steps(query, dialect):
        steps.setdefault(expression, descending)  # the id may be in it twice
    found = _found_in_order(query)
    inside = [conditions[name] for name in conditions if name in found] + after
    outside = " AND ".join(conditions[name] for name in conditions if name not in found) or "true"
    # With aliases PostgreSQL recognizes that the rows are already sorted, and stops when the page is full. It merges two
    # partial indexes if each part has its own order and limit (findings/postgres-union-all-in-order.sh).
    names = {step: step if step.isidentifier() else f"step{n}" for n, step in enumerate(steps)}
    named = "".join(f", {step} AS {name}" for step, name in names.items() if step != name)
    in_order = f"ORDER BY {_order([(names[step], descending) for step, descending in steps.items()])} LIMIT"
    parts = [
        f"(SELECT xmin, *{named} FROM tasks WHERE {' AND '.join([*inside, *index]) or 'true'} {in_order} {reads})"
        for index in _partial_indexes(query)
    ]
    first = parts[0] if len(parts) == 1 else f"{' UNION ALL '.join(parts)} {in_order} {reads}"
    return f"SELECT {dialect.columns} FROM ({first}) AS tasks WHERE {outside} {in_order} {size}", values


def _conditions(query: Query, dialect: Dialect, values: list[Any], *, in_order: bool) -> dict[str, str]:
    """The conditions by name, as `_found_in_order` names them.

    in_order: the owner is compared by a range, not by equality, so that it counts as a sort key.
    """
    filters = query.filters
    owner = _owner(query) if in_order else None

    def value(parameter: object) -> str:
        return dialect.value(parameter, values)

    def equals(column: str, parameter: object) -> str:
        return f"{column} {'>=' if column == owner else '='} {value(parameter)}" + (
            f" AND {column} <= {value(parameter)}" if column == owner else ""
        )

    where = {"deleted": "deleted_at IS NOT NULL"} if filters.deleted else {"not_deleted": "deleted_at IS NULL"}
    if filters.status:
        where["status"] = dialect.one_of("status", sorted(filters.status), values)
    if filters.priority:
        where["priority"] = dialect.one_of("priority", sorted(p.rank for p in filters.priority), values)
    where |= {f"label {label}": dialect.has_label(label, values) for label in sorted(filters.label)}
    if filters.project is not None:
        where["project"] = equals("project", filters.project)
    if filters.parent is not None:
        where["parent"] = equals("parent", filters.parent)
    if filters.assignee is not None:
        where["assignee"] = equals("assignee", filters.assignee)
    if filters.due_before is not None or filters.due_after is not None:
        where["due_range"] = _range("due", filters.due_after, filters.due_before, dialect, values)
    if filters.updated_since is not None:
        where["updated_since"] = f"updated_at >= {value(filters.updated_since)}"
    if filters.status == DONE and query.order[0] == Order("completed_at", descending=True):
        # All done tasks have one; without this the scan starts with all open and cancelled tasks, which have none.
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
    """Tasks whose timestamp is in this range; None is unbounded. The expression is that of the sort index, which has
    tasks without a timestamp last, so no second index of that column has to be maintained.
    """
    time = _expression(key, dialect)
    conditions = [f"{time} < {dialect.never() if before is None else dialect.value(before, values)}"]
    if after is not None:
        conditions.append(f"{time} >= {dialect.value(after, values)}")
    return " AND ".join(conditions)


def _owner(query: Query) -> str | None:
    """The owner column (project, assignee or parent) that prefixes an index in the list's order. PostgreSQL would
    rather scan the tasks of all owners in that order, as if a project that ended a year ago were active: so the ORDER
    BY begins with the owner, which only that index has."""
    filters = query.filters
    if query.order[0].key == "created_at":
        # Only one: there is no index of two. The most selective comes first.
        owners = {"parent": filters.parent, "assignee": filters.assignee, "project": filters.project}
        return next((name for name, value in owners.items() if value is not None and not filters.deleted), None)
    if _is_of_project_by_due(query):
        return "project"
    return None


def _found_in_order(query: Query) -> set[str]:
    """The conditions that bound the scan of an index in the list's order: no other task is read."""
    if (owner := _owner(query)) is not None:
        return {owner, "due_range"} if _is_of_project_by_due(query) else {owner}
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


def _is_of_project_by_due(query: Query) -> bool:
    """Whether tasks_open_by_project and tasks_closed_by_project serve it: the tasks of a project by due date."""
    return query.order[0].key == "due" and query.filters.project is not None


def _partial_indexes(query: Query) -> list[list[str]]:
    """The conditions of each partial index that has tasks of the list."""
    if not _is_of_project_by_due(query):
        return [[]]
    chosen = query.filters.status or frozenset(Status)
    return [[_one_of(statuses)] for statuses in (OPEN, CLOSED) if chosen & statuses]


def _one_of(statuses: frozenset[Status]) -> str:
    """As literals, to match the partial index: PostgreSQL cannot prove that from a placeholder."""
    return f"status IN ({', '.join(repr(status.value) for status in sorted(statuses))})"


def _keyset_and_order(query: Query, dialect: Dialect, values: list[Any]) -> tuple[list[str], str]:
    """The keyset condition, which skips the previous pages, and the order."""
    steps = _steps(query, dialect)
    if query.after is None:
        return [], _order(steps)
    owner = _owner(query)
    keyset = (*([] if owner is None else [getattr(query.filters, owner)]), *query.after[0], query.after[1])
    return _after(steps, [dialect.value(v, values) for v in keyset]), _order(steps)


def _steps(query: Query, dialect: Dialect) -> list[tuple[str, bool]]:
    """The sort expressions of the list, each with whether it is descending."""
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


def _after(steps: list[tuple[str, bool]], keyset: list[str]) -> list[str]:
    """The rows after the keyset, in the order of `steps`.

    With one direction it is a row comparison, which uses all columns of an index. With mixed directions only the first
    step bounds the index scan.
    """
    expressions = [expression for expression, _ in steps]
    if len({descending for _, descending in steps}) == 1:
        return [f"({', '.join(expressions)}) {'<' if steps[0][1] else '>'} ({', '.join(keyset)})"]
    branches = []
    for n, (expression, descending) in enumerate(steps):
        equal = [f"{e} = {p}" for e, p in zip(expressions[:n], keyset[:n], strict=True)]
        branches.append("(" + " AND ".join([*equal, f"{expression} {'<' if descending else '>'} {keyset[n]}"]) + ")")
    return [f"{expressions[0]} {'<=' if steps[0][1] else '>='} {keyset[0]}", f"({' OR '.join(branches)})"]
