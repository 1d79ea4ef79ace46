"""Tasks in calendar clients: what they read is what the task has."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from dateutil.rrule import rrule, rrulestr
from icalendar import Calendar

from task_api.tasks.calendar import to_ics, to_vtodo
from task_api.tasks.models import Priority, Status, Task
from task_api.tasks.recurrence import next_occurrence

CREATED = datetime(2026, 11, 20, 8, 0, 0, 999_999, tzinfo=UTC)
UPDATED = datetime(2026, 11, 23, 12, 30, tzinfo=UTC)
DUE = datetime(2026, 11, 30, 17, 0, tzinfo=UTC)
START = DUE - timedelta(days=2)
PLAIN: dict[str, Any] = {
    "id": UUID("01990000-0000-7000-8000-000000000001"),
    "title": "Water the plants",
    "description": None,
    "status": Status.TO_DO,
    "priority": Priority.NONE,
    "due_at": None,
    "due_on": None,
    "start_at": None,
    "labels": [],
    "project": None,
    "parent": None,
    "assignee": None,
    "percent_done": 0,
    "recurrence": None,
    "position": 17.5,
    "metadata": {"secret-key": "secret-value"},
    "created_at": CREATED,
    "updated_at": UPDATED,
    "completed_at": None,
    "deleted_at": None,
    "version": 1,
}


def task(**fields: object) -> Task:
    return Task.model_validate({**PLAIN, **fields})


def lines(**fields: object) -> list[str]:
    """The lines of the task's VTODO, unfolded, as another program reads them."""
    text = to_ics([to_vtodo(task(**fields))]).decode().replace("\r\n ", "")
    return text.split("\r\n")[4:-3]


def read(**fields: object) -> dict[str, Any]:
    """The properties of the task's VTODO as the library reads them back."""
    (todo,) = Calendar.from_ical(to_ics([to_vtodo(task(**fields))])).walk("VTODO")
    return {name.lower(): value for name, value in todo.items()}


def times(**fields: object) -> list[str]:
    names = ("DTSTART", "DUE", "RRULE", "X-TASK-START", "X-TASK-DUE", "X-TASK-RECURRENCE")
    return [line for line in lines(**fields) if line.startswith(names)]


def test_a_simple_task_is_serialized_completely() -> None:
    assert to_ics([to_vtodo(task())]).decode().split("\r\n") == [
        "BEGIN:VCALENDAR",
        "VERSION:2.0",
        "PRODID:-//task-api//Task Management API//EN",
        "BEGIN:VTODO",
        "CREATED:20261120T080000Z",
        "DTSTAMP:20261123T123000Z",
        "LAST-MODIFIED:20261123T123000Z",
        "PERCENT-COMPLETE:0",
        "SEQUENCE:0",
        "STATUS:NEEDS-ACTION",
        "SUMMARY:Water the plants",
        "UID:01990000-0000-7000-8000-000000000001",
        "END:VTODO",
        "END:VCALENDAR",
        "",
    ]


def test_position_and_metadata_are_not_exported() -> None:
    written = to_ics([to_vtodo(task())])
    assert b"secret" not in written
    assert b"17.5" not in written


def test_the_export_is_ordered_and_deterministic() -> None:
    tasks = [task(id=UUID(int=number), labels=["b", "a"], due_at=DUE) for number in (3, 1, 2)]
    written = to_ics(map(to_vtodo, tasks))
    assert [str(todo["uid"]) for todo in Calendar.from_ical(written).walk("VTODO")] == [str(t.id) for t in tasks]
    assert to_ics(map(to_vtodo, tasks)) == written


def test_an_empty_list_is_an_empty_calendar() -> None:
    assert to_ics([]) == (
        b"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:-//task-api//Task Management API//EN\r\nEND:VCALENDAR\r\n"
    )


@pytest.mark.parametrize(
    ("status", "written"),
    [
        (Status.TO_DO, "NEEDS-ACTION"),
        (Status.IN_PROGRESS, "IN-PROCESS"),
        (Status.DONE, "COMPLETED"),
        (Status.CANCELLED, "CANCELLED"),
    ],
)
def test_each_status_maps_to_an_icalendar_status(status: Status, written: str) -> None:
    assert str(read(status=status)["status"]) == written


@pytest.mark.parametrize(
    ("priority", "written"),
    [(Priority.LOW, 9), (Priority.MEDIUM, 5), (Priority.HIGH, 3), (Priority.URGENT, 1)],
)
def test_each_priority_maps_to_an_icalendar_priority(priority: Priority, written: int) -> None:
    assert read(priority=priority)["priority"] == written


def test_priority_none_is_omitted() -> None:
    assert "priority" not in read(priority=Priority.NONE)


def test_fields_with_an_icalendar_property_round_trip() -> None:
    parent = UUID("01990000-0000-7000-8000-000000000002")
    todo = read(
        description="The fern too",
        status=Status.DONE,
        percent_done=100,
        completed_at=UPDATED,
        parent=parent,
        labels=["home", "green, or so"],
        version=8,
    )
    assert str(todo["uid"]) == "01990000-0000-7000-8000-000000000001"
    assert str(todo["description"]) == "The fern too"
    assert todo["percent-complete"] == 100
    assert todo["completed"].dt == UPDATED
    assert str(todo["related-to"]) == str(parent)
    assert list(todo["categories"]) == ["home", "green, or so"]
    assert todo["sequence"] == 7
    assert todo["dtstamp"].dt == todo["last-modified"].dt == UPDATED
    assert todo["created"].dt == CREATED.replace(microsecond=0)


def test_project_and_assignee_are_x_properties() -> None:
    todo = read(project="House; garden", assignee="Kim, upstairs")
    assert str(todo["x-task-project"]) == "House; garden"
    assert str(todo["x-task-assignee"]) == "Kim, upstairs"
    assert "attendee" not in todo


@pytest.mark.parametrize(
    "text",
    [
        "commas, semicolons; and colons: all",
        "two\nlines\n\nand more\n",
        r"C:\New\new\,\;",
        'quoted "words"',
        "caf\u00e9 \u2603 \U0001f331",
        " spaces around ",
        "not\u2028a\u0085line\tend",
    ],
)
def test_text_round_trips(text: str) -> None:
    todo = read(title=text, description=text, project=text, assignee=text, labels=[text, "other"])
    assert [str(todo[name]) for name in ("summary", "description", "x-task-project", "x-task-assignee")] == [text] * 4
    assert list(todo["categories"]) == [text, "other"]


def test_special_characters_are_escaped_as_in_rfc_5545() -> None:
    assert "SUMMARY:a\\,b\\;c\\\\d\\ne:f" in lines(title="a,b;c\\d\ne:f")


@pytest.mark.parametrize("line_end", ["\r\n", "\n", "\r", "\r\n\r\n", "\x0b", "\x0c", "\x1c", "\u2028", "\x85"])
@pytest.mark.parametrize("name", ["title", "description", "project", "assignee", "label"])
def test_text_cannot_inject_a_property(name: str, line_end: str) -> None:
    text = f"x{line_end}ATTACH:https://evil.example{line_end}END:VTODO{line_end} y"
    plain, evil = ({"labels": [t]} if name == "label" else {name: t} for t in ("x", text))
    assert len(lines(**evil)) == len(lines(**plain))
    assert set(read(**evil)) == set(read(**plain))


def test_control_characters_are_dropped() -> None:
    assert "DESCRIPTION:a\\nb\\nc\td" in lines(description="a\r\nb\rc\t\x01\x1b\x7fd")


def test_long_lines_are_folded_within_75_octets_and_between_characters() -> None:
    text = "\u00e9\u20ac\U0001f331, " * 1000
    written = to_ics([to_vtodo(task(description=text))])
    folded = written.split(b"\r\n")
    assert max(map(len, folded)) <= 75
    assert b"\n" not in b"".join(folded)
    for line in folded:
        line.decode()  # raises where a character was cut
    assert str(read(description=text)["description"]) == text


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        ({}, []),
        ({"due_at": DUE}, ["DUE:20261130T170000Z"]),
        ({"due_on": DUE.date()}, ["DUE;VALUE=DATE:20261130"]),
        ({"due_on": date(1, 2, 3)}, ["DUE;VALUE=DATE:00010203"]),
        ({"start_at": START}, ["DTSTART:20261128T170000Z"]),
        ({"start_at": START, "due_at": DUE}, ["DTSTART:20261128T170000Z", "DUE:20261130T170000Z"]),
    ],
)
def test_date_times_are_in_utc_and_dates_are_dates(fields: dict[str, object], written: list[str]) -> None:
    assert times(**fields) == written


@pytest.mark.parametrize(
    ("start", "due", "written"),
    [
        (START, {"due_on": DUE.date()}, "DUE;VALUE=DATE:20261130"),
        (DUE, {"due_at": DUE}, "DUE:20261130T170000Z"),
        (DUE + timedelta(days=1), {"due_at": DUE}, "DUE:20261130T170000Z"),
        (DUE, {"due_at": DUE + timedelta(microseconds=1)}, "DUE:20261130T170000Z"),
    ],
)
def test_a_start_incompatible_with_the_due_is_an_x_property(
    start: datetime, due: dict[str, object], written: str
) -> None:
    assert times(start_at=start, **due) == [written, f"X-TASK-START;VALUE=DATE-TIME:{start:%Y%m%dT%H%M%SZ}"]


@pytest.mark.parametrize(
    ("fields", "written"),
    [
        (
            {"recurrence": "FREQ=MONTHLY", "due_at": DUE},
            ["DTSTART:20261130T170000Z", "RRULE:FREQ=MONTHLY", "X-TASK-DUE;VALUE=DATE-TIME:20261130T170000Z"],
        ),
        (
            {"recurrence": "FREQ=WEEKLY;UNTIL=20301231T235959Z", "due_on": DUE.date(), "start_at": START},
            [
                "DTSTART;VALUE=DATE:20261130",
                "RRULE:FREQ=WEEKLY;UNTIL=20301231",
                "X-TASK-DUE;VALUE=DATE:20261130",
                "X-TASK-START;VALUE=DATE-TIME:20261128T170000Z",
            ],
        ),
        (
            {"recurrence": "FREQ=DAILY;INTERVAL=3;COUNT=5", "start_at": START},
            ["DTSTART:20261128T170000Z", "RRULE:FREQ=DAILY;COUNT=5;INTERVAL=3"],
        ),
        (
            {"recurrence": "FREQ=DAILY;UNTIL=20261231T170000Z", "start_at": START, "due_at": DUE},
            ["DTSTART:20261128T170000Z", "DUE:20261130T170000Z", "RRULE:FREQ=DAILY;UNTIL=20261229T170000Z"],
        ),
        (
            {"recurrence": "FREQ=MONTHLY;BYMONTHDAY=30,-1", "start_at": DUE - timedelta(hours=2), "due_at": DUE},
            ["DTSTART:20261130T150000Z", "DUE:20261130T170000Z", "RRULE:FREQ=MONTHLY;BYMONTHDAY=30,-1"],
        ),
        (
            {"recurrence": "FREQ=WEEKLY;BYDAY=MO", "start_at": START, "due_at": DUE},
            [
                "DTSTART:20261130T170000Z",
                "RRULE:FREQ=WEEKLY;BYDAY=MO",
                "X-TASK-DUE;VALUE=DATE-TIME:20261130T170000Z",
                "X-TASK-START;VALUE=DATE-TIME:20261128T170000Z",
            ],
        ),
        # Start equal to due: RFC 5545 requires a DUE later than DTSTART.
        (
            {"recurrence": "FREQ=DAILY", "start_at": DUE, "due_at": DUE},
            [
                "DTSTART:20261130T170000Z",
                "RRULE:FREQ=DAILY",
                "X-TASK-DUE;VALUE=DATE-TIME:20261130T170000Z",
                "X-TASK-START;VALUE=DATE-TIME:20261130T170000Z",
            ],
        ),
        # The last occurrence is one.
        (
            {"recurrence": "FREQ=DAILY;UNTIL=20261130T170000Z", "due_at": DUE},
            [
                "DTSTART:20261130T170000Z",
                "RRULE:FREQ=DAILY;UNTIL=20261130T170000Z",
                "X-TASK-DUE;VALUE=DATE-TIME:20261130T170000Z",
            ],
        ),
        (
            {"recurrence": "FREQ=DAILY;UNTIL=20261130", "due_on": DUE.date()},
            ["DTSTART;VALUE=DATE:20261130", "RRULE:FREQ=DAILY;UNTIL=20261130", "X-TASK-DUE;VALUE=DATE:20261130"],
        ),
        ({"recurrence": "FREQ=DAILY"}, ["X-TASK-RECURRENCE;VALUE=TEXT:FREQ=DAILY"]),
        (
            {"recurrence": "FREQ=DAILY;UNTIL=20200101T000000Z", "due_at": DUE},
            ["DUE:20261130T170000Z", "X-TASK-RECURRENCE;VALUE=TEXT:FREQ=DAILY\\;UNTIL=20200101T000000Z"],
        ),
    ],
)
def test_a_rule_is_exported_with_the_dtstart_it_counts_from(fields: dict[str, object], written: list[str]) -> None:
    assert sorted(times(**fields)) == sorted(written)


@pytest.mark.parametrize("rule", ["DAILY", "WEEKLY;BYDAY=MO,TH", "MONTHLY", "MONTHLY;BYMONTHDAY=-1", "YEARLY"])
@pytest.mark.parametrize("end", ["", ";COUNT=4", ";UNTIL=20270301T170000Z"])
@pytest.mark.parametrize(
    "fields",
    [
        {"due_at": DUE},
        {"due_on": DUE.date()},
        {"start_at": DUE},
        {"start_at": START, "due_at": DUE},
        {"start_at": START, "due_on": DUE.date()},
        {"start_at": DUE - timedelta(hours=1), "due_at": DUE},
    ],
)
def test_clients_compute_the_same_occurrences_as_the_service(rule: str, end: str, fields: dict[str, object]) -> None:
    current: Task | None = task(recurrence=f"FREQ={rule}{end}", **fields)
    assert current is not None
    first = read(**current.model_dump())
    days: list[date] = []
    while current is not None and len(days) < 6:
        anchor = current.due or current.start_at
        assert anchor is not None
        days.append(anchor.date())
        following = next_occurrence(current, now=UPDATED)
        current = None if following is None else current.model_copy(update=vars(following))
    start = first["dtstart"].dt
    if not isinstance(start, datetime):
        # dateutil counts from a datetime, and requires UNTIL to have a time zone if DTSTART has one.
        start = datetime.combine(start, time(), UTC)
    rule = re.sub("(UNTIL=[0-9]{8})(;|$)", r"\1T000000Z\2", first["rrule"].to_ical().decode())
    reference = rrulestr(rule, dtstart=start)
    assert isinstance(reference, rrule)
    distance = days[0] - start.date()
    assert [(occurrence + distance).date() for occurrence in reference.xafter(start, count=6, inc=True)] == days
