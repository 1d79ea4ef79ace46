"""The findings are of one form, and their page names each; `make findings` says of each whether it still is so."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest
from documentation import REPOSITORY
from repository_copy import copy_repository
from test_makefile import make

FINDINGS = sorted((REPOSITORY / "findings").glob("*.sh"))
HEAD = ["Guess", "What happens", "Packages", "Source", "Date"]


def test_each_finding_says_what_was_guessed_what_happens_with_what_and_when() -> None:
    wrong = {}
    for script in FINDINGS:
        lines = script.read_text().splitlines(keepends=True)
        head = "".join(itertools.takewhile(lambda line: line.startswith("#"), lines))
        said = re.findall(r"^# (\w[\w ]*): \S", head, re.MULTILINE)
        if [each for each in said if each in HEAD] != HEAD or not re.search(
            r"^# Date: 20\d\d-\d\d-\d\d$", head, re.MULTILINE
        ):
            wrong[script.name] = said
    assert FINDINGS
    assert wrong == {}


def test_each_finding_names_the_versions_that_it_installs() -> None:
    unsaid = []
    for script in FINDINGS:
        head, _, body = script.read_text().partition("\nset -euo pipefail\n")
        packages = head[head.index("# Packages:") : head.index("# Source:")]
        installed = re.findall(r"(?<=[a-z0-9\]]==)\d[\w.]*|(?<=[a-z0-9]@)v?\d[\w.-]*", body)
        unsaid += [f"{script.name}: {version}" for version in installed if version.removeprefix("v") not in packages]
    assert unsaid == []


def test_the_page_has_a_row_for_each_finding_and_for_nothing_else() -> None:
    rows = re.findall(r"^\| `([\w-]+)` \|.*\|$", (REPOSITORY / "findings/README.md").read_text(), re.MULTILINE)
    assert sorted(rows) == [script.stem for script in FINDINGS]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository with two findings, of which the second is no longer so."""
    copy_repository(tmp_path)
    for script in (tmp_path / "findings").glob("*.sh"):
        script.unlink()
    for name, code in {"first": 0, "second": 1}.items():
        script = tmp_path / f"findings/{name}.sh"
        script.write_text(f"#!/bin/sh\necho {name} has changed >&2\nexit {code}\n")
        script.chmod(0o755)
    return tmp_path


def test_a_finding_that_changed_fails_with_what_it_said_and_the_next_step(copy: Path) -> None:
    done = make("findings", folder=copy)
    assert done.returncode == 2
    assert [re.sub(r"\s+\d+ s$", "", line) for line in done.stdout.splitlines()] == [
        f"{'first':<45}ok",
        f"{'second':<45}FAILED",
        "  second has changed",
    ]
    assert "Read reports/findings/second.log: " in done.stderr
    assert "make findings NAME=second" in done.stderr
    assert (copy / "reports/findings/second.log").read_text() == "second has changed\n"


def test_those_that_are_named_are_run_alone(copy: Path) -> None:
    done = make("findings", "NAME=first", folder=copy)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)


def test_a_finding_that_there_is_not_is_refused(copy: Path) -> None:
    done = make("findings", "NAME=third", folder=copy)
    assert done.returncode == 2
    assert done.stderr.splitlines()[0] == "There is no findings/third.sh. findings/README.md lists them"
