"""`make remove-service`: what goes with a service, and that nothing is left that needs it.

All in copies of the repository. What is left runs in a cluster in e2e/test_remove_service.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from another_service import NAME, attempt, clone, commit, left_alone, remove, run, two_services
from under_test import REPOSITORY


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a second service. Tests leave it as it is."""
    return two_services(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def alone(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the other service alone is left. Tests leave it as it is."""
    return left_alone(two, tmp_path_factory.mktemp("alone") / "kit")


# --- what it refuses ------------------------------------------------------------------


def test_a_service_that_there_is_not_is_refused_with_those_there_are(two: Path) -> None:
    done = remove(two, "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(r"There is no service nope\. Choose from: .*\bspare-parts\b", done.stderr)


def test_the_only_service_is_refused_with_the_command_that_makes_another(alone: Path) -> None:
    done = remove(alone, NAME)
    assert done.returncode == 1
    assert done.stderr == f"{NAME} is the only service. Create another one first: make new-service NAME=orders\n"


@pytest.mark.parametrize("path", ["services/spare-parts/new.py", "platform/helm/spare-parts/Chart.yaml"])
def test_what_is_in_no_commit_is_not_removed(two: Path, tmp_path: Path, path: str) -> None:
    copy = clone(two, tmp_path / "kit")
    (copy / path).write_text("changed\n")
    done = remove(copy, NAME)
    assert done.returncode == 1
    assert f" {path}\nCommit them first" in done.stderr
    assert (copy / path).read_text() == "changed\n"
    assert (copy / "services/spare-parts/pyproject.toml").exists()


def test_without_a_name_it_says_how_it_is_called() -> None:
    done = attempt(REPOSITORY, "make", "remove-service")
    assert done.returncode == 2
    assert "name the service, make remove-service NAME=" in done.stderr


# --- what it removes ------------------------------------------------------------------


def test_another_than_the_first_leaves_the_kit_as_it_was_before_it_was_made(two: Path, tmp_path: Path) -> None:
    copy = clone(two, tmp_path / "kit")
    assert remove(copy, NAME).returncode == 0
    commit(copy)
    changed = run(copy, "git", "show", "--name-status", "--format=", "HEAD").splitlines()
    assert {line.split("\t")[0] for line in changed} == {"D"}
    assert {"/".join(line.split("\t")[1].split("/")[:-1])[:30] for line in changed} >= {"services/spare-parts"}
    assert all("spare-parts/" in line for line in changed)
