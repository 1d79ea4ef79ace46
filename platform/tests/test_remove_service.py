"""`make remove-service`: what goes with a service, and that nothing is left that needs it.

All in copies of the repository. What is left runs in a cluster in e2e/test_remove_service.py.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from repository_copy import copy_repository, lend_environments
from scripts.remove_service import NAMING, OF_THE_FIRST
from under_test import PACKAGE, REPOSITORY, SERVICE

NAME = "spare-parts"
"""Of the service that stays. Its package is called otherwise, and its name is not shorter than that of the first."""
GIT = ("git", "-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")


def attempt(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS")) and k != "SERVICE"}
    environment = kept | {"IMAGE": "none", "HTTP_PORT": "1", "HTTPS_PORT": "2"}  # which collecting tests asks for
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def run(folder: Path, *command: str) -> str:
    done = attempt(folder, *command)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def commit(folder: Path) -> None:
    run(folder, "git", "add", "--all")
    run(folder, *GIT, "commit", "--quiet", "--message", "all")


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A commit with a second service. Tests leave it as it is."""
    copy = copy_repository(tmp_path_factory.mktemp("two"))
    lend_environments(copy)
    (copy / ".git/info/exclude").write_text(".venv\n.tools\n")  # .gitignore has them as folders, and these are links
    # What installs packages has nothing to do: they are lent.
    installs = (copy / "scripts/install.sh").read_text()
    (copy / "scripts/install.sh").write_text("#!/bin/sh\n")
    run(copy, "make", "new-service", f"NAME={NAME}")
    (copy / "scripts/install.sh").write_text(installs)
    commit(copy)
    return copy


def clone(two: Path, folder: Path) -> Path:
    run(two, "git", "clone", "--quiet", "--no-hardlinks", str(two), str(folder))
    return folder


def remove(folder: Path, name: str) -> subprocess.CompletedProcess[str]:
    return attempt(folder, sys.executable, "-m", "scripts.remove_service", name)


@pytest.fixture(scope="module")
def alone(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the other service alone is left. Tests leave it as it is."""
    folder = clone(two, tmp_path_factory.mktemp("alone") / "kit")
    for tool in (".venv", ".tools"):
        (folder / tool).symlink_to(REPOSITORY / tool)
    done = remove(folder, SERVICE)
    assert done.returncode == 0, done.stderr
    return folder


# --- what it refuses ------------------------------------------------------------------


def test_a_service_that_there_is_not_is_refused_with_those_there_are(two: Path) -> None:
    done = remove(two, "nope")
    assert (done.returncode, done.stdout) == (1, "")
    assert re.match(r"There is no service named nope\. The services are: .*\bspare-parts\b", done.stderr)


def test_the_only_service_is_refused_with_the_command_that_makes_another(alone: Path) -> None:
    others = [path for path in (alone / "services").iterdir() if path.name != NAME]
    if others:
        pytest.skip(f"the kit has more services: {others}")
    done = remove(alone, NAME)
    assert done.returncode == 1
    assert done.stderr == f"{NAME} is the only service. Make another one first: make new-service NAME=orders\n"


@pytest.mark.parametrize("path", ["services/spare-parts/new.py", "platform/helm/spare-parts/Chart.yaml"])
def test_what_is_in_no_commit_is_not_removed(two: Path, tmp_path: Path, path: str) -> None:
    copy = clone(two, tmp_path / "kit")
    (copy / path).write_text("changed\n")
    done = remove(copy, NAME)
    assert done.returncode == 1
    assert f" {path}\nCommit it first" in done.stderr
    assert (copy / path).read_text() == "changed\n"
    assert (copy / "services/spare-parts/pyproject.toml").exists()


def test_without_a_name_it_says_how_it_is_called() -> None:
    done = attempt(REPOSITORY, "make", "remove-service")
    assert done.returncode == 2
    assert "say which, make remove-service NAME=" in done.stderr


# --- what it removes ------------------------------------------------------------------


def test_another_than_the_first_leaves_the_kit_as_it_was_before_it_was_made(two: Path, tmp_path: Path) -> None:
    copy = clone(two, tmp_path / "kit")
    assert remove(copy, NAME).returncode == 0
    commit(copy)
    changed = run(copy, "git", "show", "--name-status", "--format=", "HEAD").splitlines()
    assert {line.split("\t")[0] for line in changed} == {"D"}
    assert {"/".join(line.split("\t")[1].split("/")[:-1])[:30] for line in changed} >= {"services/spare-parts"}
    assert all("spare-parts/" in line for line in changed)


FIRST = pytest.mark.skipif(SERVICE != "task-api", reason="the first service was removed already")


@FIRST
def test_with_the_first_goes_all_that_is_its_own(alone: Path) -> None:
    gone = (f"services/{SERVICE}", f"platform/helm/{SERVICE}", f"e2e/{PACKAGE}", f"platform/tests/{PACKAGE}")
    for path in (*gone, *OF_THE_FIRST):
        assert path.startswith(".tools/") or (REPOSITORY / path).exists(), f"there is no {path} to remove"
        assert path.startswith(".tools/") or not (alone / path).exists()
    assert run(alone, "scripts/default-service.sh") == f"{NAME}\n"


@FIRST
def test_each_place_that_names_one_service_names_another(alone: Path) -> None:
    for path in NAMING:
        assert SERVICE in (REPOSITORY / path).read_text(), f"{path} does not name {SERVICE}: it needs no new name"
    found = run(alone, "git", "grep", "--files-with-matches", "-e", SERVICE, "-e", PACKAGE).splitlines()
    prose = re.compile(r"docs/.*|[A-Z]+\.md|findings/.*|packages/.*|platform/helm/service/.*|skeletons/.*")
    examples = re.compile(r"(e2e|platform/tests)/.*|scripts/((new|remove|hello)_\w+\.py)|services/spare-parts/.*")
    assert [path for path in found if not prose.fullmatch(path) and not examples.fullmatch(path)] in ([], ["Makefile"])


@FIRST
def test_the_tests_that_stay_need_nothing_that_went(alone: Path) -> None:
    said = run(alone, sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-m", "", "e2e", "platform/tests")
    assert re.search(r"^\d\d\d+ tests collected", said, re.MULTILINE), said[-2000:]
    run(
        alone,
        sys.executable,
        "-m",
        "pytest",
        "--quiet",
        "platform/tests/test_docs.py",
        "platform/tests/test_makefile.py",
    )


@FIRST
@pytest.mark.parametrize("check", [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)], ids=" ".join)
def test_what_stays_is_as_lint_wants_it(alone: Path, check: tuple[str, ...]) -> None:
    run(alone, str(Path(sys.executable).parent / check[0]), *check[1:], *(["."] if check[0] == "ruff" else []))
