"""Recurrence rules: validation, and the next occurrence."""

from __future__ import annotations

import csv
import re
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from making import a_task
from rfc5545_examples import EXAMPLES

from task_api.tasks import rrule
from task_api.tasks.models import Status, Task
from task_api.tasks.recurrence import Occurrence, next_occurrence
from task_api.tasks.rrule import Rule, first_after, parse

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def task(
    recurrence: str | None,
    *,
    due_at: datetime | None = None,
    due_on: date | None = None,
    start_at: datetime | None = None,
    time_zone: str | None = None,
) -> Task:
    return a_task(
        status=Status.DONE,
        percent_done=100,
        recurrence=recurrence,
        due_at=due_at,
        due_on=due_on,
        start_at=start_at,
        time_zone=time_zone,
        completed_at=NOW,
    )


def next_day(recurrence: str, day: date) -> date | None:
    following = next_occurrence(task(recurrence, due_on=day), now=NOW)
    return None if following is None else following.due_on


def dues(recurrence: str, due: datetime, many: int, time_zone: str | None = None) -> list[datetime]:
    """The due of the task, and those of its next occurrences, each created when the previous one is done."""
    found = [due]
    current = task(recurrence, due_at=due, time_zone=time_zone)
    while len(found) < many and (following := next_occurrence(current, now=NOW)) is not None:
        assert following.due_at is not None
        found.append(following.due_at)
        current = current.model_copy(update=vars(following))
    return found


@pytest.mark.parametrize(
    ("rule", "kept"),
    [
        ("FREQ=DAILY", "FREQ=DAILY"),
        ("RRULE:FREQ=DAILY", "FREQ=DAILY"),
        (" rrule:freq=weekly;byday=mo,-1fr\n".replace("-1fr", "fr"), "FREQ=WEEKLY;BYDAY=MO,FR"),
        ("COUNT=2;BYDAY=MO;FREQ=WEEKLY;INTERVAL=3", "COUNT=2;BYDAY=MO;FREQ=WEEKLY;INTERVAL=3"),
        ("FREQ=YEARLY;UNTIL=20301231", "FREQ=YEARLY;UNTIL=20301231"),
        ("FREQ=YEARLY;UNTIL=20301231T235959", "FREQ=YEARLY;UNTIL=20301231T235959"),
        ("FREQ=YEARLY;UNTIL=20280229T000000Z", "FREQ=YEARLY;UNTIL=20280229T000000Z"),
        ("FREQ=DAILY;INTERVAL=99999;COUNT=99999", "FREQ=DAILY;INTERVAL=99999;COUNT=99999"),
        ("FREQ=MONTHLY;BYDAY=+1MO,-5SU", "FREQ=MONTHLY;BYDAY=+1MO,-5SU"),
        ("FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10", "FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10"),
    ],
)
def test_a_rule_is_stored_in_upper_case_without_the_rrule_prefix(rule: str, kept: str) -> None:
    assert parse(rule).text == kept


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("", "'An empty part' is not a part"),
        ("DAILY", "'DAILY' is not a part"),
        ("FREQ=DAILY;", "'An empty part' is not a part"),
        ("FREQ=", "'FREQ=' is not a part"),
        ("INTERVAL=2", "FREQ is missing"),
        ("FREQ=DAILY;FREQ=DAILY", "FREQ must not occur more than once"),
        ("FREQ=DAILY;BYEASTER=0", "BYEASTER is not a valid rule part: RFC 5545 has FREQ, "),
        ("FREQ=DAILY;SKIP=OMIT", "SKIP is not a valid rule part"),
        (
            "DTSTART:20260101T000000Z\nRRULE:FREQ=DAILY",
            "without DTSTART, EXDATE etc.: it starts when the task is due",
        ),
        ("FREQ=FORTNIGHTLY", "FREQ=FORTNIGHTLY: must be YEARLY, "),
        ("FREQ=SECONDLY", "FREQ=SECONDLY is too frequent"),
        ("FREQ=DAILY;INTERVAL=0", "INTERVAL=0: INTERVAL must be a number from 1 to 99999"),
        ("FREQ=DAILY;INTERVAL=100000", "from 1 to 99999"),
        ("FREQ=DAILY;INTERVAL=-1", "INTERVAL=-1: INTERVAL must be a number"),
        ("FREQ=DAILY;INTERVAL=\u0663", "INTERVAL must be a number"),  # 3, in Arabic
        ("FREQ=DAILY;COUNT=0", "COUNT=0: COUNT must be a number"),
        ("FREQ=DAILY;COUNT=" + "9" * 400, "COUNT must be a number"),
        ("FREQ=DAILY;COUNT=2;UNTIL=20300101T000000Z", "COUNT and UNTIL cannot be combined"),
        ("FREQ=DAILY;UNTIL=20300230", "UNTIL=20300230: UNTIL is a date such as"),
        ("FREQ=DAILY;UNTIL=20300101T240000Z", "UNTIL is a date such as"),
        ("FREQ=DAILY;UNTIL=2030-01-01", "UNTIL is a date such as"),
        ("FREQ=DAILY;UNTIL=00000101", "UNTIL is a date such as"),
        ("FREQ=WEEKLY;WKST=1MO", "WKST=1MO: must be one of"),
        ("FREQ=WEEKLY;BYDAY=MO,", "BYDAY=MO,: '' is not one of MO"),
        ("FREQ=WEEKLY;BYDAY=XX", "'XX' is not one of MO"),
        ("FREQ=MONTHLY;BYDAY=0MO", "'0MO' is not one of MO"),
        ("FREQ=MONTHLY;BYDAY=54MO", "'54MO' is not one of MO"),
        ("FREQ=WEEKLY;BYDAY=1MO", "a number before a weekday requires FREQ=MONTHLY or YEARLY"),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "cannot be combined with BYWEEKNO"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "BYMONTHDAY cannot be combined with FREQ=WEEKLY"),
        ("FREQ=MONTHLY;BYYEARDAY=1", "BYYEARDAY cannot be combined with FREQ=MONTHLY"),
        ("FREQ=MONTHLY;BYWEEKNO=1", "BYWEEKNO cannot be combined with FREQ=MONTHLY"),
        ("FREQ=MONTHLY;BYMONTHDAY=0", "BYMONTHDAY=0: '0' is not a number from 1 to 31, or from -31 to -1"),
        ("FREQ=MONTHLY;BYMONTHDAY=1,32", "'32' is not a number from 1 to 31"),
        ("FREQ=YEARLY;BYMONTH=-1", "'-1' is not a number from 1 to 12"),
        ("FREQ=DAILY;BYHOUR=24", "'24' is not a number from 0 to 23"),
        ("FREQ=DAILY;BYSECOND=60", "from 0 to 59. Leap seconds are not supported"),
        ("FREQ=MONTHLY;BYSETPOS=1", "BYSETPOS requires another BY... part"),
        ("FREQ=YEARLY;BYDAY=MO;BYSETPOS=1,2,3,4,5,6,7,8,9,10,11,12,13", "BYSETPOS has 13 values, the maximum is 12"),
        ("FREQ=HOURLY;BYMINUTE=1;BYSETPOS=1", "BYSETPOS with FREQ=HOURLY is not supported"),
        ("FREQ=DAILY;BYHOUR=1,2,3,4,5;BYMINUTE=" + ",".join(map(str, range(21))), "combine to 105 times of day"),
        ("FREQ=MINUTELY;BYHOUR=9;BYMONTH=1", "use FREQ=DAILY with BYHOUR and BYMINUTE"),
    ],
)
def test_a_validation_error_names_the_invalid_part(rule: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        parse(rule)


def test_rules_of_earlier_releases_have_the_same_occurrences() -> None:
    """recurrence_before.csv was written by the last release before dateutil."""
    with (Path(__file__).parent / "recurrence_before.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 700
    for row in rows:
        if "T" in row["due"]:
            before = task(row["recurrence"], due_at=datetime.fromisoformat(row["due"]))
        else:
            before = task(row["recurrence"], due_on=date.fromisoformat(row["due"]))
        following = next_occurrence(before, now=NOW)
        found = ("", "") if following is None else (str_of(following), following.recurrence)
        assert found == (row["next"], row["next_recurrence"]), row


def str_of(occurrence: Occurrence) -> str:
    return (occurrence.due_on or occurrence.due_at or date.min).isoformat()


@pytest.mark.parametrize(("rule", "first", "expected", "more"), EXAMPLES)
def test_the_examples_of_rfc_5545_have_its_occurrences(
    rule: str, first: datetime, expected: list[datetime], more: bool
) -> None:
    zone = ZoneInfo("America/New_York")
    found = dues(rule, first.replace(tzinfo=zone), len(expected) + 2, "America/New_York")
    assert found[1 : len(expected) + 1] == [occurrence.replace(tzinfo=zone) for occurrence in expected]
    assert (len(found) > len(expected) + 1) == more


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
def test_the_next_occurrence_is_the_first_of_the_rule_after_the_due(rule: str, day: date, following: date) -> None:
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
def test_a_rule_without_further_dates_has_no_next_occurrence(rule: str, day: date) -> None:
    assert next_day(rule, day) is None


@pytest.mark.parametrize("freq", rrule.FREQUENCIES)
def test_the_search_has_a_step_limit(freq: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps are those of the rule: the same on every machine, unlike seconds."""
    monkeypatch.setitem(rrule.MAX_STEPS, freq, 9)
    start = datetime.fromisoformat("2026-12-31T23:59")
    seldom = {"YEARLY": "BYYEARDAY=366", "MONTHLY": "BYMONTH=8", "WEEKLY": "BYMONTH=3", "DAILY": "BYMONTHDAY=11"}
    rule = parse(f"FREQ={freq};" + seldom.get(freq, "BYMONTHDAY=2"))
    allowed = first_after(rule, start)
    monkeypatch.undo()
    found = first_after(rule, start)
    assert found is not None
    # 2028 and August 31 are 2 and 8 steps away, March 4 is 9, January 11 is 11; two days without are more than 9.
    assert allowed == (found if freq in {"YEARLY", "MONTHLY", "WEEKLY"} else None)
    monkeypatch.setitem(rrule.MAX_STEPS, freq, 1)
    assert first_after(rule, start) is None


def test_a_rule_with_unreachable_hours_has_no_occurrence() -> None:
    assert first_after(parse("FREQ=HOURLY;INTERVAL=2;BYHOUR=9"), datetime.fromisoformat("2026-01-01T10:00")) is None
    assert (
        first_after(parse("FREQ=MINUTELY;INTERVAL=60;BYMINUTE=9"), datetime.fromisoformat("2026-01-01T10:00")) is None
    )


BERLIN = ZoneInfo("Europe/Berlin")


def test_local_time_is_preserved_across_dst_changes() -> None:
    found = dues("FREQ=WEEKLY", datetime(2026, 3, 20, 9, tzinfo=BERLIN), 40, "Europe/Berlin")
    assert {occurrence.astimezone(BERLIN).time() for occurrence in found} == {time(9)}
    assert [occurrence.astimezone(UTC).hour for occurrence in found[:3]] == [8, 8, 7]


def test_rule_days_are_in_the_rules_time_zone() -> None:
    first = datetime(2026, 1, 1, 0, 30, tzinfo=BERLIN)
    assert dues("FREQ=MONTHLY;BYMONTHDAY=1", first, 3, "Europe/Berlin")[1:] == [
        datetime(2026, 2, 1, 0, 30, tzinfo=BERLIN),
        datetime(2026, 3, 1, 0, 30, tzinfo=BERLIN),
    ]


def test_a_local_time_skipped_in_spring_shifts_only_that_day() -> None:
    found = dues("FREQ=DAILY", datetime(2026, 3, 28, 2, 30, tzinfo=BERLIN), 4, "Europe/Berlin")
    assert [f"{occurrence.astimezone(BERLIN):%d %H:%M}" for occurrence in found] == [
        "28 02:30",
        "29 03:30",
        "30 02:30",
        "31 02:30",
    ]


def test_an_ambiguous_local_time_in_autumn_is_the_first_and_never_goes_back() -> None:
    found = dues("FREQ=MINUTELY;INTERVAL=30", datetime(2026, 10, 25, 0, 0, tzinfo=UTC), 8, "Europe/Berlin")
    assert found == sorted(set(found))
    assert f"{found[1].astimezone(BERLIN):%H:%M %Z}" == "02:30 CEST"


def test_the_start_keeps_its_distance_in_local_time() -> None:
    before = task(
        "FREQ=WEEKLY",
        due_at=datetime(2026, 3, 27, 9, tzinfo=BERLIN),
        start_at=datetime(2026, 3, 25, 8, tzinfo=BERLIN),
        time_zone="Europe/Berlin",
    )
    following = next_occurrence(before, now=NOW)
    assert following is not None
    assert following.start_at == datetime(2026, 4, 1, 8, tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("until", "last"),
    [
        ("20261126", "26"),  # in Berlin that ends at 23:00 in UTC, and 23:30 on the 25th is on the 26th there
        ("20261126T003000", "26"),
        ("20261125T233000Z", "26"),
        ("20261126T002959", "25"),
    ],
)
def test_an_until_without_z_is_in_the_rules_time_zone(until: str, last: str) -> None:
    found = dues(f"FREQ=DAILY;UNTIL={until}", datetime(2026, 11, 23, 0, 30, tzinfo=BERLIN), 9, "Europe/Berlin")
    assert f"{found[-1].astimezone(BERLIN):%d}" == last


@pytest.mark.parametrize(
    ("rule", "following"),
    [
        ("FREQ=DAILY;UNTIL=20261124", date(2026, 11, 24)),
        ("FREQ=DAILY;UNTIL=20261123", None),
        ("FREQ=DAILY;BYHOUR=9;BYMINUTE=30", date(2026, 11, 24)),
        ("FREQ=HOURLY;INTERVAL=36", date(2026, 11, 24)),
        ("FREQ=HOURLY;INTERVAL=49", date(2026, 11, 25)),
        ("FREQ=MINUTELY", date(2026, 11, 24)),
        ("FREQ=MINUTELY;BYHOUR=9;BYDAY=WE", date(2026, 11, 25)),
    ],
)
def test_a_task_due_on_a_date_recurs_on_a_later_date(rule: str, following: date | None) -> None:
    assert next_day(rule, date(2026, 11, 23)) == following


def test_a_task_without_a_rule_does_not_recur() -> None:
    assert next_occurrence(task(None, due_at=NOW), now=NOW) is None


def test_an_unsupported_rule_is_an_error_not_the_end_of_the_series() -> None:
    with pytest.raises(ValueError, match="FREQ=SECONDLY is too frequent"):
        next_occurrence(task("FREQ=SECONDLY", due_at=NOW), now=NOW)


def test_a_due_date_time_stays_a_date_time_to_the_microsecond() -> None:
    due = datetime(2026, 11, 20, 23, 59, 59, 123456, tzinfo=UTC)
    following = next_occurrence(task("FREQ=DAILY", due_at=due), now=NOW)
    assert following == Occurrence(due_at=due + timedelta(days=1), due_on=None, start_at=None, recurrence="FREQ=DAILY")


def test_a_due_date_stays_a_date() -> None:
    following = next_occurrence(task("FREQ=WEEKLY", due_on=date(2026, 11, 20)), now=NOW)
    assert following == Occurrence(due_at=None, due_on=date(2026, 11, 27), start_at=None, recurrence="FREQ=WEEKLY")


def test_a_task_done_late_skips_no_occurrence() -> None:
    assert next_day("FREQ=DAILY", date(2020, 1, 1)) == date(2020, 1, 2)


@pytest.mark.parametrize("due", [{"due_at": NOW}, {"due_on": NOW.date()}])
def test_the_start_keeps_its_distance_from_the_due(due: dict[str, datetime]) -> None:
    start = NOW - timedelta(days=3, hours=5)
    of_month = task("FREQ=MONTHLY", start_at=start).model_copy(update=due)
    following = next_occurrence(of_month, now=NOW)
    assert following is not None
    assert following.start_at == start + timedelta(days=30)


def test_a_task_with_only_a_start_recurs_with_only_a_start() -> None:
    following = next_occurrence(task("FREQ=MONTHLY;BYMONTHDAY=1", start_at=NOW), now=NOW + timedelta(days=100))
    assert following == Occurrence(
        due_at=None,
        due_on=None,
        start_at=datetime(2026, 12, 1, 12, 0, tzinfo=UTC),
        recurrence="FREQ=MONTHLY;BYMONTHDAY=1",
    )


def test_a_task_without_due_and_start_recurs_from_now_in_utc() -> None:
    now = NOW.astimezone(timezone(timedelta(hours=13)))  # there it is already the next day
    following = next_occurrence(task("FREQ=WEEKLY;BYDAY=TU"), now=now)
    assert following == Occurrence(
        due_at=NOW + timedelta(days=1), due_on=None, start_at=None, recurrence="FREQ=WEEKLY;BYDAY=TU"
    )


@pytest.mark.parametrize("count", [2, 10, 100, 999])
def test_the_count_includes_the_current_occurrence(count: int) -> None:
    following = next_occurrence(task(f"FREQ=DAILY;INTERVAL=2;COUNT={count}", due_at=NOW), now=NOW)
    assert following is not None
    assert following.recurrence == f"FREQ=DAILY;INTERVAL=2;COUNT={count - 1}"


def test_the_last_counted_occurrence_has_no_next() -> None:
    assert next_occurrence(task("FREQ=DAILY;COUNT=1", due_at=NOW), now=NOW) is None


def test_a_count_of_three_makes_three_tasks() -> None:
    current: Task | None = task("FREQ=WEEKLY;COUNT=3", due_on=date(2026, 11, 2))
    days = []
    while current is not None:
        days.append(current.due_on)
        following = next_occurrence(current, now=NOW)
        current = None if following is None else task(following.recurrence, due_on=following.due_on)
    assert days == [date(2026, 11, 2), date(2026, 11, 9), date(2026, 11, 16)]


def test_an_occurrence_at_until_is_included() -> None:
    following = next_occurrence(task("FREQ=DAILY;UNTIL=20261124T120000Z", due_at=NOW), now=NOW)
    assert following is not None
    assert following.due_at == NOW + timedelta(days=1)


def test_there_is_no_occurrence_after_until() -> None:
    assert next_occurrence(task("FREQ=DAILY;UNTIL=20261124T115959Z", due_at=NOW), now=NOW) is None


def test_a_due_date_is_compared_to_until_by_its_midnight() -> None:
    assert next_day("FREQ=DAILY;UNTIL=20261124T000000Z", date(2026, 11, 23)) == date(2026, 11, 24)


def test_a_start_beyond_the_year_9999_has_no_occurrence() -> None:
    start = datetime(9999, 12, 31, tzinfo=UTC)
    assert next_occurrence(task("FREQ=DAILY", due_at=NOW, start_at=start), now=NOW) is None


def test_a_rule_is_parsed() -> None:
    text = "FREQ=MONTHLY;INTERVAL=2;BYDAY=MO,-1SU;BYMONTHDAY=1,-1;UNTIL=20301231T235959Z;WKST=SU"
    assert parse(text) == Rule(
        text=text,
        freq="MONTHLY",
        interval=2,
        count=None,
        until=datetime(2030, 12, 31, 23, 59, 59, tzinfo=UTC),
        wkst="SU",
        by={"BYDAY": ("MO", "-1SU"), "BYMONTHDAY": ("1", "-1")},
    )
