"""The examples of RFC 5545, section 3.8.5.3: rules, their start dates and their next occurrences.

Times are in the time zone of New York. `...` marks lists that continue. One example differs from the RFC, which lists
15:00 for a rule that ends at 13:00 (17:00 UTC): an erratum.
"""

from __future__ import annotations

from datetime import datetime

_AT_NINE = {
    ("FREQ=DAILY;COUNT=10", "1997-09-02"): "9-3 9-4 9-5 9-6 9-7 9-8 9-9 9-10 9-11",
    ("FREQ=DAILY;UNTIL=19971224T000000Z", "1997-12-20"): "12-21 12-22 12-23",
    (
        "FREQ=DAILY;INTERVAL=2",
        "1997-09-02",
    ): "9-4 9-6 9-8 9-10 9-12 9-14 9-16 9-18 9-20 9-22 9-24 9-26 9-28 9-30 10-2 ...",
    ("FREQ=DAILY;INTERVAL=10;COUNT=5", "1997-09-02"): "9-12 9-22 10-2 10-12",
    ("FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA", "1998-01-30"): "1-31 1999-1-1 1-2 ...",
    ("FREQ=YEARLY;UNTIL=20000131T140000Z;BYMONTH=1;BYDAY=SU,MO,TU,WE,TH,FR,SA", "2000-01-29"): "1-30 1-31",
    ("FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", "1998-01-30"): "1-31 1999-1-1 1-2 ...",
    ("FREQ=DAILY;UNTIL=20000131T140000Z;BYMONTH=1", "2000-01-29"): "1-30 1-31",
    ("FREQ=WEEKLY;COUNT=10", "1997-09-02"): "9-9 9-16 9-23 9-30 10-7 10-14 10-21 10-28 11-4",
    (
        "FREQ=WEEKLY;UNTIL=19971224T000000Z",
        "1997-09-02",
    ): "9-9 9-16 9-23 9-30 10-7 10-14 10-21 10-28 11-4 11-11 11-18 11-25 12-2 12-9 12-16 12-23",
    (
        "FREQ=WEEKLY;INTERVAL=2;WKST=SU",
        "1997-09-02",
    ): "9-16 9-30 10-14 10-28 11-11 11-25 12-9 12-23 1998-1-6 1-20 2-3 2-17 ...",
    (
        "FREQ=WEEKLY;UNTIL=19971007T000000Z;WKST=SU;BYDAY=TU,TH",
        "1997-09-02",
    ): "9-4 9-9 9-11 9-16 9-18 9-23 9-25 9-30 10-2",
    ("FREQ=WEEKLY;COUNT=10;WKST=SU;BYDAY=TU,TH", "1997-09-02"): "9-4 9-9 9-11 9-16 9-18 9-23 9-25 9-30 10-2",
    (
        "FREQ=WEEKLY;INTERVAL=2;UNTIL=19971224T000000Z;WKST=SU;BYDAY=MO,WE,FR",
        "1997-09-01",
    ): "9-3 9-5 9-15 9-17 9-19 9-29 10-1 10-3 10-13 10-15 10-17 10-27 10-29 10-31 11-10 11-12 11-14 11-24 11-26 11-28 "
    "12-8 12-10 12-12 12-22",
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=8;WKST=SU;BYDAY=TU,TH", "1997-09-02"): "9-4 9-16 9-18 9-30 10-2 10-14 10-16",
    ("FREQ=MONTHLY;COUNT=10;BYDAY=1FR", "1997-09-05"): "10-3 11-7 12-5 1998-1-2 2-6 3-6 4-3 5-1 6-5",
    ("FREQ=MONTHLY;UNTIL=19971224T000000Z;BYDAY=1FR", "1997-09-05"): "10-3 11-7 12-5",
    (
        "FREQ=MONTHLY;INTERVAL=2;COUNT=10;BYDAY=1SU,-1SU",
        "1997-09-07",
    ): "9-28 11-2 11-30 1998-1-4 1-25 3-1 3-29 5-3 5-31",
    ("FREQ=MONTHLY;COUNT=6;BYDAY=-2MO", "1997-09-22"): "10-20 11-17 12-22 1998-1-19 2-16",
    ("FREQ=MONTHLY;BYMONTHDAY=-3", "1997-09-28"): "10-29 11-28 12-29 1998-1-29 2-26 ...",
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=2,15", "1997-09-02"): "9-15 10-2 10-15 11-2 11-15 12-2 12-15 1998-1-2 1-15",
    ("FREQ=MONTHLY;COUNT=10;BYMONTHDAY=1,-1", "1997-09-30"): "10-1 10-31 11-1 11-30 12-1 12-31 1998-1-1 1-31 2-1",
    (
        "FREQ=MONTHLY;INTERVAL=18;COUNT=10;BYMONTHDAY=10,11,12,13,14,15",
        "1997-09-10",
    ): "9-11 9-12 9-13 9-14 9-15 1999-3-10 3-11 3-12 3-13",
    (
        "FREQ=MONTHLY;INTERVAL=2;BYDAY=TU",
        "1997-09-02",
    ): "9-9 9-16 9-23 9-30 11-4 11-11 11-18 11-25 1998-1-6 1-13 1-20 1-27 3-3 3-10 3-17 3-24 3-31 ...",
    (
        "FREQ=YEARLY;COUNT=10;BYMONTH=6,7",
        "1997-06-10",
    ): "7-10 1998-6-10 7-10 1999-6-10 7-10 2000-6-10 7-10 2001-6-10 7-10",
    (
        "FREQ=YEARLY;INTERVAL=2;COUNT=10;BYMONTH=1,2,3",
        "1997-03-10",
    ): "1999-1-10 2-10 3-10 2001-1-10 2-10 3-10 2003-1-10 2-10 3-10",
    (
        "FREQ=YEARLY;INTERVAL=3;COUNT=10;BYYEARDAY=1,100,200",
        "1997-01-01",
    ): "4-10 7-19 2000-1-1 4-9 7-18 2003-1-1 4-10 7-19 2006-1-1",
    ("FREQ=YEARLY;BYDAY=20MO", "1997-05-19"): "1998-5-18 1999-5-17 ...",
    ("FREQ=YEARLY;BYWEEKNO=20;BYDAY=MO", "1997-05-12"): "1998-5-11 1999-5-17 ...",
    ("FREQ=YEARLY;BYMONTH=3;BYDAY=TH", "1997-03-13"): "3-20 3-27 1998-3-5 3-12 3-19 3-26 1999-3-4 3-11 3-18 3-25 ...",
    ("FREQ=YEARLY;BYDAY=TH;BYMONTH=6,7,8", "1997-06-05"): "6-12 6-19 6-26 7-3 7-10 7-17 7-24 7-31 8-7 8-14 8-21 8-28 "
    "1998-6-4 6-11 6-18 6-25 7-2 7-9 7-16 7-23 7-30 8-6 8-13 8-20 8-27 1999-6-3 ...",
    ("FREQ=MONTHLY;BYDAY=FR;BYMONTHDAY=13", "1997-09-02"): "1998-2-13 3-13 11-13 1999-8-13 2000-10-13 ...",
    (
        "FREQ=MONTHLY;BYDAY=SA;BYMONTHDAY=7,8,9,10,11,12,13",
        "1997-09-13",
    ): "10-11 11-8 12-13 1998-1-10 2-7 3-7 4-11 5-9 6-13 ...",
    ("FREQ=YEARLY;INTERVAL=4;BYMONTH=11;BYDAY=TU;BYMONTHDAY=2,3,4,5,6,7,8", "1996-11-05"): "2000-11-7 2004-11-2 ...",
    ("FREQ=MONTHLY;COUNT=3;BYDAY=TU,WE,TH;BYSETPOS=3", "1997-09-04"): "10-7 11-6",
    ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-2", "1997-09-29"): "10-30 11-27 12-30 1998-1-29 2-26 3-30 ...",
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=MO", "1997-08-05"): "8-10 8-19 8-24",
    ("FREQ=WEEKLY;INTERVAL=2;COUNT=4;BYDAY=TU,SU;WKST=SU", "1997-08-05"): "8-17 8-19 8-31",
    ("FREQ=MONTHLY;BYMONTHDAY=15,30;COUNT=5", "2007-01-15"): "1-30 2-15 3-15 3-30",
}
"""Rules that start at 09:00 and recur at that time. A date without a year is in the year of the previous one."""

_INTRADAY = {
    "FREQ=HOURLY;INTERVAL=3;UNTIL=19970902T170000Z": "2T12:00",
    "FREQ=MINUTELY;INTERVAL=15;COUNT=6": "2T09:15 2T09:30 2T09:45 2T10:00 2T10:15",
    "FREQ=MINUTELY;INTERVAL=90;COUNT=4": "2T10:30 2T12:00 2T13:30",
    "FREQ=DAILY;BYHOUR=9,10,11,12,13,14,15,16;BYMINUTE=0,20,40": "HOURS ...",
    "FREQ=MINUTELY;INTERVAL=20;BYHOUR=9,10,11,12,13,14,15,16": "HOURS ...",
}
"""Rules with several times a day, starting on 2 September 1997."""


def _at_nine(start: str, days: str) -> list[datetime]:
    year, dates = start[:4], []
    for day in days.removesuffix("...").split():
        *other, month, day_of_month = day.split("-")
        year = other[0] if other else year
        dates.append(datetime.fromisoformat(f"{year}-{month:0>2}-{day_of_month:0>2}T09:00"))
    return dates


def _intraday(times: str) -> list[datetime]:
    office = " ".join(
        f"{day}T{hour:02}:{minute:02}" for day in (2, 3) for hour in range(9, 17) for minute in (0, 20, 40)
    )
    times = times.removesuffix("...").replace("HOURS", office.removeprefix("2T09:00 "))
    return [datetime.fromisoformat(f"1997-09-{time:0>8}") for time in times.split()]


EXAMPLES = [
    *(
        (rule, datetime.fromisoformat(f"{start}T09:00"), _at_nine(start, days), days.endswith("..."))
        for (rule, start), days in _AT_NINE.items()
    ),
    *(
        (rule, datetime.fromisoformat("1997-09-02T09:00"), _intraday(times), times.endswith("..."))
        for rule, times in _INTRADAY.items()
    ),
]
"""(rule, start, next occurrences, whether there are more)"""
