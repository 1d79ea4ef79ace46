"""`make remove-service`: what is removed with a service, and that nothing else needs it.

All in copies of the repository. e2e/test_remove_service.py runs the result in a cluster.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from another_service import NAME, attempt, clone, commit, only_second_service, remove, run, two_services
from under_test import REPOSITORY


@pytest.fixture(scope="module")
def two_services_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a second service. Tests do not change it."""
    return two_services(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def single_service(two_services_copy: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with only the other service. Tests do not change it."""
    return only_second_service(two_services_copy, tmp_path_factory.mktemp("alone") / "kit")


# --- rejections -----------------------------------------------------------------------


def test_unknown_service_is_rejected_with_the_existing_ones(two_services_copy: Path) -> None:
    done = remove(two_services_copy, "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(r"There is no service nope\. Choose from: .*\bspare-parts\b", done.stderr)


def test_only_service_is_rejected_with_the_command_that_creates_another(single_service: Path) -> None:
    done = remove(single_service, NAME)
    assert done.returncode == 1
    assert done.stderr == f"{NAME} is the only service. Create another one first: make new-service NAME=orders\n"


@pytest.mark.parametrize("path", ["services/spare-parts/new.py", "platform/helm/spare-parts/Chart.yaml"])
def test_uncommitted_files_are_not_removed(two_services_copy: Path, tmp_path: Path, path: str) -> None:
    copy = clone(two_services_copy, tmp_path / "kit")
    (copy / path).write_text("changed\n")
    done = remove(copy, NAME)
    assert done.returncode == 1
    assert f" {path}\nCommit them first" in done.stderr
    assert (copy / path).read_text() == "changed\n"
    assert (copy / "services/spare-parts/pyproject.toml").exists()


def test_without_a_name_it_prints_usage() -> None:
    done = attempt(REPOSITORY, "make", "remove-service")
    assert done.returncode == 2
    assert "name the service, make remove-service NAME=" in done.stderr


# --- removal --------------------------------------------------------------------------


def test_removing_a_new_service_restores_the_previous_state(two_services_copy: Path, tmp_path: Path) -> None:
    copy = clone(two_services_copy, tmp_path / "kit")
    assert remove(copy, NAME).returncode == 0
    commit(copy)
    changed = run(copy, "git", "show", "--name-status", "--format=", "HEAD").splitlines()
    assert {line.split("\t")[0] for line in changed} == {"D"}
    assert {"/".join(line.split("\t")[1].split("/")[:-1])[:30] for line in changed} >= {"services/spare-parts"}
    assert all("spare-parts/" in line for line in changed)
