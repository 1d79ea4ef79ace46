"""The memory store as the model of the databases: any sequence of operations gives the same results.

`test_store_contract.py` has the contract by examples. Here hypothesis generates them: it runs long sequences of
writes, lists, searches, feeds and purges against memory and a database, and stops at the first difference, which it
prints as a few lines of Python.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta, timezone
from itertools import count, product
from operator import methodcaller
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar, get_args
from uuid import UUID

import asyncpg
import pytest
import uvloop
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from hypothesis.strategies import SearchStrategy

from task_api import store
from task_api.store import ChangesPurged, IdempotencyRecord, Store, StoredChange, VersionConflict, Write
from task_api.tasks import rules
from task_api.tasks.models import NewTask, Priority, Status, Task, TaskPatch
from task_api.tasks.query import (
    Filters,
    NameKind,
    Order,
    Owner,
    Query,
    SortKey,
    read_cursor,
    words,
    words_of,
    write_cursor,
)

T = TypeVar("T")
Said: TypeAlias = dict[str, object]

NOW = datetime(2026, 11, 23, 12, 30, 15, 123456, tzinfo=UTC)
HOUR, DAY, MICROSECOND = timedelta(hours=1), timedelta(days=1), timedelta(microseconds=1)
EVERYTHING = 1000
"""A size that no list and no feed of one example reaches."""
SETTLE_SECONDS = 10.0
FUZZ = 10
"""Multiplies the number of examples in `make fuzz`."""

# --- what tasks are made of -------------------------------------------------------------

# Each broke some search: letters that change their number in another case, several encodings of one text,
# letters in one language's tables only, operators of FTS5 or to_tsquery, characters that SQL must quote.
CASES = ["Straße", "STRASSE", "ẞ", "İstanbul", "istanbul", "\u0131I", "ΣΊΣΥΦΟΣ", "σίσυφος", "σίσυφοσ", "ΐ", "ŉ", "ǅ"]
ENCODINGS = ["ﬁsh", "fish", "eﬀort", "caf\u00e9", "cafe\u0301", "\u0301", "\uff21\uff11", "a1", "²³", "Ⅷ", "\u017f"]
LETTERS = ["\u2126", "ω", "\u212a", "k", "世界", "世", "ｶﾀｶﾅ", "カタカナ", "\ud55c", "\u1112\u1161\u11ab", "हिन्दी"]
NUMBERS = ["שלום", "ก็", "½", "٤٢", "42", "4 2", "\U0001d4b3", "\U00010400", "snake_case", "_", "__", "a", "b", "c d"]
OPERATORS = ["AND", "and", "OR", "NOT", "NEAR", "NEAR(a b)", "*", "fis*", "fish:*", "-fish", "^a", "{a}: b", "a & b"]
QUOTED = ["a | !b", "<->", "a <2> b", "(", ")", '"quoted"', '"', "it's", "''", "a,b", "\\", "\\'", "%", "$1", "NULL"]
SYMBOLS = ["👋", "👩\u200d👩\u200d👧", "🏳\ufe0f", "soft\u00adhyphen", "\u200b", "\ufeff", "\ufffe", "\uffff", "\u2028."]
LONG = ["w" * 101, "w" * 100, "ﷺ" * 30]
TEXTS = [*CASES, *ENCODINGS, *LETTERS, *NUMBERS, *OPERATORS, *QUOTED, *SYMBOLS, *LONG]
BREAKS = ["", "\n", "\t\r\n", "\x01\x1f\x7f", "\x85"]

printable = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
lines = st.builds(
    lambda glue, parts: glue.join(parts).strip(),
    st.sampled_from([" ", "", "  ", "_", "-"]),
    st.lists(st.sampled_from(TEXTS) | printable, max_size=4),
)
titles = lines.filter(bool).map(lambda line: line[:200])
names = st.sampled_from(TEXTS).filter(lambda text: len(text) <= 100) | titles.map(lambda line: line[:100])
"""Labels, projects and assignees: mostly from a small set, so that filters match."""
descriptions = st.builds(lambda a, between, b: f"{a}{between}{b}", lines, st.sampled_from(BREAKS), lines)

TIMESTAMPS = [
    datetime(2, 1, 1, tzinfo=UTC),
    datetime(1969, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
    datetime(2026, 11, 23, tzinfo=UTC),
    datetime(2026, 11, 23, 23, 59, 59, 999999, tzinfo=UTC),
    NOW - MICROSECOND,
    NOW,
    NOW + MICROSECOND,
    NOW + DAY,
    datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC),
]
ZONES = [UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-9, minutes=-30))]
DAYS = [date(2, 1, 1), date(2026, 11, 22), date(2026, 11, 23), date(2026, 11, 24), date(9998, 12, 31)]
IDS = [UUID(int=0), UUID(int=2**128 - 1), UUID("01a209b3-fcfd-7015-92d5-ecad43015460")]
RULES = ["FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO,FR;COUNT=2", "FREQ=MONTHLY;BYDAY=-1FR", "FREQ=YEARLY;UNTIL=20301231"]
TIME_ZONES = ["UTC", "Europe/Berlin", "Australia/Lord_Howe"]
POSITIONS = [-0.0, 0.0, 1.0, -1.5, 0.1, 5e-324, -5e-324, 1e-300, 1e15, -1e15, 123456789012345.67, 1e15 - 0.125]

timestamps = st.sampled_from(TIMESTAMPS) | st.builds(
    lambda microseconds, zone: (NOW + microseconds * MICROSECOND).astimezone(zone),
    st.integers(-(2**55), 2**57),
    st.sampled_from(ZONES),
)
days = st.sampled_from(DAYS) | st.dates(date(2, 1, 1), date(9998, 12, 31))
parents = st.sampled_from(IDS) | st.uuids()
positions = st.sampled_from(POSITIONS) | st.floats(-1e15, 1e15)
metadata_keys = st.sampled_from(["a", "A", "b.c-d_e", "10", "9", "__proto__", "k" * 40])

optional_fields: dict[str, SearchStrategy[object]] = {
    "description": st.none() | descriptions,
    "status": st.sampled_from(Status),
    "priority": st.sampled_from(Priority),
    "start_at": st.none() | timestamps.map(datetime.isoformat),
    "labels": st.lists(names, max_size=4),
    "project": st.none() | names,
    "parent": st.none() | parents,
    "assignee": st.none() | names,
    "percent_done": st.integers(0, 100),
    "recurrence": st.none() | st.sampled_from(RULES),
    "time_zone": st.none() | st.sampled_from(TIME_ZONES),
    "position": positions,
}
dues: SearchStrategy[Said] = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"due_at": timestamps.map(datetime.isoformat)}),
    st.fixed_dictionaries({"due_on": days.map(date.isoformat)}),
)


# Composite: hypothesis prints a strategy built of others with all its parts, kilobytes of them.


@st.composite
def new_tasks(draw: st.DrawFn) -> NewTask:
    """A new task, as the API would accept it."""
    fields = draw(st.fixed_dictionaries({"title": titles}, optional=optional_fields))
    metadata = draw(st.dictionaries(metadata_keys, descriptions, max_size=3))
    return NewTask.model_validate({**fields, **draw(dues), "metadata": metadata})


@st.composite
def patches(draw: st.DrawFn) -> TaskPatch:
    """A patch, as the API would accept it."""
    fields = draw(st.fixed_dictionaries({}, optional={**optional_fields, "title": titles}))
    metadata = draw(st.dictionaries(metadata_keys, st.none() | descriptions, max_size=3))
    due = draw(dues | st.sampled_from([{"due_at": None}, {"due_on": None}]))
    return TaskPatch.model_validate({**fields, **due, "metadata": metadata})


# --- operations -------------------------------------------------------------------------


@dataclass(frozen=True)
class Create:
    """A new task, under a new id or one used before: rejected until that task is purged."""

    task_id: UUID | int
    new: NewTask


@dataclass(frozen=True)
class Change:
    """The next version of an existing task; `task_id` is for the occurrence that may follow."""

    which: int
    patch: TaskPatch
    task_id: UUID


@dataclass(frozen=True)
class Delete:
    """The deletion of a task, or its undeletion if it is deleted."""

    which: int


@dataclass(frozen=True)
class Mistake:
    """A task that is `ahead` of the stored version (1 would be right), or the second version of a missing one."""

    which: int
    ahead: int
    none: UUID | None
    new: NewTask


Step: TypeAlias = Create | Change | Delete | Mistake

whiches = st.integers(0, 100)


@st.composite
def creations(draw: st.DrawFn) -> Create:
    return Create(draw(st.uuids() | whiches), draw(new_tasks()))


@st.composite
def steps(draw: st.DrawFn) -> Step:
    """A valid step."""
    changes = st.builds(Change, whiches, patches(), st.uuids())
    return draw(st.one_of(creations(), changes, st.builds(Delete, whiches)))


@st.composite
def mistakes(draw: st.DrawFn) -> Mistake:
    """An invalid step."""
    ahead = st.sampled_from([-1, 0, 2, 3])
    return Mistake(draw(whiches), draw(ahead), draw(st.none() | st.uuids()), draw(new_tasks()))


records = st.builds(
    IdempotencyRecord,
    subject=st.sampled_from(["ann", "bob", "Ann"]),
    key=st.sampled_from(["key", "Key", "key ", "ключ"]),
    fingerprint=st.sampled_from(["one", "other"]),
    status=st.sampled_from([201, 207]),
    body=st.sampled_from(["{}", '{"a": "ü"}', '"\\u0000 👋"', '{"z": 1, "a": 1.0}']),
)
WAITS = [timedelta(seconds=-5), MICROSECOND, HOUR, DAY - MICROSECOND, DAY, DAY + MICROSECOND, 31 * DAY]
times = st.sampled_from(WAITS)
ages = st.sampled_from([timedelta(0), MICROSECOND, HOUR, DAY, 30 * DAY]) | st.timedeltas(timedelta(0), 40 * DAY)
sizes = st.integers(1, 4)
orders = st.lists(
    st.builds(Order, st.sampled_from(get_args(SortKey)), descending=st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda step: step.key,
).map(tuple)
searched = st.lists(st.sampled_from(TEXTS) | lines, max_size=3).map(" ".join).map(words)
conditions: dict[str, SearchStrategy[object]] = {
    "status": st.frozensets(st.sampled_from(Status)),
    "priority": st.frozensets(st.sampled_from(Priority)),
    "label": st.frozensets(names, max_size=2),
    "project": names,
    "parent": parents,
    "assignee": names,
    "due_before": timestamps,
    "due_after": timestamps,
    "updated_since": timestamps,
    "words": searched,
    "deleted": st.booleans(),
    "without": st.frozensets(st.sampled_from(get_args(Owner)), min_size=1, max_size=2),
    "created_before": timestamps,
    "created_after": timestamps,
    "completed_before": timestamps,
    "completed_after": timestamps,
    "prefixes": searched,
}


@st.composite
def filters(draw: st.DrawFn) -> Filters:
    """Few at once, or no task would match them all."""
    chosen = draw(st.lists(st.sampled_from(list(conditions)), max_size=3, unique=True))
    fields: dict[str, Any] = {name: draw(conditions[name]) for name in chosen}
    return Filters(**fields)


Likeness = Literal[
    "status",
    "priority",
    "labels",
    "project",
    "parent",
    "assignee",
    "due_before",
    "due_after",
    "updated_since",
    "words",
    "part",
    "without",
    "created",
    "completed_before",
    "completed_after",
    "prefixes",
]
likenesses = st.lists(st.sampled_from(get_args(Likeness)), min_size=1, max_size=3)
shifts = st.sampled_from([timedelta(0), MICROSECOND, -MICROSECOND])


def filters_like(task: Task, likeness: list[Likeness], pick: int, shift: timedelta) -> Filters:
    """Filters that `task` matches, or misses narrowly: random ones match few tasks."""
    found = sorted(words_of(task))
    made = Filters(deleted=task.deleted_at is not None)
    for name in likeness:
        match name:
            case "status":
                made = replace(made, status=frozenset({task.status}))
            case "priority":
                made = replace(made, priority=frozenset({task.priority}))
            case "labels":
                made = replace(made, label=frozenset(task.labels[pick % 3 :]))
            case "project" | "parent" | "assignee":
                made = replace(made, **{name: getattr(task, name)})
            case "due_before" if task.due is not None:
                made = replace(made, due_before=task.due + shift)
            case "due_after" if task.due is not None:
                made = replace(made, due_after=task.due + shift)
            case "updated_since":
                made = replace(made, updated_since=task.updated_at + shift)
            case "words" if found:
                made = replace(made, words=frozenset(found[pick % len(found) :][:3]))
            case "without":
                lacks = [owner for owner in get_args(Owner) if getattr(task, owner) is None]
                made = replace(made, without=frozenset(lacks[pick % 3 :]))
            case "created":
                made = replace(made, created_after=task.created_at + shift, created_before=task.created_at + DAY)
            case "completed_before" if task.completed_at is not None:
                made = replace(made, completed_before=task.completed_at + shift)
            case "completed_after" if task.completed_at is not None:
                made = replace(made, completed_after=task.completed_at + shift)
            case "prefixes" if found:
                chosen = found[pick % len(found) :][:2]
                made = replace(made, prefixes=frozenset(word[: 1 + pick % len(word)] for word in chosen))
            case "part" if found:
                made = replace(made, words=frozenset({found[pick % len(found)][:-1]} - {""}))
    return made


@dataclass(frozen=True)
class Place:
    """A place in the feed: memory's cursor and the database's; None is its beginning."""

    ours: str | None
    theirs: str | None


BEGINNING = Place(None, None)


@dataclass(frozen=True)
class Database:
    """The database compared with memory. fresh: opens it, empty. settle: waits until the feed has every committed
    change."""

    fresh: Callable[[], AbstractAsyncContextManager[Store]]
    settle: Callable[[], Awaitable[None]]


class StoresAgree(RuleBasedStateMachine):
    """Performs every operation twice, in memory and in a database, and compares the results."""

    def __init__(self, runner: asyncio.Runner, database: Database) -> None:
        super().__init__()
        self.runner = runner
        self.database = database
        self.model: Store = store.from_url("memory://")
        self.opened = contextlib.AsyncExitStack()
        self.other = runner.run(self.opened.enter_async_context(database.fresh()))
        self.now = NOW
        self.ids: list[UUID] = []
        self.places: list[Query] = [Query()]
        self.cursors: list[Place] = [BEGINNING]

    def teardown(self) -> None:
        self.runner.run(self.opened.aclose())

    # Each rule is a coroutine run to its end: hypothesis supports only ordinary functions.

    @initialize(planned=st.lists(creations(), min_size=2, max_size=5))
    def begin_with_some(self, planned: list[Step]) -> None:
        self.runner.run(self._commit(planned, None))

    @rule(planned=st.lists(steps(), max_size=4), record=st.none() | records)
    def commit(self, planned: list[Step], record: IdempotencyRecord | None) -> None:
        self.runner.run(self._commit(planned, record))

    @rule(
        before=st.lists(steps(), max_size=2),
        mistake=mistakes(),
        after=st.lists(steps(), max_size=2),
        record=st.none() | records,
    )
    def commit_with_a_mistake(
        self, before: list[Step], mistake: Mistake, after: list[Step], record: IdempotencyRecord | None
    ) -> None:
        self.runner.run(self._commit([*before, mistake, *after], record))

    @rule(planned=st.lists(steps(), max_size=2), record=records, by=times)
    def commit_and_again_later(self, planned: list[Step], record: IdempotencyRecord, by: timedelta) -> None:
        self.runner.run(self._commit(planned, record))
        self.now += by
        self.runner.run(self._commit(planned, replace(record, body='"again"')))

    @rule(by=times)
    def wait(self, by: timedelta) -> None:
        self.now += by

    @rule(chosen=st.lists(whiches, max_size=4), unknown=st.uuids())
    def get(self, chosen: list[int], unknown: UUID) -> None:
        self.runner.run(self._get([self._id(which) for which in chosen] + [unknown]))

    @rule(filters=filters() | st.just(Filters()), order=orders, size=st.integers(0, 4) | st.just(EVERYTHING))
    def page(self, filters: Filters, order: tuple[Order, ...], size: int) -> None:
        self.runner.run(self._same(_page(Query(filters, order), size)))
        self.runner.run(self._same(lambda of: of.count_found(filters, limit=size)))

    @rule(kind=st.sampled_from(get_args(NameKind)), scan=sizes | st.just(EVERYTHING), limit=sizes)
    def count_names(self, kind: NameKind, scan: int, limit: int) -> None:
        self.runner.run(self._same(methodcaller("names", kind, scan=scan, limit=limit)))

    @rule(then=orders, deleted=st.booleans())
    def page_by_each_key(self, then: tuple[Order, ...], deleted: bool) -> None:
        for key, descending in product(get_args(SortKey), [False, True]):
            order = (Order(key, descending), *(step for step in then if step.key != key))
            self.runner.run(self._same(_page(Query(Filters(deleted=deleted), order), EVERYTHING)))

    @rule(which=whiches, likeness=likenesses, pick=whiches, shift=shifts)
    def page_of_tasks_alike(self, which: int, likeness: list[Likeness], pick: int, shift: timedelta) -> None:
        self.runner.run(self._page_of_tasks_alike(which, likeness, pick, shift))

    @rule(filters=filters() | st.just(Filters()), order=orders, size=sizes)
    def page_through(self, filters: Filters, order: tuple[Order, ...], size: int) -> None:
        self.runner.run(self._page_through(Query(filters, order), size))

    @rule(which=whiches, size=sizes)
    def page_on_from_a_place_of_earlier(self, which: int, size: int) -> None:
        query = self.places[which % len(self.places)]
        self.runner.run(self._same(_page(query, size)))

    @rule(which=whiches, size=sizes | st.just(EVERYTHING))
    def changes(self, which: int, size: int) -> None:
        self.runner.run(self._changes(self.cursors[which % len(self.cursors)], size))

    @rule()
    def last_cursor(self) -> None:
        self.runner.run(self._last_cursor())

    @rule(deleted=ages, recorded=ages)
    def purge(self, deleted: timedelta, recorded: timedelta) -> None:
        self.runner.run(self._purge(self.now - deleted, self.now - recorded))

    @rule(which=whiches, shift=shifts, recorded=ages)
    def purge_up_to_a_task(self, which: int, shift: timedelta, recorded: timedelta) -> None:
        self.runner.run(self._purge_up_to_a_task(which, shift, self.now - recorded))

    @invariant()
    def the_lists_and_the_feed_are_the_same(self) -> None:
        self.runner.run(self._whole())

    async def _commit(self, planned: list[Step], record: IdempotencyRecord | None) -> None:
        tasks = await self.model.get_many(self.ids)
        writes: list[Write] = []
        for step in planned:
            for write in self._writes(step, tasks):
                writes.append(write)
                tasks[write.task.id] = write.task
        self.ids += dict.fromkeys(write.task.id for write in writes if write.task.id not in self.ids)
        await self._same(lambda of: _or_conflict(of.commit(writes, record, now=self.now)))

    def _writes(self, step: Step, tasks: dict[UUID, Task]) -> list[Write]:
        """The writes of a step, given the current `tasks`."""
        if isinstance(step, Create):
            task_id = step.task_id if isinstance(step.task_id, UUID) else self._id(step.task_id)
            return [Write(rules.create(step.new, task_id=task_id, now=self.now), "created")]
        if isinstance(step, Mistake) and step.none is not None:
            nothing = rules.create(step.new, task_id=step.none, now=self.now)
            return [Write(nothing.model_copy(update={"version": 2}), "updated")]
        if not tasks:
            return []
        before = list(tasks.values())[step.which % len(tasks)]
        match step:
            case Change():
                task = rules.update(before, step.patch, now=self.now)
                if task is before:
                    return []
                if rules.reopens(before, step.patch):
                    next_task = tasks.get(before.followed_by or before.id)
                    task, removed = rules.reopen(task, step.patch, next_task=next_task, now=self.now)
                    return [Write(task, "updated")] + ([] if removed is None else [Write(removed, "deleted")])
                task, following = rules.advance_recurrence(task, before=before, task_id=step.task_id, now=self.now)
                return [Write(task, "updated")] + ([] if following is None else [Write(following, "created")])
            case Delete() if before.deleted_at is None:
                return [Write(rules.delete(before, now=self.now), "deleted")]
            case Delete():
                return [Write(rules.undelete(before, now=self.now), "undeleted")]
            case Mistake():
                late = rules.create(step.new, task_id=before.id, now=self.now)
                return [Write(late.model_copy(update={"version": max(1, before.version + step.ahead)}), "updated")]

    def _id(self, which: int) -> UUID:
        """An id used for a task before, including purged ones."""
        return self.ids[which % len(self.ids)] if self.ids else UUID(int=which)

    async def _get(self, task_ids: list[UUID]) -> None:
        found = await self._same(lambda of: of.get_many(task_ids))
        for task_id in task_ids:
            assert await self._same(_task(task_id)) == found.get(task_id)

    async def _page_of_tasks_alike(self, which: int, likeness: list[Likeness], pick: int, shift: timedelta) -> None:
        tasks = list((await self.model.get_many(self.ids)).values())
        if tasks:
            task = tasks[which % len(tasks)]
            for chosen in [likeness, *([one] for one in get_args(Likeness))]:
                query = Query(filters_like(task, chosen, pick, shift))
                await self._same(methodcaller("page", query, size=EVERYTHING))

    async def _page_through(self, query: Query, size: int) -> None:
        whole = await self._same(lambda of: of.page(query, size=EVERYTHING))
        for begin in count(0, size):
            page = await self._same(methodcaller("page", query, size=size))
            assert page == whole[begin : begin + size]
            if not page:
                return
            query = replace(query, after=read_cursor(query, write_cursor(query, page[-1])))
            self.places.append(query)

    async def _changes(self, after: Place, size: int) -> None:
        self.cursors += await self._feed(after, size)

    async def _feed(self, after: Place, size: int) -> list[Place]:
        """The cursors of the changes after a place, which are the same in both, or purged in both."""
        await self.database.settle()
        ours = await _or_purged(self.model.changes(after.ours, size=size))
        theirs = await _or_purged(self.other.changes(after.theirs, size=size))
        if ours is None or theirs is None:
            assert ours == theirs
            return []
        assert [(change.type, change.task) for change in ours] == [(change.type, change.task) for change in theirs]
        return [Place(our.cursor, their.cursor) for our, their in zip(ours, theirs, strict=True)]

    async def _last_cursor(self) -> None:
        await self.database.settle()
        last = Place(await self.model.last_cursor(), await self.other.last_cursor())
        self.cursors.append(last)
        assert await self._feed(last, 1) == []

    async def _purge(self, deleted_before: datetime, records_before: datetime) -> None:
        self.cursors += await self._feed(BEGINNING, EVERYTHING)
        await self._same(lambda of: of.purge(deleted_before=deleted_before, records_before=records_before))
        for place in self.cursors[-10:]:
            await self._feed(place, 1)

    async def _purge_up_to_a_task(self, which: int, shift: timedelta, records_before: datetime) -> None:
        tasks = list((await self.model.get_many(self.ids)).values())
        if tasks:
            await self._purge(tasks[which % len(tasks)].updated_at + shift, records_before)

    async def _whole(self) -> None:
        await self._feed(BEGINNING, EVERYTHING)
        await self._same(lambda of: of.count())
        await self._same(lambda of: of.page(Query(), size=EVERYTHING))
        await self._same(lambda of: of.page(Query(Filters(deleted=True)), size=EVERYTHING))

    async def _same(self, ask: Callable[[Store], Awaitable[T]]) -> T:
        """The result of both."""
        ours, theirs = await ask(self.model), await ask(self.other)
        assert ours == theirs
        return ours


def _task(task_id: UUID) -> Callable[[Store], Awaitable[Task | None]]:
    """The task; as JSON it is the same unless it is deleted."""

    async def ask(of: Store) -> Task | None:
        task, as_json = await of.get(task_id), await of.get_json(task_id)
        if as_json is None:
            assert task is None or task.deleted_at is not None
        else:
            version, content = as_json
            assert task is not None
            assert (version, Task.model_validate_json(content), task.deleted_at) == (task.version, task, None)
        return task

    return ask


def _page(query: Query, size: int) -> Callable[[Store], Awaitable[list[Task]]]:
    """A page; as JSON it is the same."""

    async def ask(of: Store) -> list[Task]:
        page = await of.page(query, size=size)
        assert [Task.model_validate_json(content) for _, content in await of.page_json(query, size=size)] == page
        return page

    return ask


async def _or_conflict(
    pending: Awaitable[IdempotencyRecord | None],
) -> IdempotencyRecord | type[VersionConflict] | None:
    try:
        return await pending
    except VersionConflict:
        return VersionConflict


async def _or_purged(pending: Awaitable[list[StoredChange]]) -> list[StoredChange] | None:
    try:
        return await pending
    except ChangesPurged:
        return None


# --- the databases ----------------------------------------------------------------------


def settings_for(examples: int, seed: int | None) -> settings:
    """Without a seed the same examples in each run: failures are reproducible and independent of chance. With one, FUZZ
    times as many; hypothesis takes the seed from its own option."""
    return settings(
        derandomize=seed is None,
        database=None,  # the examples depend only on the seed
        max_examples=examples if seed is None else FUZZ * examples,
        stateful_step_count=25,
        deadline=None,
        # Without the last phase, which explains a failure: it makes everything several times slower.
        phases=[Phase.explicit, Phase.generate, Phase.shrink],
        # A step waits for a disk or a server, and draws whole tasks: both are slow by hypothesis's standards.
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


def hold_against_memory(database: Database, runner: asyncio.Runner, chosen: settings) -> None:
    class Machine(StoresAgree):
        """Hypothesis creates one for each example, without arguments."""

        def __init__(self) -> None:
            super().__init__(runner, database)

    run_state_machine_as_test(Machine, settings=chosen)


@pytest.mark.generated
@pytest.mark.timeout(1200)  # a failure is shrunk before it is printed, which takes minutes
def test_sqlite_behaves_as_memory(seed: int | None, tmp_path: Path) -> None:
    numbers = count()

    @contextlib.asynccontextmanager
    async def fresh() -> AsyncIterator[Store]:
        opened = store.from_url(f"sqlite:///{tmp_path}/{next(numbers)}.db")
        await opened.open()
        yield opened
        await opened.close()

    async def settle() -> None: ...

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        hold_against_memory(Database(fresh, settle), runner, settings_for(12, seed))


@pytest.mark.generated
@pytest.mark.timeout(1200)  # a failure is shrunk before it is printed, which takes minutes
def test_postgresql_behaves_as_memory(seed: int | None, postgres_url: str) -> None:
    opened = store.from_url(postgres_url)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(opened.open())
        beside = runner.run(asyncpg.connect(postgres_url))

        @contextlib.asynccontextmanager
        async def fresh() -> AsyncIterator[Store]:
            # A separate database for each example would take most of the time.
            await beside.execute(
                "TRUNCATE tasks, changes, idempotency_records; UPDATE changes_purged SET xid = '0', number = 0"
            )
            yield opened

        async def settle() -> None:
            # The feed withholds changes younger than any running transaction: here at most that of an autovacuum.
            behind = "SELECT EXISTS (SELECT FROM changes WHERE xid >= pg_snapshot_xmin(pg_current_snapshot()))"
            deadline = time.monotonic() + SETTLE_SECONDS
            while await beside.fetchval(behind):
                assert time.monotonic() < deadline, "some transaction runs on and on"
                await asyncio.sleep(0.01)

        try:
            hold_against_memory(Database(fresh, settle), runner, settings_for(8, seed))
        finally:
            runner.run(beside.close())
            runner.run(opened.close())
