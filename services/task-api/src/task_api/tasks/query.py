"""List queries: filters, search words, order and cursor."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import re
import unicodedata
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Literal, cast
from uuid import UUID

from task_api.tasks.models import Priority, Status, Task, in_utc

Owner = Literal["project", "parent", "assignee"]
NameKind = Literal["label", "project", "assignee"]
SortKey = Literal["created_at", "updated_at", "due", "start_at", "completed_at", "priority", "title", "position"]

WORD = re.compile(r"[^\W_]+")
MAX_WORD = 100
NEVER = datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
"""Stands for an absent timestamp and sorts after all others: each store sorts by it instead of null."""


@dataclass(frozen=True)
class Order:
    """One sort key of an order."""

    key: SortKey
    descending: bool


@dataclass(frozen=True)
class Filters:
    """The filters of a list; a task has to match all of them.

    Timestamps: those that end with `before` are exclusive, the others inclusive.
    words: the task has all of them. prefixes: each is a prefix of one of its words.
    without: fields that are null.
    """

    status: frozenset[Status] = frozenset()
    priority: frozenset[Priority] = frozenset()
    label: frozenset[str] = frozenset()
    project: str | None = None
    parent: UUID | None = None
    assignee: str | None = None
    due_before: datetime | None = None
    due_after: datetime | None = None
    updated_since: datetime | None = None
    words: frozenset[str] | None = None
    deleted: bool = False
    without: frozenset[Owner] = frozenset()
    created_before: datetime | None = None
    created_after: datetime | None = None
    completed_before: datetime | None = None
    completed_after: datetime | None = None
    prefixes: frozenset[str] | None = None

    def match(self, task: Task) -> bool:
        """Whether `task` is in the list. The reference for the databases' queries."""
        due, completed = task.due, task.completed_at
        return (
            (task.deleted_at is not None) == self.deleted
            and (not self.status or task.status in self.status)
            and (not self.priority or task.priority in self.priority)
            and self.label <= set(task.labels)
            and (self.project is None or task.project == self.project)
            and (self.parent is None or task.parent == self.parent)
            and (self.assignee is None or task.assignee == self.assignee)
            and (self.due_before is None or (due is not None and due < self.due_before))
            and (self.due_after is None or (due is not None and due >= self.due_after))
            and (self.updated_since is None or task.updated_at >= self.updated_since)
            and (not self.without or all(getattr(task, owner) is None for owner in self.without))
            and (self.created_before is None or task.created_at < self.created_before)
            and (self.created_after is None or task.created_at >= self.created_after)
            and (self.completed_before is None or (completed is not None and completed < self.completed_before))
            and (self.completed_after is None or (completed is not None and completed >= self.completed_after))
            and (self.words is None or (bool(self.words) and self.words <= words_of(task)))
            and (self.prefixes is None or (bool(self.prefixes) and _match_prefixes(self.prefixes, words_of(task))))
        )


def _match_prefixes(prefixes: frozenset[str], found: frozenset[str]) -> bool:
    return all(any(word.startswith(prefix) for word in found) for prefix in prefixes)


@dataclass(frozen=True)
class Query:
    """A list: its filters, its order (ties are broken by id) and where the page starts."""

    filters: Filters = Filters()
    order: tuple[Order, ...] = (Order("created_at", descending=True),)
    after: tuple[tuple[Any, ...], UUID] | None = None
    """The sort values and the id of the last task of the previous page (keyset pagination)."""


class InvalidCursor(Exception):
    """The cursor is malformed, or belongs to another list; the message says which."""


def words(text: str) -> frozenset[str]:
    """The words of a text as search compares them: whole words, case-folded and normalized.

    The single definition for all stores: they store these words and match them exactly.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    found = WORD.findall(folded)
    if len(folded) > MAX_WORD:
        found = [word[:MAX_WORD] for word in found]
    return frozenset(found)


def words_of(task: Task) -> frozenset[str]:
    """The words of title and description, by which search finds the task."""
    return words(f"{task.title} {task.description or ''}")


def read_order(sort: str) -> tuple[Order, ...]:
    """Parses a sort parameter such as `-priority,due`. Repeated keys have no effect and are dropped."""
    steps: dict[str, Order] = {}
    for name in sort.split(","):
        key = cast("SortKey", name.removeprefix("-"))
        steps.setdefault(key, Order(key, descending=name.startswith("-")))
    return tuple(steps.values())


def sort_value(task: Task, key: SortKey) -> Any:
    """The value that the task is sorted by: comparable, never None. `created_at` is the id: a UUIDv7 has the time in
    it."""
    match key:
        case "created_at":
            return task.id
        case "priority":
            return task.priority.rank
        case "title" | "position" | "updated_at":
            return getattr(task, key)
        case "due":
            return task.due or NEVER
        case "start_at" | "completed_at":
            return getattr(task, key) or NEVER


def next_page(query: Query, last: Task) -> Query:
    """The query of the page that follows `last`."""
    return replace(query, after=(tuple(sort_value(last, step.key) for step in query.order), last.id))


def write_cursor(query: Query, last: Task) -> str:
    """The opaque cursor after `last`, bound to the list's filters and order."""
    values = [_encode(sort_value(last, step.key)) for step in query.order]
    content = json.dumps([_fingerprint(query.filters, query.order), values, str(last.id)], separators=(",", ":"))
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def read_cursor(query: Query, cursor: str) -> tuple[tuple[Any, ...], UUID]:
    """Decodes a cursor of `write_cursor`. Raises InvalidCursor, also if the list has other filters or another order."""
    try:
        content = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True))
        fingerprint, values, last = content
        keyset = tuple(_decode(step.key, value) for step, value in zip(query.order, values, strict=True)), UUID(last)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise InvalidCursor("Not a cursor of this list. Start over without a cursor.") from None
    if fingerprint != _fingerprint(query.filters, query.order):
        raise InvalidCursor(
            "This cursor belongs to a list with other filters or another order. Start over without a cursor."
        )
    return keyset


LATER_FILTERS = {"without", "created_before", "created_after", "completed_before", "completed_after", "prefixes"}
"""Filters added after the first release: unused, they do not change the fingerprint, so cursors of older pods stay
valid."""
NO_FILTERS = Filters()


@functools.lru_cache(maxsize=256)  # it takes 40 µs, and most lists are requested repeatedly
def _fingerprint(filters: Filters, order: tuple[Order, ...]) -> str:
    parts = {
        name: sorted(value) if isinstance(value, frozenset) else value
        for name, value in asdict(filters).items()
        if name not in LATER_FILTERS or value != getattr(NO_FILTERS, name)
    }
    steps = [(step.key, step.descending) for step in order]
    return hashlib.sha256(json.dumps([parts, steps], default=str, sort_keys=True).encode()).hexdigest()[:16]


def _encode(value: object) -> Any:
    return (
        value
        if isinstance(value, int | float | str)
        else value.isoformat()
        if isinstance(value, datetime)
        else str(value)
    )


def _decode(key: SortKey, value: Any) -> Any:
    match key:
        case "created_at":
            return UUID(value)
        case "priority" if isinstance(value, int) and 0 <= value < len(Priority):
            return value
        case "position" if isinstance(value, int | float):
            return float(value)
        case "title" if isinstance(value, str) and "\0" not in value:
            value.encode()  # rejects lone surrogates
            return value
        case "updated_at" | "due" | "start_at" | "completed_at":
            time = datetime.fromisoformat(value)
            return NEVER if time == NEVER else in_utc(time)
    raise ValueError(value)
