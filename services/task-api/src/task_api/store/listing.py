"""Lists as SQL: `select` for SQLite and PostgreSQL, which differ in a few expressions, the others for PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Protocol

from task_api.tasks.models import Status
from task_api.tasks.query import Filters, Order, Query, SortKey

OPEN = frozenset({Status.TO_DO, Status.IN_PROGRESS})
CLOSED = frozenset({Status.DONE, Status.CANCELLED})
"""Each of these two is the condition of a partial index, tasks_open_by_project and tasks_closed_by_project; their
migrations have the same. A status in neither would be missing from the lists that are read from both."""

DONE = frozenset({Status.DONE})
ALL = Filters()


class Dialect(Protocol):
    """The SQL of one database. Each method returns SQL and appends the values of its placeholders to `values`."""

    columns: str
    has_indexes_by_project_and_due: bool

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
    merges = len(_partial_indexes(query, dialect)) > 1
    owner = None if merges and not is_read_in_order(query, dialect) else _owner(query, dialect)
    values: list[Any] = []
    conditions = list(_conditions(query, dialect, values, owner).values())
    filtered = len(conditions) > 1
    after, order = _keyset_and_order(query, dialect, values, owner)
    # PostgreSQL caches a plan only if the limit is a literal; planning takes 46 µs each time. With filters it should
    # replan: the best index depends on their values.
    limit = dialect.value(size, values) if filtered else str(size)
    where = [*conditions, *after]
    if merges and owner:
        first, in_order = _first_in_order(query, dialect, where, limit)
        return f"SELECT {dialect.columns} FROM ({first}) AS tasks {in_order}", values
    return f"SELECT {dialect.columns} FROM tasks WHERE {' AND '.join(where)} ORDER BY {order} LIMIT {limit}", values


def filter_then_sort(query: Query, size: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement that finds all matching tasks and sorts them for the page, and its values."""
    values: list[Any] = []
    conditions = _conditions(query, dialect, values, owner=None).values()
    after, order = _keyset_and_order(query, dialect, values, owner=None)
    where = f"WHERE {' AND '.join(after)} " if after else ""
    # OFFSET 0 is an optimization fence: PostgreSQL takes the keyset for more selective than the filters.
    found = f"SELECT * FROM tasks WHERE {' AND '.join(conditions)} OFFSET 0"
    # Sorting ids and reading the page's rows afterwards copies less: with the newest first, each of 40,000 matches is
    # for a moment among the first, and the page took 42 ms instead of 17 ms.
    ids = f"SELECT id FROM ({found}) AS tasks {where}ORDER BY {order} LIMIT {size}"
    return f"SELECT {dialect.columns} FROM tasks WHERE id = ANY(ARRAY({ids})) ORDER BY {order}", values


def is_read_in_order(query: Query, dialect: Dialect) -> bool:
    """Whether indexes have exactly this list in its order, so that a page reads few rows that it does not return."""
    if query.filters == ALL:  # the most frequent case: a third of the function calls
        return True
    return _conditions(query, dialect, [], owner=None).keys() - _found_in_order(query, dialect) <= {"not_deleted"}


def has_index(query: Query, dialect: Dialect) -> bool:
    """Whether an index serves the filters regardless of order: all but the statuses, which many tasks share."""
    return bool(_conditions(query, dialect, [], owner=None).keys() - {"not_deleted", "status", "completed"})


def has_owner(query: Query, dialect: Dialect) -> bool:
    """Whether `select` reads the list from an index that groups tasks by project, assignee or parent."""
    return _owner(query, dialect) is not None and len(_partial_indexes(query, dialect)) < 2


def scan_in_order(query: Query, size: int, reads: int, dialect: Dialect) -> tuple[str, list[Any]]:
    """The statement for the part of the page within the first `reads` tasks in list order, and its values."""
    owner = _owner(query, dialect)
    values: list[Any] = []
    conditions = _conditions(query, dialect, values, owner)
    after, _ = _keyset_and_order(query, dialect, values, owner)
    found = _found_in_order(query, dialect)
    inside = [conditions[name] for name in conditions if name in found] + after
    outside = " AND ".join(conditions[name] for name in conditions if name not in found) or "true"
    # As a column, for which PostgreSQL has no statistics: it expects every second row to match, and reads until the
    # page is full. Behind a UNION ALL it would expect one of 200 to match these conditions, and sort all rows.
    first, in_order = _first_in_order(query, dialect, inside, str(reads), f", ({outside}) AS matches")
    return f"SELECT {dialect.columns} FROM ({first}) AS tasks WHERE matches {in_order} LIMIT {size}", values


def _first_in_order(query: Query, dialect: Dialect, where: list[str], limit: str, columns: str = "") -> tuple[str, str]:
    """The statement for the first tasks in list order with these additional columns, and the ORDER BY for them."""
    steps: dict[str, bool] = {}
    for expression, descending in _steps(query, dialect, _owner(query, dialect)):
        steps.setdefault(expression, descending)  # the id may be in it twice
    # With aliases PostgreSQL recognizes that the rows are already sorted, and stops when the page is full. It merges
    # two partial indexes if each part has its own order and limit (findings/postgres-union-all-in-order.sh).
    names = {step: step if step.isidentifier() else f"step{n}" for n, step in enumerate(steps)}
    columns = "".join(f", {step} AS {name}" for step, name in names.items() if step != name) + columns
    in_order = f"ORDER BY {_order([(names[step], descending) for step, descending in steps.items()])}"
    indexes = [[_one_of(statuses)] for statuses in _partial_indexes(query, dialect)] or [[]]
    conditions = [" AND ".join([*where, *index]) or "true" for index in indexes]
    parts = [f"(SELECT xmin, *{columns} FROM tasks WHERE {each} {in_order} LIMIT {limit})" for each in conditions]
    return (parts[0] if len(parts) == 1 else f"{' UNION ALL '.join(parts)} {in_order} LIMIT {limit}"), in_order


def _conditions(query: Query, dialect: Dialect, values: list[Any], owner: str | None) -> dict[str, str]:
    """The conditions by name, as `_found_in_order` names them.

    owner: the column that is compared by a range, not by equality, so that it counts as a sort key.
    """
    filters = query.filters

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
        within = (owner, filters.project) if owner and query.order[0].key == "due" else None
        where["due_range"] = _range("due", filters.due_after, filters.due_before, dialect, values, within)
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


def _range(
    key: SortKey,
    after: datetime | None,
    before: datetime | None,
    dialect: Dialect,
    values: list[Any],
    within: tuple[str, object] | None = None,
) -> str:
    """Tasks whose timestamp is in this range; None is unbounded. The expression is that of the sort index, which has
    tasks without a timestamp last, so no second index of that column has to be maintained.

    within: the owner and its value. The owner is compared by a range, so only a comparison of both is where the scan of
    their index begins. It ends with the page or the owner's tasks: reading on takes 5 ms in a project of 420,000.
    """

    def bound(operator: str, timestamp: str) -> str:
        if within is None:
            return f"{_expression(key, dialect)} {operator} {timestamp}"
        owner, value = within
        return f"({owner}, {_expression(key, dialect)}) {operator} ({dialect.value(value, values)}, {timestamp})"

    conditions = [bound("<", dialect.never() if before is None else dialect.value(before, values))]
    if after is not None:
        conditions.append(bound(">=", dialect.value(after, values)))
    return " AND ".join(conditions)


def _owner(query: Query, dialect: Dialect) -> str | None:
    """The owner column (project, assignee or parent) that prefixes an index in the list's order. PostgreSQL would
    rather scan the tasks of all owners in that order, as if a project that ended a year ago were active: so the ORDER
    BY begins with the owner, which only such an index has."""
    filters = query.filters
    if query.order[0].key == "created_at":
        # Only one: there is no index of two. The most selective comes first.
        owners = {"parent": filters.parent, "assignee": filters.assignee, "project": filters.project}
        return next((name for name, value in owners.items() if value is not None and not filters.deleted), None)
    return "project" if _partial_indexes(query, dialect) else None


def _partial_indexes(query: Query, dialect: Dialect) -> list[frozenset[Status]]:
    """The statuses of each partial index by project and due date that has tasks of the list, if they serve it.

    With several sort keys one of them has the order of the first; two are merged only in exactly their order.
    """
    filters = query.filters
    if query.order[0].key != "due" or filters.project is None or filters.deleted:
        return []
    if not dialect.has_indexes_by_project_and_due:
        return []
    indexes = [statuses for statuses in (OPEN, CLOSED) if not filters.status or filters.status & statuses]
    return indexes if len(indexes) == 1 or len(query.order) == 1 else []


def _found_in_order(query: Query, dialect: Dialect) -> set[str]:
    """The conditions that bound the scan of an index in the list's order: no other task is read."""
    if (owner := _owner(query, dialect)) is not None:
        return {owner} if query.order[0].key == "created_at" else {owner, "due_range"}
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


def _one_of(statuses: frozenset[Status]) -> str:
    """As literals, to match the partial index: PostgreSQL cannot prove that from a placeholder."""
    return f"status IN ({', '.join(repr(status.value) for status in sorted(statuses))})"


def _keyset_and_order(query: Query, dialect: Dialect, values: list[Any], owner: str | None) -> tuple[list[str], str]:
    """The keyset condition, which skips the previous pages, and the order, which begins with the owner."""
    steps = _steps(query, dialect, owner)
    if query.after is None:
        return [], _order(steps)
    keyset = (*([] if owner is None else [getattr(query.filters, owner)]), *query.after[0], query.after[1])
    return _after(steps, [dialect.value(v, values) for v in keyset]), _order(steps)


def _steps(query: Query, dialect: Dialect, owner: str | None) -> list[tuple[str, bool]]:
    """The sort expressions of the list, each with whether it is descending."""
    steps = [(_expression(step.key, dialect), step.descending) for step in query.order]
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
