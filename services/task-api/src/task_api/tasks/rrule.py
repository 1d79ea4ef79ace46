"""Rules of recurrence (RFC 5545, section 3.3.10): what they may say, and when they come. python-dateutil counts."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any, Final, Literal

from dateutil import rrule as dateutil

FREQUENCIES: Final = ("YEARLY", "MONTHLY", "WEEKLY", "DAILY", "HOURLY", "MINUTELY")
WEEKDAYS: Final = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
MAX_NUMBER = 99_999
"""The greatest INTERVAL and COUNT."""
MAX_TIMES = 100
"""Times of day that BYHOUR, BYMINUTE and BYSECOND may make together. dateutil goes through all of them for each day."""
MAX_SETPOS = 12
"""It looks at each day of a period once for each of them."""

MAX_STEPS: Final = {
    "YEARLY": 100,
    "MONTHLY": 1_200,
    "WEEKLY": 1_200,
    "DAILY": 10_000,
    "HOURLY": 100_000,
    "MINUTELY": 100_000,
}
"""So far the next occurrence is searched for: so many years, months, weeks or days of the rule; hours and minutes are
many, so a step for each and DAY_PASSED_OVER for a day without. dateutil itself goes on to the year 9999, which takes it
seconds where a rule never comes (every 30th of February); this takes at most 50 ms. What comes more seldom is taken for
what never comes. Of the rules that there were before dateutil, the worst needs 6,359 days, 265 months or 8 years."""
DAY_PASSED_OVER = 20

OF_A_TIME: Final = ("BYHOUR", "BYMINUTE", "BYSECOND")

_FREQUENCIES: Final[dict[str, Literal[0, 1, 2, 3, 4, 5]]] = {
    "YEARLY": dateutil.YEARLY,
    "MONTHLY": dateutil.MONTHLY,
    "WEEKLY": dateutil.WEEKLY,
    "DAILY": dateutil.DAILY,
    "HOURLY": dateutil.HOURLY,
    "MINUTELY": dateutil.MINUTELY,
}
_UNIT = {"HOURLY": timedelta(hours=1), "MINUTELY": timedelta(minutes=1)}
_DATE = re.compile(r"[0-9]{8}")
_MOMENT = re.compile(r"[0-9]{8}T[0-9]{6}Z?")
_WEEKDAY = re.compile(rf"([+-]?[0-9]{{1,2}})?({'|'.join(WEEKDAYS)})")


@dataclass(frozen=True)
class Rule:
    """A rule, taken apart."""

    text: str
    """As it is kept: without `RRULE:`, in capitals."""
    freq: str
    """One of FREQUENCIES."""
    interval: int
    count: int | None
    """So many occurrences in all, the present one included."""
    until: date | datetime | None
    """The last day, or the last moment at which there may be an occurrence: in UTC, or of the rule's own time zone."""
    wkst: str
    by: dict[str, tuple[str, ...]]
    """The values of the parts that begin with BY, as they stand there."""

    @property
    def of_days(self) -> bool:
        """Whether it comes on days, at the time of day of the occurrence before (or of BYHOUR and so on)."""
        return self.freq not in _UNIT

    def last(self, zone: tzinfo) -> datetime | None:
        """The last moment, in UTC, at which there may be an occurrence. A day counts to its end in `zone`."""
        if self.until is None:
            return None
        end = self.until if isinstance(self.until, datetime) else datetime.combine(self.until, time.max)
        try:
            return (end if end.tzinfo is not None else end.replace(tzinfo=zone)).astimezone(UTC)
        except OverflowError:  # on the first or the last day that there is, east or west of UTC
            return end.replace(tzinfo=UTC)


def parse(rule: str) -> Rule:
    """Takes a rule apart; upper or lower case, with or without `RRULE:` before it.

    Raises ValueError with a sentence that says which part is wrong, and why.

        parse("FREQ=MONTHLY;BYDAY=-1FR").by  # {"BYDAY": ("-1FR",)}
    """
    text = rule.strip().upper().removeprefix("RRULE:")
    if "DTSTART" in text or "\n" in text:
        raise ValueError(
            "A rule is the value of one RRULE: of DTSTART, EXDATE and so on, the task has no more than its due."
        )
    parts: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ValueError(f"{part or 'An empty part'!r} is not a part of a rule such as 'FREQ=WEEKLY;BYDAY=MO'.")
        if name in parts:
            raise ValueError(f"{name} stands in the rule twice.")
        if name not in _PARTS:
            raise ValueError(f"{name} is not a part of a rule: RFC 5545 has {', '.join(_PARTS)}.")
        _PARTS[name](name, value)
        parts[name] = value
    if "FREQ" not in parts:
        raise ValueError("FREQ is missing: a rule begins like 'FREQ=DAILY'.")
    by = {name: tuple(value.split(",")) for name, value in parts.items() if name.startswith("BY")}
    _refuse_what_does_not_go_together(parts, by)
    return Rule(
        text=text,
        freq=parts["FREQ"],
        interval=int(parts.get("INTERVAL", "1")),
        count=int(parts["COUNT"]) if "COUNT" in parts else None,
        until=_until(parts["UNTIL"]) if "UNTIL" in parts else None,
        wkst=parts.get("WKST", "MO"),
        by=by,
    )


def first_after(rule: Rule, anchor: datetime) -> datetime | None:
    """The rule's first occurrence after `anchor`, counted from there; None where there is none, or none for long.

    Both are times on a clock (without a time zone). COUNT and UNTIL are the caller's. Raises OverflowError after the
    year 9999.
    """
    start = first = anchor.replace(microsecond=0)
    days = [_weekday(day) for day in rule.by["BYDAY"]] if "BYDAY" in rule.by else None
    if rule.freq == "WEEKLY" and "BYSETPOS" in rule.by:
        # Of the first week dateutil knows only what is left of it, and would number that.
        days = days or [dateutil.weekdays[start.weekday()]]
        first -= timedelta(days=(start.weekday() - WEEKDAYS.index(rule.wkst)) % 7)
    # Keywords of different types, which mypy does not tell apart.
    numbers: dict[str, Any] = {
        name.lower(): [int(value) for value in values] for name, values in rule.by.items() if name != "BYDAY"
    }
    try:
        occurrences = dateutil.rrule(
            _FREQUENCIES[rule.freq],
            dtstart=first,
            interval=_Counted(rule.interval, MAX_STEPS[rule.freq]),
            wkst=WEEKDAYS.index(rule.wkst),
            byweekday=days,
            **numbers,
        )
        found = next((moment for moment in occurrences if moment > start), None)
    except (_TooSeldom, ValueError):  # the second, where INTERVAL never leads to one of BYHOUR or BYMINUTE
        return None
    return None if found is None else found.replace(microsecond=anchor.microsecond)


def first_day_after(rule: Rule, day: date) -> date | None:
    """The rule's first day after `day`. For a day there is no BYHOUR, BYMINUTE and BYSECOND (RFC 5545, 3.3.10)."""
    anchor = datetime.combine(day, time())
    if unit := _UNIT.get(rule.freq):
        step = unit * rule.interval
        anchor += step * ((timedelta(days=1) - timedelta(microseconds=1)) // step)  # the last one on this day
    by = {name: values for name, values in rule.by.items() if name not in OF_A_TIME}
    found = first_after(Rule(rule.text, rule.freq, rule.interval, None, None, rule.wkst, by), anchor)
    return None if found is None else found.date()


class _TooSeldom(Exception):
    """There is no occurrence in as many steps as are taken."""


class _Counted(int):
    """An interval that can be added only so often: dateutil adds it for each period that it goes on to. It has no
    bound of its own but the year 9999, and a limit on time would be another one on every machine."""

    _left: int

    def __new__(cls, value: int, steps: int) -> _Counted:
        made = super().__new__(cls, value)
        made._left = steps
        return made

    def _take(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise _TooSeldom

    def __radd__(self, other: int) -> int:
        self._take(1)
        return other + int(self)

    def __mul__(self, other: int) -> int:  # weeks are added as so many days
        self._take(1)
        return int(self) * other

    def __rfloordiv__(self, other: int) -> int:  # how many are left of a day without an occurrence
        self._take(DAY_PASSED_OVER)
        return other // int(self)


def _weekday(value: str) -> dateutil.weekday:
    weekday = dateutil.weekdays[WEEKDAYS.index(value[-2:])]
    return weekday(int(value[:-2])) if value[:-2] else weekday


def _frequency(_name: str, value: str) -> None:
    if value == "SECONDLY":
        raise ValueError("FREQ=SECONDLY is too often for a task: MINUTELY is the most.")
    if value not in FREQUENCIES:
        raise ValueError(f"FREQ={value}: a rule is {', '.join(FREQUENCIES[:-1])} or {FREQUENCIES[-1]}.")


def _number(name: str, value: str) -> None:
    if not re.fullmatch("[0-9]+", value) or not 1 <= int(value[:10]) <= MAX_NUMBER:
        raise ValueError(f"{name}={value[:20]}: {name} is a number from 1 to {MAX_NUMBER}.")


def _numbers(least: int, most: int, *, from_the_end: bool = False) -> Callable[[str, str], None]:
    pattern = re.compile("[+-]?[0-9]{1,3}" if from_the_end else "[0-9]{1,3}")
    from_the_end_too = f", or from -{most} to -{least} counted from the end" if from_the_end else ""

    def check(name: str, value: str) -> None:
        for one in value.split(","):
            if not pattern.fullmatch(one) or not least <= abs(int(one)) <= most:
                leap = " A leap second is no time that can be kept." if name == "BYSECOND" and one == "60" else ""
                raise ValueError(
                    f"{name}={value[:40]}: {one[:20]!r} is not a number from {least} to {most}{from_the_end_too}.{leap}"
                )

    return check


def _days(name: str, value: str) -> None:
    for one in value.split(","):
        found = _WEEKDAY.fullmatch(one)
        if found is None or (found[1] and not 1 <= abs(int(found[1])) <= 53):
            raise ValueError(
                f"{name}={value[:40]}: {one[:20]!r} is not one of {', '.join(WEEKDAYS)}, "
                "nor one with a number from 1 to 53 or -53 to -1 before it, such as 1MO or -1FR."
            )


def _week_start(name: str, value: str) -> None:
    if value not in WEEKDAYS:
        raise ValueError(f"{name}={value[:20]}: a week starts on one of {', '.join(WEEKDAYS)}.")


def _last(_name: str, value: str) -> None:
    _until(value)


def _until(value: str) -> date | datetime:
    try:
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
        if _MOMENT.fullmatch(value):
            return datetime.fromisoformat(value)
    except ValueError:  # a day or a time of day that does not exist
        pass
    raise ValueError(
        f"UNTIL={value[:30]}: UNTIL is a day such as 20301231, or a moment such as 20301231T235959Z (UTC) "
        "or 20301231T235959 (in the task's time_zone)."
    )


_PARTS: Final[dict[str, Callable[[str, str], None]]] = {
    "FREQ": _frequency,
    "INTERVAL": _number,
    "COUNT": _number,
    "UNTIL": _last,
    "WKST": _week_start,
    "BYSECOND": _numbers(0, 59),
    "BYMINUTE": _numbers(0, 59),
    "BYHOUR": _numbers(0, 23),
    "BYDAY": _days,
    "BYMONTHDAY": _numbers(1, 31, from_the_end=True),
    "BYYEARDAY": _numbers(1, 366, from_the_end=True),
    "BYWEEKNO": _numbers(1, 53, from_the_end=True),
    "BYMONTH": _numbers(1, 12),
    "BYSETPOS": _numbers(1, 366, from_the_end=True),
}


def _refuse_what_does_not_go_together(parts: dict[str, str], by: dict[str, tuple[str, ...]]) -> None:
    """What RFC 5545 forbids (section 3.3.10), and what would be too much work."""
    freq = parts["FREQ"]
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("COUNT and UNTIL do not go together: a rule ends by one of them.")
    if "BYMONTHDAY" in by and freq == "WEEKLY":
        raise ValueError("BYMONTHDAY does not go with FREQ=WEEKLY; it does with DAILY, MONTHLY and YEARLY.")
    if "BYYEARDAY" in by and freq in {"DAILY", "WEEKLY", "MONTHLY"}:
        raise ValueError(f"BYYEARDAY does not go with FREQ={freq}; it does with YEARLY.")
    if "BYWEEKNO" in by and freq != "YEARLY":
        raise ValueError(f"BYWEEKNO does not go with FREQ={freq}: it is of YEARLY alone.")
    if any(len(day) > 2 for day in by.get("BYDAY", ())):
        if freq not in {"MONTHLY", "YEARLY"}:
            raise ValueError(f"BYDAY={parts['BYDAY']}: a number before a weekday is of FREQ=MONTHLY and YEARLY alone.")
        if "BYWEEKNO" in by:
            raise ValueError(f"BYDAY={parts['BYDAY']}: a number before a weekday does not go with BYWEEKNO.")
    if "BYSETPOS" in by:
        if len(by) == 1:
            raise ValueError("BYSETPOS chooses among what another part names, such as BYDAY: there is none.")
        if freq in _UNIT:
            raise ValueError(f"BYSETPOS does not go with FREQ={freq} here.")
        if len(by["BYSETPOS"]) > MAX_SETPOS:
            raise ValueError(f"BYSETPOS has {len(by['BYSETPOS'])} values: {MAX_SETPOS} is the most.")
    times = 1
    for name in OF_A_TIME:
        times *= len(by.get(name, "1"))
    if times > MAX_TIMES and freq != "MINUTELY":
        raise ValueError(
            f"BYHOUR, BYMINUTE and BYSECOND name {times} times together, and {MAX_TIMES} is the most; "
            "for what comes all the time there are FREQ=HOURLY and MINUTELY."
        )
    if freq == "MINUTELY" and "BYHOUR" in by and by.keys() & {"BYMONTH", "BYYEARDAY"}:
        raise ValueError(
            "FREQ=MINUTELY with BYHOUR does not go with BYMONTH and BYYEARDAY here; "
            "say it by FREQ=DAILY with BYHOUR and BYMINUTE."
        )
