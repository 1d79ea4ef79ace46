"""Rules and calendars mean the same to other programs: dateutil, rrule.js, ical.js, vdirsyncer, todoman."""

from __future__ import annotations

import base64
import itertools
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import httpx2
import pytest
from dateutil.rrule import rrulestr
from making import a_task
from rfc5545_examples import EXAMPLES
from running import SERVICE, run, serving

from task_api.tasks.calendar import time_zone_of, to_ics, to_vtimezone, to_vtodo
from task_api.tasks.models import Task
from task_api.tasks.recurrence import next_occurrence
from task_api.tasks.rrule import FREQUENCIES, WEEKDAYS, parse

FOLDER = Path(__file__).parent / "clients/calendars"
RULES, FUZZ_RULES = 1000, 5000
MANY = 6
"""Number of occurrences compared per rule."""

pytestmark = pytest.mark.full  # these programs are installed from npm's registry and Python's

Javascript = Callable[[str, str], Any]
"""Runs a script of the folder on an input, and returns the JSON that it prints."""


@pytest.fixture(scope="session")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Javascript:
    """The packages of package-lock.json, in a separate folder: several workers may need them concurrently."""
    folder = tmp_path_factory.mktemp("javascript")
    shutil.copytree(FOLDER, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules", ".venv"))
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline"]
    installed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert installed.returncode == 0, f"npm cannot install the packages of tests/clients/calendars: {installed.stderr}"

    def execute(script: str, stdin: str) -> Any:
        done = subprocess.run(["node", script], cwd=folder, input=stdin, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return execute


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of vdirsyncer and todoman."""
    install = ["scripts/install.sh", *(str(FOLDER / name) for name in (".venv", "requirements.txt", ".venv/stamp"))]
    installed = subprocess.run(install, cwd=SERVICE.parents[1], capture_output=True, text=True, check=False)
    assert installed.returncode == 0, (
        f"vdirsyncer and todoman cannot be installed: {installed.stdout + installed.stderr}"
    )
    return FOLDER / ".venv/bin"


def random_rule(random: Random) -> str:
    """Any supported rule of RFC 5545, its parts in any order, except for what rrule.js 2.8.1 gets wrong.

    It iterates hours and minutes in the order given, counts a day twice for BYSETPOS=1,-1, omits some occurrences of
    FREQ=MINUTELY with BYHOUR on some days only, and like dateutil numbers only the rest of the first week.
    """

    def some(values: range, most: int) -> str:
        return ",".join(map(str, sorted(random.sample(values, random.randint(1, most)))))

    def or_from_the_end(most: int) -> str:
        return ",".join(str(random.choice([1, 1, -1]) * random.randint(1, most)) for _ in range(random.randint(1, 3)))

    freq = random.choice(FREQUENCIES)
    parts = [f"FREQ={freq}"]
    if random.random() < 0.5:
        parts.append(f"INTERVAL={random.randint(1, 12)}")
    if random.random() < 0.3:
        parts.append(f"WKST={random.choice(WEEKDAYS)}")
    if random.random() < 0.3 and freq != "MINUTELY":
        parts.append(f"BYMONTH={some(range(1, 13), 4)}")
    if random.random() < 0.25 and freq != "WEEKLY":
        parts.append(f"BYMONTHDAY={or_from_the_end(28)}")
    elif random.random() < 0.25 and freq == "YEARLY":
        parts.append(random.choice([f"BYYEARDAY={or_from_the_end(365)}", f"BYWEEKNO={or_from_the_end(52)}"]))
    if random.random() < 0.4:
        ordinals = freq == "MONTHLY" or (freq == "YEARLY" and not any("BYWEEKNO" in part for part in parts))
        number = random.choice(["1", "2", "-1", "+3"]) if ordinals and random.random() < 0.5 else ""
        parts.append("BYDAY=" + ",".join(number + day for day in random.sample(WEEKDAYS, random.randint(1, 3))))
    if random.random() < 0.2 and (freq != "MINUTELY" or not any(part.startswith("BY") for part in parts)):
        parts.append(f"BYHOUR={some(range(24), 3)}")
    if random.random() < 0.2:
        parts.append(f"BYMINUTE={some(range(60), 3)}")
    if random.random() < 0.3 and freq in {"YEARLY", "MONTHLY", "DAILY"}:
        parts.append(f"BYSETPOS={random.choice(['1', '-1', '2', '-3'])}")
    if random.random() < 0.2:
        parts.append(random.choice([f"COUNT={random.randint(2, 9)}", "UNTIL=20270731T120000Z"]))
    random.shuffle(parts)
    return ";".join(parts)


def series(task: Task, many: int) -> list[datetime]:
    """The dues of the tasks after this one, each created when the previous one is done."""
    found: list[datetime] = []
    while len(found) < many and (following := next_occurrence(task, now=task.created_at)) is not None:
        assert following.due_at is not None
        found.append(following.due_at)
        task = task.model_copy(update=vars(following))
    return found


def cases(seed: int | None, many: int) -> list[tuple[str, datetime, list[datetime]]]:
    """Rules, a first occurrence of each, and the next ones; only rules that recur at least once in 20 years."""
    random = Random(5545 if seed is None else seed)
    found: list[tuple[str, datetime, list[datetime]]] = []
    while len(found) < many:
        rule = random_rule(random)
        try:
            parse(rule)
        except ValueError:
            continue
        anchor = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=random.randint(0, 500_000))
        bare = re.sub(r";?(COUNT|UNTIL)=[^;]*", "", rule).removeprefix(";")
        first = next_occurrence(a_task(recurrence=bare, due_at=anchor), now=anchor)
        if first is None or first.due_at is None or first.due_at > datetime(2046, 1, 1, tzinfo=UTC):
            continue
        found.append((rule, first.due_at, series(a_task(recurrence=rule, due_at=first.due_at), MANY)))
    return found


@pytest.mark.generated
@pytest.mark.node
def test_occurrences_of_generated_rules_match_dateutil_and_rrule_js(seed: int | None, javascript: Javascript) -> None:
    """They parse the rule themselves, and count from its first occurrence, whereas each task here starts over."""
    made = cases(seed, RULES if seed is None else FUZZ_RULES)
    assert sum(len(found) for _, _, found in made) > 4 * len(made)
    for rule, first, found in made:
        expected = itertools.islice(
            (occurrence for occurrence in rrulestr(rule, dtstart=first) if occurrence > first), len(found)
        )
        assert found == list(expected), (rule, first)
    if seed is not None:  # rrule.js gets some rare rules wrong: findings/rrulejs-minutes-across-hours.sh
        return
    both = [case for case in made if case[2]]
    inputs = [{"start": first.isoformat(), "rule": rule, "count": len(found)} for rule, first, found in both]
    for (rule, first, found), theirs in zip(both, javascript("rules.mjs", json.dumps(inputs)), strict=True):
        assert found == [datetime.fromisoformat(occurrence) for occurrence in theirs], (rule, first)


@pytest.mark.node
def test_occurrences_of_the_rfc_5545_examples_match_rrule_js(javascript: Javascript) -> None:
    """In naive local time, which both use."""
    inputs = [
        {"start": f"{first.isoformat()}Z", "rule": re.sub("UNTIL=[^;]*", "COUNT=200", rule), "count": len(expected)}
        for rule, first, expected, _ in EXAMPLES
    ]
    for (rule, _, expected, _), theirs in zip(EXAMPLES, javascript("rules.mjs", json.dumps(inputs)), strict=True):
        assert [occurrence.isoformat() for occurrence in expected] == [
            occurrence.removesuffix(".000Z") for occurrence in theirs
        ], rule


@pytest.mark.node
def test_ical_js_computes_the_same_occurrences_from_the_export(javascript: Javascript) -> None:
    """By the VTIMEZONE of the export, across two DST changes."""
    due = datetime(2026, 9, 25, 7, 0, tzinfo=UTC)
    tasks = [
        a_task(recurrence=rule, time_zone=zone, due_at=due, start_at=start)
        for rule in ["FREQ=WEEKLY;INTERVAL=9", "FREQ=MONTHLY;BYDAY=-1FR", "FREQ=DAILY;INTERVAL=40;UNTIL=20270330"]
        for zone in ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", None]
        for start in [None, due - timedelta(hours=1)]
    ]
    zones = {time_zone_of(task) for task in tasks} - {None}
    assert zones == {"Europe/Berlin", "America/New_York", "Asia/Kolkata"}
    calendar = to_ics(map(to_vtodo, tasks), (to_vtimezone(zone) for zone in zones if zone is not None))
    found = javascript("calendar.mjs", calendar.decode())
    for task in tasks:
        theirs = [datetime.fromisoformat(occurrence) for occurrence in found[str(task.id)]]
        assert task.due_at is not None
        ours = [task.due_at, *series(task, len(theirs))][: len(theirs)]
        if task.start_at is not None:
            ours = [occurrence - timedelta(hours=1) for occurrence in ours]
        assert len(theirs) >= 5
        assert theirs == ours, (task.recurrence, task.time_zone)


@pytest.mark.timeout(600)
def test_vdirsyncer_subscribes_with_a_token_and_todoman_shows_the_tasks(programs: Path, tmp_path: Path) -> None:
    made = run("token", "new", "--name", "calendar", "--scope", "read")
    (tmp_path / "tokens").write_text(made.stdout)
    (token,) = re.findall(r"once: (\S+)", made.stderr)
    writer = run("token", "new", "--name", "ann", "--scope", "write")
    (tmp_path / "tokens").write_text(made.stdout + writer.stdout)
    (written,) = re.findall(r"once: (\S+)", writer.stderr)
    settings = {"TASKS_AUTH": "tokens", "TASKS_AUTH_TOKEN_FILE": str(tmp_path / "tokens")}
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LC_ALL": "C.UTF-8", "TZ": "UTC"}

    def program(name: str, *arguments: str) -> str:
        """Its output."""
        command = [str(programs / name), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, input="y\n" * 3)
        assert done.returncode == 0, done.stdout + done.stderr
        return str(done.stdout)

    with serving(**settings) as service:
        for task in (
            {"title": "Water the plants", "due_on": "2030-12-01"},
            {
                "title": "Pay the rent",
                "due_at": "2030-12-02T09:00:00+01:00",
                "start_at": "2030-12-02T08:00:00+01:00",
                "recurrence": "FREQ=MONTHLY;BYMONTHDAY=2",
                "time_zone": "Europe/Berlin",
            },
        ):
            made_task = httpx2.post(
                f"{service.url}/v1/tasks", json=task, headers={"Authorization": f"Bearer {written}"}
            )
            assert made_task.status_code == 201, made_task.text
        (tmp_path / ".vdirsyncer").mkdir()
        (tmp_path / ".vdirsyncer/config").write_text(
            f"""
            [general]
            status_path = "{tmp_path}/status"
            [pair tasks]
            a = "service"
            b = "folder"
            collections = null
            [storage service]
            type = "http"
            url = "{service.url}/v1/tasks.ics"
            username = "calendar"
            password = "{token}"
            [storage folder]
            type = "filesystem"
            path = "{tmp_path}/calendars/tasks"
            fileext = ".ics"
            """
        )
        program("vdirsyncer", "discover")
        program("vdirsyncer", "sync")
        log = "".join(service.log)
    (tmp_path / ".config/todoman").mkdir(parents=True)
    (tmp_path / ".config/todoman/config.py").write_text(
        f'path = "{tmp_path}/calendars/*"\ncache_path = "{tmp_path}/cache"\n'
    )
    listed = {todo["summary"]: todo["due"] for todo in json.loads(program("todo", "--porcelain", "list"))}
    assert listed == {
        "Water the plants": int(datetime(2030, 12, 1, tzinfo=UTC).timestamp()),
        "Pay the rent": int(datetime(2030, 12, 2, 8, tzinfo=UTC).timestamp()),
    }
    assert token not in log
    assert base64.b64encode(f"calendar:{token}".encode()).decode() not in log
