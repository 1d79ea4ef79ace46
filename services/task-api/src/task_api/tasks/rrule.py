"""Recurrence rules (RFC 5545, section 3.3.10): validation, and occurrences, computed by python-dateutil."""

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
"""Maximum of INTERVAL and COUNT."""
MAX_TIMES = 100
"""Maximum number of times of day that BYHOUR, BYMINUTE and BYSECOND combine to. dateutil iterates over all per day."""
MAX_SETPOS = 12
"""Maximum number of BYSETPOS values. dateutil scans each day of a period once for each of them."""

MAX_STEPS: Final = {
    "YEARLY": 100,
    "MONTHLY": 1_200,
    "WEEKLY": 1_200,
    "DAILY": 10_000,
    "HOURLY": 100_000,
    "MINUTELY": 100_000,
}
"""Limit of the search for the next occurrence, in years, months, weeks or days of the rule. Hours and minutes are many:
one step each, and SKIPPED_DAY_STEPS for a day without. dateutil itself searches up to the year 9999, which takes
seconds for a rule without occurrences (every 30th of February); this takes at most 50 ms. A rarer rule is treated as
having no further occurrence. Of the rules supported before dateutil, the worst needs 6,359 days, 265 months or 8
years."""
SKIPPED_DAY_STEPS = 20

TIME_OF_DAY_PARTS: Final = ("BYHOUR", "BYMINUTE", "BYSECOND")

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
_DATE_TIME = re.compile(r"[0-9]{8}T[0-9]{6}Z?")
_WEEKDAY = re.compile(rf"([+-]?[0-9]{{1,2}})?({'|'.join(WEEKDAYS)})")


@dataclass(frozen=True)
class Rule:
    """A parsed rule."""

    text: str
    """As stored: without `RRULE:`, in upper case."""
    freq: str
    """One of FREQUENCIES."""
    interval: int
    count: int | None
    """The number of occurrences, including the current one."""
    until: date | datetime | None
    """The last possible date or date-time of an occurrence; a date-time is in UTC, or naive in the task's time zone."""
    wkst: str
    by: dict[str, tuple[str, ...]]
    """The values of the BY... parts, as strings."""

    @property
    def is_date_based(self) -> bool:
        """Whether it recurs on dates, at the time of day of the previous occurrence (or of BYHOUR etc.)."""
        return self.freq not in _UNIT

    def last(self, zone: tzinfo) -> datetime | None:
        """The last possible instant of an occurrence, in UTC. A date counts to its end in `zone`."""
        if self.until is None:
            return None
        end = self.until if isinstance(self.until, datetime) else datetime.combine(self.until, time.max)
        try:
            return (end if end.tzinfo is not None else end.replace(tzinfo=zone)).astimezone(UTC)
        except OverflowError:  # on the first or last representable day, east or west of UTC
            return end.replace(tzinfo=UTC)


def parse(rule: str) -> Rule:
    """Parses a rule, case-insensitive, with or without the prefix `RRULE:`.

    Raises ValueError with a message that says which part is invalid, and why.

        parse("FREQ=MONTHLY;BYDAY=-1FR").by  # {"BYDAY": ("-1FR",)}
    """
    text = rule.strip().upper().removeprefix("RRULE:")
    if "DTSTART" in text or "\n" in text:
        raise ValueError(
            "A rule is the value of a single RRULE, without DTSTART, EXDATE etc.: it starts when the task is due."
        )
    parts: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ValueError(f"{part or 'An empty part'!r} is not a part of a rule such as 'FREQ=WEEKLY;BYDAY=MO'.")
        if name in parts:
            raise ValueError(f"{name} must not occur more than once.")
        if name not in _PARTS:
            raise ValueError(f"{name} is not a valid rule part: RFC 5545 has {', '.join(_PARTS)}.")
        _PARTS[name](name, value)
        parts[name] = value
    if "FREQ" not in parts:
        raise ValueError("FREQ is missing, for example 'FREQ=DAILY'.")
    by = {name: tuple(value.split(",")) for name, value in parts.items() if name.startswith("BY")}
    _check_combinations(parts, by)
    return Rule(
        text=text,
        freq=parts["FREQ"],
        interval=int(parts.get("INTERVAL", "1")),
        count=int(parts["COUNT"]) if "COUNT" in parts else None,
        until=_parse_until(parts["UNTIL"]) if "UNTIL" in parts else None,
        wkst=parts.get("WKST", "MO"),
        by=by,
    )


def first_after(rule: Rule, anchor: datetime) -> datetime | None:
    """The rule's first occurrence after `anchor`, counted from there; None if there is none within MAX_STEPS.

    Both are naive local times. The caller applies COUNT and UNTIL. Raises OverflowError after the year 9999.
    """
    start = first = anchor.replace(microsecond=0)
    days = [_weekday(day) for day in rule.by["BYDAY"]] if "BYDAY" in rule.by else None
    if rule.freq == "WEEKLY" and "BYSETPOS" in rule.by:
        # dateutil generates only the rest of the first week, and would apply BYSETPOS to that.
        days = days or [dateutil.weekdays[start.weekday()]]
        first -= timedelta(days=(start.weekday() - WEEKDAYS.index(rule.wkst)) % 7)
    # Keyword arguments of different types, which mypy cannot distinguish.
    numbers: dict[str, Any] = {
        name.lower(): [int(value) for value in values] for name, values in rule.by.items() if name != "BYDAY"
    }
    try:
        occurrences = dateutil.rrule(
            _FREQUENCIES[rule.freq],
            dtstart=first,
            interval=_StepLimitedInterval(rule.interval, MAX_STEPS[rule.freq]),
            wkst=WEEKDAYS.index(rule.wkst),
            byweekday=days,
            **numbers,
        )
        found = next((occurrence for occurrence in occurrences if occurrence > start), None)
    except (_StepLimitReached, ValueError):  # ValueError: INTERVAL never reaches any of BYHOUR or BYMINUTE
        return None
    return None if found is None else found.replace(microsecond=anchor.microsecond)


def first_day_after(rule: Rule, day: date) -> date | None:
    """The rule's first date after `day`. For a date BYHOUR, BYMINUTE and BYSECOND are ignored (RFC 5545, 3.3.10)."""
    anchor = datetime.combine(day, time())
    if unit := _UNIT.get(rule.freq):
        step = unit * rule.interval
        anchor += step * ((timedelta(days=1) - timedelta(microseconds=1)) // step)  # the last one on this day
    by = {name: values for name, values in rule.by.items() if name not in TIME_OF_DAY_PARTS}
    found = first_after(Rule(rule.text, rule.freq, rule.interval, None, None, rule.wkst, by), anchor)
    return None if found is None else found.date()


class _StepLimitReached(Exception):
    """No occurrence was found within the step limit."""


class _StepLimitedInterval(int):
    """An interval that limits the search: dateutil adds it for each period. dateutil has no other bound than the year
    9999, and a time limit would differ from machine to machine."""

    _remaining: int

    def __new__(cls, value: int, steps: int) -> _StepLimitedInterval:
        interval = super().__new__(cls, value)
        interval._remaining = steps
        return interval

    def _take(self, steps: int) -> None:
        self._remaining -= steps
        if self._remaining < 0:
            raise _StepLimitReached

    def __radd__(self, other: int) -> int:
        self._take(1)
        return other + int(self)

    def __mul__(self, other: int) -> int:  # weeks are added as a number of days
        self._take(1)
        return int(self) * other

    def __rfloordiv__(self, other: int) -> int:  # called to skip the rest of a day without an occurrence
        self._take(SKIPPED_DAY_STEPS)
        return other // int(self)


def _weekday(value: str) -> dateutil.weekday:
    weekday = dateutil.weekdays[WEEKDAYS.index(value[-2:])]
    return weekday(int(value[:-2])) if value[:-2] else weekday


def _check_frequency(_name: str, value: str) -> None:
    if value == "SECONDLY":
        raise ValueError("FREQ=SECONDLY is too frequent for a task: MINUTELY is the maximum.")
    if value not in FREQUENCIES:
        raise ValueError(f"FREQ={value}: must be {', '.join(FREQUENCIES[:-1])} or {FREQUENCIES[-1]}.")


def _check_number(name: str, value: str) -> None:
    if not re.fullmatch("[0-9]+", value) or not 1 <= int(value[:10]) <= MAX_NUMBER:
        raise ValueError(f"{name}={value[:20]}: {name} must be a number from 1 to {MAX_NUMBER}.")


def _check_numbers(minimum: int, maximum: int, *, negative: bool = False) -> Callable[[str, str], None]:
    pattern = re.compile("[+-]?[0-9]{1,3}" if negative else "[0-9]{1,3}")
    from_the_end = f", or from -{maximum} to -{minimum} counted from the end" if negative else ""

    def check(name: str, value: str) -> None:
        for number in value.split(","):
            if not pattern.fullmatch(number) or not minimum <= abs(int(number)) <= maximum:
                leap = " Leap seconds are not supported." if name == "BYSECOND" and number == "60" else ""
                allowed = f"a number from {minimum} to {maximum}{from_the_end}"
                raise ValueError(f"{name}={value[:40]}: {number[:20]!r} is not {allowed}.{leap}")

    return check


def _check_days(name: str, value: str) -> None:
    for day in value.split(","):
        found = _WEEKDAY.fullmatch(day)
        if found is None or (found[1] and not 1 <= abs(int(found[1])) <= 53):
            raise ValueError(
                f"{name}={value[:40]}: {day[:20]!r} is not one of {', '.join(WEEKDAYS)}, "
                "optionally prefixed with a number from 1 to 53 or -53 to -1, such as 1MO or -1FR."
            )


def _check_week_start(name: str, value: str) -> None:
    if value not in WEEKDAYS:
        raise ValueError(f"{name}={value[:20]}: must be one of {', '.join(WEEKDAYS)}.")


def _check_until(_name: str, value: str) -> None:
    _parse_until(value)


def _parse_until(value: str) -> date | datetime:
    try:
        if _DATE.fullmatch(value):
            return date.fromisoformat(value)
        if _DATE_TIME.fullmatch(value):
            return datetime.fromisoformat(value)
    except ValueError:  # a date or a time of day that does not exist
        pass
    raise ValueError(
        f"UNTIL={value[:30]}: UNTIL is a date such as 20301231, or a date-time such as 20301231T235959Z (UTC) "
        "or 20301231T235959 (in the task's time_zone)."
    )


_PARTS: Final[dict[str, Callable[[str, str], None]]] = {
    "FREQ": _check_frequency,
    "INTERVAL": _check_number,
    "COUNT": _check_number,
    "UNTIL": _check_until,
    "WKST": _check_week_start,
    "BYSECOND": _check_numbers(0, 59),
    "BYMINUTE": _check_numbers(0, 59),
    "BYHOUR": _check_numbers(0, 23),
    "BYDAY": _check_days,
    "BYMONTHDAY": _check_numbers(1, 31, negative=True),
    "BYYEARDAY": _check_numbers(1, 366, negative=True),
    "BYWEEKNO": _check_numbers(1, 53, negative=True),
    "BYMONTH": _check_numbers(1, 12),
    "BYSETPOS": _check_numbers(1, 366, negative=True),
}


def _check_combinations(parts: dict[str, str], by: dict[str, tuple[str, ...]]) -> None:
    """Rejects combinations that RFC 5545 forbids (section 3.3.10), and those that are too expensive."""
    freq = parts["FREQ"]
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("COUNT and UNTIL cannot be combined.")
    if "BYMONTHDAY" in by and freq == "WEEKLY":
        raise ValueError("BYMONTHDAY cannot be combined with FREQ=WEEKLY, only with DAILY, MONTHLY and YEARLY.")
    if "BYYEARDAY" in by and freq in {"DAILY", "WEEKLY", "MONTHLY"}:
        raise ValueError(f"BYYEARDAY cannot be combined with FREQ={freq}, use YEARLY.")
    if "BYWEEKNO" in by and freq != "YEARLY":
        raise ValueError(f"BYWEEKNO cannot be combined with FREQ={freq}, only with YEARLY.")
    if any(len(day) > 2 for day in by.get("BYDAY", ())):
        if freq not in {"MONTHLY", "YEARLY"}:
            raise ValueError(f"BYDAY={parts['BYDAY']}: a number before a weekday requires FREQ=MONTHLY or YEARLY.")
        if "BYWEEKNO" in by:
            raise ValueError(f"BYDAY={parts['BYDAY']}: a number before a weekday cannot be combined with BYWEEKNO.")
    if "BYSETPOS" in by:
        if len(by) == 1:
            raise ValueError("BYSETPOS requires another BY... part, such as BYDAY.")
        if freq in _UNIT:
            raise ValueError(f"BYSETPOS with FREQ={freq} is not supported.")
        if len(by["BYSETPOS"]) > MAX_SETPOS:
            raise ValueError(f"BYSETPOS has {len(by['BYSETPOS'])} values, the maximum is {MAX_SETPOS}.")
    times = 1
    for name in TIME_OF_DAY_PARTS:
        times *= len(by.get(name, "1"))
    if times > MAX_TIMES and freq != "MINUTELY":
        raise ValueError(
            f"BYHOUR, BYMINUTE and BYSECOND combine to {times} times of day, the maximum is {MAX_TIMES}; "
            "for higher frequencies use FREQ=HOURLY or MINUTELY."
        )
    if freq == "MINUTELY" and "BYHOUR" in by and by.keys() & {"BYMONTH", "BYYEARDAY"}:
        raise ValueError(
            "FREQ=MINUTELY with BYHOUR and BYMONTH or BYYEARDAY is not supported; "
            "use FREQ=DAILY with BYHOUR and BYMINUTE."
        )
