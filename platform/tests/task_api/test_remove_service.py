"""`make remove-service NAME=task-api` removes all its files, including these tests, and nothing depends on them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from another_service import NAME, left_alone, run, two_services
from scripts.remove_service import NAMING, OF_THE_FIRST
from under_test import PACKAGE, REPOSITORY, SERVICE


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with only the other service. Tests do not change it."""
    return left_alone(two_services(tmp_path_factory.mktemp("two")), tmp_path_factory.mktemp("alone") / "kit")


def test_everything_of_the_first_service_is_removed(alone: Path) -> None:
    gone = (f"services/{SERVICE}", f"platform/helm/{SERVICE}", f"e2e/{PACKAGE}", f"platform/tests/{PACKAGE}")
    for path in (*gone, *OF_THE_FIRST):
        assert path.startswith(".tools/") or (REPOSITORY / path).exists(), f"there is no {path} to remove"
        assert path.startswith(".tools/") or not (alone / path).exists()
    assert run(alone, "scripts/default-service.sh") == f"{NAME}\n"


def test_references_to_one_service_name_the_remaining_one(alone: Path) -> None:
    for path in NAMING:
        assert SERVICE in (REPOSITORY / path).read_text(), f"{path} does not name {SERVICE}: it needs no new name"
    # The Makefile has it as an example.
    found = run(alone, "git", "grep", "--files-with-matches", "-e", SERVICE, "-e", PACKAGE).splitlines()
    prose = re.compile(r"docs/.*|[A-Z]+\.md|findings/.*|packages/.*|platform/helm/service/.*|skeletons/.*")
    examples = re.compile(r"(e2e|platform/tests)/.*|scripts/((new|remove)_\w+\.py)|services/spare-parts/.*")
    assert [path for path in found if not prose.fullmatch(path) and not examples.fullmatch(path)] == [
        "Makefile"
    ]  # files that have it as an example


def test_remaining_tests_need_nothing_that_was_removed(alone: Path) -> None:
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


@pytest.mark.parametrize("check", [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)], ids=" ".join)
def test_remaining_files_pass_lint(alone: Path, check: tuple[str, ...]) -> None:
    run(alone, str(Path(sys.executable).parent / check[0]), *check[1:], *(["."] if check[0] == "ruff" else []))
