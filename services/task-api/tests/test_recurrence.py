"""Rules of recurrence: which are taken, and when the next occurrence is."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from random import Random
from types import FrameType
from typing import Annotated, Any

import pytest
from dateutil.rrule import rrule, rrulestr
from making import a_task
from pydantic import StringConstraints, TypeAdapter, ValidationError

from task_api.tasks.models import Status, Task
from task_api.tasks.recurrence import Occurrence, next_occurrence
from task_api.tasks.rrule import RULE_PATTERN, Rule, parse

TraceFunction = Callable[[FrameType, str, Any], Any]
MAX_STEPS = 100_000
FUZZ = 10
"""So many times the rules in `make fuzz`."""
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
WEEKDAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]
RULE = TypeAdapter(Annotated[str, StringConstraints(pattern=RULE_PATTERN)])  # checked by Rust's regex


def task(
    recurrence: str | None,
    *,
    due_at: datetime | None = None,
    due_on: date | None = None,
    start_at: datetime | None = None,
) -> Task:
    return a_task(
        status=Status.DONE,
        percent_done=100,
        recurrence=recurrence,
        due_at=due_at,
        due_on=due_on,
        start_at=start_at,
        completed_at=NOW,
    )


def next_day(recurrence: str, day: date) -> date | None:
    following = next_occurrence(task(recurrence, due_on=day), now=NOW)
    return None if following is None else following.due_on


def is_taken(rule: str) -> bool:
    """By both engines that read the pattern here: they must agree."""
    try:
        RULE.validate_python(rule)
    except ValidationError:
        assert re.fullmatch(RULE_PATTERN, rule) is None
        return False
    assert re.fullmatch(RULE_PATTERN, rule) is not None
    return True


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=DAILY",
        "FREQ=WEEKLY",
        "FREQ=MONTHLY",
        "FREQ=YEARLY",
        "FREQ=DAILY;INTERVAL=999",
        "FREQ=DAILY;BYMONTHDAY=1,15,-1",
        "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU",
        "FREQ=WEEKLY;INTERVAL=2;BYDAY=FR,MO;COUNT=10",
        "FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13",
        "FREQ=YEARLY;UNTIL=20301231T235959Z",
        "FREQ=YEARLY;UNTIL=00010101T000000Z",
        "FREQ=YEARLY;UNTIL=20280229T000000Z",
        "FREQ=YEARLY;UNTIL=20000229T000000Z",
    ],
)
def test_a_rule_of_the_subset_is_taken(rule: str) -> None:
    assert is_taken(rule)


@pytest.mark.parametrize(
    "rule",
    [
        "",
        "DAILY",
        "FREQ=HOURLY",
        "freq=daily",
        "RRULE:FREQ=DAILY",
        " FREQ=DAILY",
        "FREQ=DAILY;",
        "FREQ=DAILY\n",
        "FREQ=DAILY\nX:1",
        "FREQ=DAILY;INTERVAL=0",
        "FREQ=DAILY;INTERVAL=01",
        "FREQ=DAILY;INTERVAL=1000",
        "FREQ=DAILY;INTERVAL=\u0663",  # 3, in Arabic
        "FREQ=DAILY;COUNT=0",
        "FREQ=DAILY;COUNT=1000",
        "FREQ=DAILY;COUNT=2;UNTIL=20300101T000000Z",
        "COUNT=2;FREQ=DAILY",
        "FREQ=DAILY;COUNT=2;INTERVAL=2",
        "FREQ=WEEKLY;BYDAY=",
        "FREQ=WEEKLY;BYDAY=MO,",
        "FREQ=WEEKLY;BYDAY=1MO",
        "FREQ=WEEKLY;BYMONTHDAY=1",
        "FREQ=MONTHLY;BYMONTHDAY=0",
        "FREQ=MONTHLY;BYMONTHDAY=32",
        "FREQ=MONTHLY;BYMONTHDAY=-2",
        "FREQ=DAILY;UNTIL=20300101",
        "FREQ=DAILY;UNTIL=20300101T000000",
        "FREQ=DAILY;UNTIL=20300101T240000Z",
        "FREQ=DAILY;UNTIL=20300101T236000Z",
        "FREQ=DAILY;UNTIL=20300101T235960Z",
    ],
)
def test_anything_else_is_refused(rule: str) -> None:
    assert not is_taken(rule)


def test_until_is_a_day_that_exists() -> None:
    pattern = re.compile(RULE_PATTERN)
    for year in (0, 1, 4, 10, 100, 400, 1000, 1900, 2000, 2023, 2024, 2100, 2400, 9999):
        for month in range(14):
            for day in range(33):
                text = f"{year:04}{month:02}{day:02}"
                try:
                    date.fromisoformat(text)
                except ValueError:
                    exists = False
                else:
                    exists = True
                assert (pattern.fullmatch(f"FREQ=DAILY;UNTIL={text}T000000Z") is not None) == exists, text


@pytest.mark.parametrize(
    ("rule", "day", "following"),
    [
        ("FREQ=DAILY", date(2026, 12, 31), date(2027, 1, 1)),
        ("FREQ=DAILY;INTERVAL=10", date(2026, 11, 23), date(2026, 12, 3)),
        ("FREQ=DAILY;BYMONTHDAY=-1", date(2028, 2, 1), date(2028, 2, 29)),
        ("FREQ=DAILY;BYDAY=MO", date(2026, 11, 23), date(2026, 11, 30)),
        ("FREQ=WEEKLY", date(2026, 11, 23), date(2026, 11, 30)),
        ("FREQ=WEEKLY;BYDAY=FR,MO", date(2026, 11, 23), date(2026, 11, 27)),
        ("FREQ=WEEKLY;BYDAY=FR,MO", date(2026, 11, 27), date(2026, 11, 30)),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR", date(2026, 11, 23), date(2026, 11, 27)),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR", date(2026, 11, 27), date(2026, 12, 7)),
        ("FREQ=MONTHLY", date(2026, 11, 23), date(2026, 12, 23)),
        ("FREQ=MONTHLY", date(2026, 1, 31), date(2026, 3, 31)),
        ("FREQ=MONTHLY;BYMONTHDAY=-1", date(2026, 1, 31), date(2026, 2, 28)),
        ("FREQ=MONTHLY;BYMONTHDAY=15,1", date(2026, 11, 1), date(2026, 11, 15)),
        ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", date(2026, 11, 13), date(2027, 8, 13)),
        ("FREQ=MONTHLY;INTERVAL=3", date(2026, 11, 23), date(2027, 2, 23)),
        ("FREQ=YEARLY", date(2026, 11, 23), date(2027, 11, 23)),
        ("FREQ=YEARLY", date(2096, 2, 29), date(2104, 2, 29)),
        ("FREQ=YEARLY;BYMONTHDAY=31", date(2026, 2, 10), date(2026, 3, 31)),
        ("FREQ=YEARLY;INTERVAL=999", date(2024, 2, 29), date(6020, 2, 29)),
    ],
)
def test_the_next_occurrence_is_the_rules_first_day_after_the_due(rule: str, day: date, following: date) -> None:
    assert next_day(rule, day) == following


@pytest.mark.parametrize(
    ("rule", "day"),
    [
        ("FREQ=MONTHLY;INTERVAL=12;BYMONTHDAY=30", date(2026, 2, 10)),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=MO", date(1, 1, 2)),
        ("FREQ=DAILY;INTERVAL=7;BYDAY=MO;BYMONTHDAY=31", date(1, 1, 2)),
        ("FREQ=DAILY", date(9999, 12, 31)),
        ("FREQ=WEEKLY", date(9999, 12, 31)),
        ("FREQ=MONTHLY", date(9999, 12, 31)),
        ("FREQ=YEARLY;INTERVAL=999", date(9001, 1, 1)),
    ],
)
def test_a_rule_that_never_comes_again_makes_no_occurrence(rule: str, day: date) -> None:
    assert next_day(rule, day) is None


def random_rule(random: Random) -> str:
    freq = random.choice(["DAILY", "WEEKLY", "MONTHLY", "YEARLY"])
    parts = [f"FREQ={freq}"]
    if random.random() < 0.7:
        parts.append(
            f"INTERVAL={random.choice([random.randint(1, 12), random.choice([7, 12, 14, 100, 400, 773, 999])])}"
        )
    if random.random() < 0.5:
        parts.append("BYDAY=" + ",".join(random.sample(WEEKDAYS, random.randint(1, 3))))
    if freq != "WEEKLY" and random.random() < 0.5:
        days = random.sample([1, 13, 28, 29, 30, 31, -1], random.randint(1, 2))
        parts.append("BYMONTHDAY=" + ",".join(map(str, days)))
    return ";".join(parts)


def random_day(random: Random) -> date:
    leap_days = [date(2024, 2, 29), date(2096, 2, 29), date(4, 2, 29)]
    ends = [date.min, date(2, 1, 31), date(9998, 12, 31)]  # in the last week of 9999, dateutil fails
    ordinary = date.fromordinal(random.randint(1, date(9998, 12, 31).toordinal()))
    return random.choice([ordinary, ordinary, date(2026, 1, 31), *random.sample(leap_days, 1), *random.sample(ends, 1)])


@pytest.mark.generated
def test_it_finds_what_dateutil_finds(seed: int | None) -> None:
    random = Random(5545 if seed is None else seed)
    found, tried = 0, 150 if seed is None else FUZZ * 600
    for _ in range(tried):
        rule, day = random_rule(random), random_day(random)
        following = next_day(rule, day)
        # dateutil is not asked about the far future: to find nothing there takes it up to a second.
        last = min(day, date(9988, 12, 31)) + timedelta(days=10 * 365)
        if following is not None and following < last:
            last = following
        anchor = datetime.combine(day, time())
        reference = rrulestr(f"{rule};WKST=MO", dtstart=anchor)
        assert isinstance(reference, rrule)
        expected = reference.replace(until=datetime.combine(last, time())).after(anchor)
        within = following if following is not None and following <= last else None
        assert within == (None if expected is None else expected.date()), (rule, day)
        found += within is not None
    assert found > tried / 2  # so that it is not two programs agreeing on nothing


@pytest.mark.generated
def test_no_rule_is_searched_for_long(seed: int | None) -> None:
    """Rules that come seldom or never are the hard ones; the hardest of these takes 36,000 steps."""
    random = Random(9999 if seed is None else seed)
    hard = [
        "FREQ=DAILY;INTERVAL=7;BYDAY=MO;BYMONTHDAY=31",
        "FREQ=DAILY;INTERVAL=189;BYMONTHDAY=31",
        "FREQ=DAILY;INTERVAL=506;BYDAY=TU;BYMONTHDAY=31",
        "FREQ=DAILY;INTERVAL=773;BYDAY=MO;BYMONTHDAY=31",
        "FREQ=MONTHLY;INTERVAL=12;BYDAY=MO;BYMONTHDAY=30",
        "FREQ=MONTHLY;INTERVAL=252;BYDAY=MO;BYMONTHDAY=31",
        "FREQ=YEARLY;INTERVAL=28;BYDAY=MO;BYMONTHDAY=31",
    ]
    rules = [*hard, *(random_rule(random) for _ in range(40 if seed is None else FUZZ * 400))]
    for rule in rules:
        for day in (date(1, 2, 2), date(2026, 2, 10)):
            assert steps_of(rule, day) < MAX_STEPS, (rule, day)


def steps_of(rule: str, day: date) -> int:
    """How many lines are executed to find the next day: the same on every machine, unlike seconds."""
    steps = 0

    def count(_frame: FrameType, _event: str, _argument: object) -> TraceFunction:
        nonlocal steps
        steps += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        next_day(rule, day)
    finally:
        sys.settrace(before)
    return steps


def test_a_task_without_a_rule_does_not_come_again() -> None:
    assert next_occurrence(task(None, due_at=NOW), now=NOW) is None


def test_a_rule_that_is_not_understood_is_an_error_and_not_the_end_of_a_series() -> None:
    with pytest.raises(ValueError, match="'FREQ=HOURLY' is not a rule of recurrence that is understood"):
        next_occurrence(task("FREQ=HOURLY", due_at=NOW), now=NOW)


def test_a_moment_stays_a_moment_to_the_microsecond() -> None:
    due = datetime(2026, 11, 20, 23, 59, 59, 123456, tzinfo=UTC)
    following = next_occurrence(task("FREQ=DAILY", due_at=due), now=NOW)
    assert following == Occurrence(due_at=due + timedelta(days=1), due_on=None, start_at=None, recurrence="FREQ=DAILY")


def test_a_day_stays_a_day() -> None:
    following = next_occurrence(task("FREQ=WEEKLY", due_on=date(2026, 11, 20)), now=NOW)
    assert following == Occurrence(due_at=None, due_on=date(2026, 11, 27), start_at=None, recurrence="FREQ=WEEKLY")


def test_a_task_done_late_skips_nothing() -> None:
    assert next_day("FREQ=DAILY", date(2020, 1, 1)) == date(2020, 1, 2)


@pytest.mark.parametrize("due", [{"due_at": NOW}, {"due_on": NOW.date()}])
def test_the_start_keeps_its_distance_from_the_due(due: dict[str, datetime]) -> None:
    start = NOW - timedelta(days=3, hours=5)
    of_month = task("FREQ=MONTHLY", start_at=start).model_copy(update=due)
    following = next_occurrence(of_month, now=NOW)
    assert following is not None
    assert following.start_at == start + timedelta(days=30)


def test_a_task_with_a_start_alone_gets_a_start_alone() -> None:
    following = next_occurrence(task("FREQ=MONTHLY;BYMONTHDAY=1", start_at=NOW), now=NOW + timedelta(days=100))
    assert following == Occurrence(
        due_at=None,
        due_on=None,
        start_at=datetime(2026, 12, 1, 12, 0, tzinfo=UTC),
        recurrence="FREQ=MONTHLY;BYMONTHDAY=1",
    )


def test_a_task_without_times_is_due_counted_from_now_in_utc() -> None:
    now = NOW.astimezone(timezone(timedelta(hours=13)))  # there it is the next day already
    following = next_occurrence(task("FREQ=WEEKLY;BYDAY=TU"), now=now)
    assert following == Occurrence(
        due_at=NOW + timedelta(days=1), due_on=None, start_at=None, recurrence="FREQ=WEEKLY;BYDAY=TU"
    )


@pytest.mark.parametrize("count", [2, 10, 100, 999])
def test_the_count_includes_this_one(count: int) -> None:
    following = next_occurrence(task(f"FREQ=DAILY;INTERVAL=2;COUNT={count}", due_at=NOW), now=NOW)
    assert following is not None
    assert following.recurrence == f"FREQ=DAILY;INTERVAL=2;COUNT={count - 1}"


def test_the_last_one_that_is_counted_is_the_last_one() -> None:
    assert next_occurrence(task("FREQ=DAILY;COUNT=1", due_at=NOW), now=NOW) is None


def test_a_count_of_three_makes_three_tasks() -> None:
    current: Task | None = task("FREQ=WEEKLY;COUNT=3", due_on=date(2026, 11, 2))
    days = []
    while current is not None:
        days.append(current.due_on)
        following = next_occurrence(current, now=NOW)
        current = None if following is None else task(following.recurrence, due_on=following.due_on)
    assert days == [date(2026, 11, 2), date(2026, 11, 9), date(2026, 11, 16)]


def test_the_last_moment_is_one_of_the_rules() -> None:
    following = next_occurrence(task("FREQ=DAILY;UNTIL=20261124T120000Z", due_at=NOW), now=NOW)
    assert following is not None
    assert following.due_at == NOW + timedelta(days=1)


def test_after_the_last_moment_there_is_none() -> None:
    assert next_occurrence(task("FREQ=DAILY;UNTIL=20261124T115959Z", due_at=NOW), now=NOW) is None


def test_a_day_counts_from_its_first_moment_against_the_last_moment() -> None:
    assert next_day("FREQ=DAILY;UNTIL=20261124T000000Z", date(2026, 11, 23)) == date(2026, 11, 24)


def test_a_start_beyond_the_year_9999_makes_no_occurrence() -> None:
    start = datetime(9999, 12, 31, tzinfo=UTC)
    assert next_occurrence(task("FREQ=DAILY", due_at=NOW, start_at=start), now=NOW) is None


def test_a_rule_is_taken_apart() -> None:
    rule = parse("FREQ=MONTHLY;INTERVAL=2;BYDAY=MO,SU;BYMONTHDAY=1,-1;UNTIL=20301231T235959Z")
    assert rule == Rule(
        freq="MONTHLY",
        interval=2,
        weekdays=frozenset({0, 6}),
        monthdays=frozenset({1, -1}),
        count=None,
        until=datetime(2030, 12, 31, 23, 59, 59, tzinfo=UTC),
    )
