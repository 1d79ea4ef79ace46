"""Rules of recurrence (RFC 5545 RRULE): which are understood, and on what days they come."""

from __future__ import annotations

import re
from calendar import monthrange
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import gcd

# The pattern is read by three engines: Python's re, Rust's regex (pydantic) and ECMA (JSON schema, schemathesis).
# Hence no lookaround, no named groups, and [0-9] for \d, which takes other scripts' digits in the first two.
_ONE_TO_999 = "[1-9][0-9]{0,2}"
_WEEKDAY = "(MO|TU|WE|TH|FR|SA|SU)"
_WEEKDAYS = f"{_WEEKDAY}(,{_WEEKDAY}){{0,6}}"
_MONTHDAY = "([1-9]|[12][0-9]|3[01]|-1)"
_MONTHDAYS = f"{_MONTHDAY}(,{_MONTHDAY}){{0,31}}"
_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"  # 0001 to 9999: Python knows no year 0
_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|(0[48]|[2468][048]|[13579][26])00)"
_DAY_OF_ANY_YEAR = (
    "((0[1-9]|1[0-2])(0[1-9]|1[0-9]|2[0-8])|(0[13-9]|1[0-2])(29|30)|(0[13578]|1[02])31)"  # all but February 29
)
_MOMENT = f"({_YEAR}{_DAY_OF_ANY_YEAR}|{_LEAP_YEAR}0229)T([01][0-9]|2[0-3])[0-5][0-9][0-5][0-9]Z"

RULE_PATTERN = (
    "^FREQ=("
    # RFC 5545 forbids BYMONTHDAY in a weekly rule.
    f"WEEKLY(;INTERVAL={_ONE_TO_999})?(;BYDAY={_WEEKDAYS})?"
    f"|(DAILY|MONTHLY|YEARLY)(;INTERVAL={_ONE_TO_999})?(;BYDAY={_WEEKDAYS})?(;BYMONTHDAY={_MONTHDAYS})?"
    f")(;COUNT={_ONE_TO_999}|;UNTIL={_MOMENT})?$"
)
"""The rules that are understood: a subset of RRULE, its parts in one order, each of them valid by RFC 5545.

Examples: `FREQ=DAILY`, `FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR;COUNT=10`, `FREQ=MONTHLY;BYMONTHDAY=-1`,
`FREQ=YEARLY;UNTIL=20301231T235959Z`.
"""

_WEEKDAY_NAMES = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")

# After 400 years the Gregorian calendar repeats, weekdays included: a rule that found no day in so many periods as
# lead back to the same place of that cycle will never find one, and is not searched further.
_CYCLE_DAYS = 146_097
_CYCLE_MONTHS = 4_800
_CYCLE_YEARS = 400


@dataclass(frozen=True)
class Rule:
    """A rule that matches RULE_PATTERN, taken apart."""

    freq: str
    """`DAILY`, `WEEKLY`, `MONTHLY` or `YEARLY`."""
    interval: int
    """Every so many days, weeks (from Monday), months or years."""
    weekdays: frozenset[int]
    """Monday is 0; empty where the rule names none."""
    monthdays: frozenset[int]
    """1 to 31, and -1 for a month's last; empty where the rule names none."""
    count: int | None
    """So many occurrences in all, the present one included."""
    until: datetime | None
    """The last moment, in UTC, at which there may be an occurrence."""


def parse(rule: str) -> Rule:
    """Takes a rule apart. Raises ValueError where it does not match RULE_PATTERN."""
    # fullmatch, for Python's $ also matches before a last line feed.
    if re.fullmatch(RULE_PATTERN, rule) is None:
        raise ValueError(f"{rule!r} is not a rule of recurrence that is understood, such as 'FREQ=WEEKLY;BYDAY=MO'.")
    parts = dict(part.split("=") for part in rule.split(";"))
    return Rule(
        freq=parts["FREQ"],
        interval=int(parts.get("INTERVAL", "1")),
        weekdays=frozenset(_WEEKDAY_NAMES.index(name) for name in _listed(parts, "BYDAY")),
        monthdays=frozenset(int(day) for day in _listed(parts, "BYMONTHDAY")),
        count=int(parts["COUNT"]) if "COUNT" in parts else None,
        until=datetime.fromisoformat(parts["UNTIL"]) if "UNTIL" in parts else None,
    )


def _listed(parts: dict[str, str], name: str) -> list[str]:
    return parts[name].split(",") if name in parts else []


# Why not dateutil: it walks every period up to the year 9999 where a rule never comes (FREQ=MONTHLY;INTERVAL=12;
# BYMONTHDAY=30 from a February), which takes it up to a second. The tests hold this to what dateutil finds.
def days(rule: Rule, anchor: date) -> Iterator[date]:
    """The rule's days in their order, from the period of the anchor on, those before the anchor included.

    Raises OverflowError after the year 9999.
    """
    if rule.freq == "DAILY":
        return _daily(rule, anchor)
    if rule.freq == "WEEKLY":
        return _weekly(rule, anchor)
    if rule.freq == "MONTHLY":
        return _monthly(rule, anchor)
    return _yearly(rule, anchor)


def _daily(rule: Rule, anchor: date) -> Iterator[date]:
    if rule.weekdays and rule.interval % 7 == 0 and anchor.weekday() not in rule.weekdays:
        return  # always the same weekday, and a wrong one: the cycle would show it too, but ten times slower
    step = timedelta(days=rule.interval)
    day = anchor
    for _ in range(_CYCLE_DAYS // gcd(rule.interval, _CYCLE_DAYS)):
        day += step
        if _wanted(rule, day):
            yield day


def _weekly(rule: Rule, anchor: date) -> Iterator[date]:
    monday = anchor - timedelta(days=anchor.weekday())  # of year 1 at the earliest: its January 1 is a Monday
    for week in (0, rule.interval):
        for weekday in sorted(rule.weekdays or {anchor.weekday()}):
            yield monday + timedelta(weeks=week, days=weekday)


def _monthly(rule: Rule, anchor: date) -> Iterator[date]:
    month = anchor.year * 12 + anchor.month - 1
    for _ in range(_CYCLE_MONTHS // gcd(rule.interval, _CYCLE_MONTHS) + 1):
        yield from _days_of_month(rule, *divmod(month, 12), otherwise=anchor.day)
        month += rule.interval


def _yearly(rule: Rule, anchor: date) -> Iterator[date]:
    year = anchor.year
    # A yearly rule with BYDAY or BYMONTHDAY and no BYMONTH is of all months (RFC 5545, section 3.3.10).
    months = range(12) if rule.weekdays or rule.monthdays else (anchor.month - 1,)
    for _ in range(_CYCLE_YEARS // gcd(rule.interval, _CYCLE_YEARS) + 1):
        for month in months:
            yield from _days_of_month(rule, year, month, otherwise=anchor.day)
        year += rule.interval


def _days_of_month(rule: Rule, year: int, month: int, *, otherwise: int) -> Iterator[date]:
    """The days of a month (0 to 11) that the rule names, or the day `otherwise` where it names none."""
    if year > date.max.year:
        raise OverflowError
    first_weekday, length = monthrange(year, month + 1)
    if rule.monthdays:
        candidates = sorted({length if day == -1 else day for day in rule.monthdays})
    elif rule.weekdays:
        candidates = list(range(1, length + 1))
    else:
        candidates = [otherwise]
    for day in candidates:
        # A month without the day (31, 30, 29) is skipped, as RFC 5545 has it.
        if day <= length and (not rule.weekdays or (first_weekday + day - 1) % 7 in rule.weekdays):
            yield date(year, month + 1, day)


def _wanted(rule: Rule, day: date) -> bool:
    if rule.weekdays and day.weekday() not in rule.weekdays:
        return False
    if not rule.monthdays or day.day in rule.monthdays:
        return True
    return -1 in rule.monthdays and day.day == monthrange(day.year, day.month)[1]
