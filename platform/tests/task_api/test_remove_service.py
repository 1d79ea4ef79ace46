"""`make remove-service NAME=task-api` removes all its files, including these tests, and nothing depends on them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from another_service import NAME, only_second_service, remove, run, two_services
from scripts.remove_service import NAMING, OF_THE_FIRST
from under_test import PACKAGE, REPOSITORY, SERVICE


@pytest.fixture(scope="module")
def other_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with only the other service. Tests do not change it."""
    return only_second_service(two_services(tmp_path_factory.mktemp("two")), tmp_path_factory.mktemp("alone") / "kit")


def test_everything_of_the_first_service_is_removed(other_service: Path) -> None:
    gone = (f"services/{SERVICE}", f"platform/helm/{SERVICE}", f"e2e/{PACKAGE}", f"platform/tests/{PACKAGE}")
    for path in (*gone, *OF_THE_FIRST):
        assert path.startswith(".tools/") or (REPOSITORY / path).exists(), f"there is no {path} to remove"
        assert path.startswith(".tools/") or not (other_service / path).exists()
    assert run(other_service, "scripts/default-service.sh") == f"{NAME}\n"


def test_tools_are_only_removed_from_the_copy(tmp_path: Path) -> None:
    """The copy's are links."""
    tool = tmp_path / "bench"
    tool.mkdir()
    folder = two_services(tmp_path / "two")
    (folder / ".tools/bench").unlink(missing_ok=True)
    (folder / ".tools/bench").symlink_to(tool)
    assert remove(folder, SERVICE).returncode == 0
    assert tool.is_dir()
    assert not (folder / ".tools/bench").exists()


def test_references_to_one_service_name_the_remaining_one(other_service: Path) -> None:
    for path in NAMING:
        assert SERVICE in (REPOSITORY / path).read_text(), f"{path} does not name {SERVICE}: nothing to replace"
    # The Makefile has it as an example.
    files = run(other_service, "git", "grep", "--files-with-matches", "-e", SERVICE, "-e", PACKAGE).splitlines()
    prose = re.compile(r"docs/.*|[A-Z]+\.md|findings/.*|packages/.*|platform/helm/service/.*|skeletons/.*")
    examples = re.compile(r"(e2e|platform/tests)/.*|scripts/((new|remove)_\w+\.py)|services/spare-parts/.*")
    assert [path for path in files if not prose.fullmatch(path) and not examples.fullmatch(path)] == [
        "Makefile"
    ]  # files that have it as an example


def test_remaining_tests_need_nothing_that_was_removed(other_service: Path) -> None:
    output = run(
        other_service, sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-m", "", "e2e", "platform/tests"
    )
    assert re.search(r"^\d\d\d+ tests collected", output, re.MULTILINE), output[-2000:]
    run(
        other_service,
        sys.executable,
        "-m",
        "pytest",
        "--quiet",
        "platform/tests/test_docs.py",
        "platform/tests/test_makefile.py",
    )


@pytest.mark.parametrize("check", [("ruff", "check"), ("ruff", "format", "--check"), ("mypy",)], ids=" ".join)
def test_remaining_files_pass_lint(other_service: Path, check: tuple[str, ...]) -> None:
    run(other_service, str(Path(sys.executable).parent / check[0]), *check[1:], *(["."] if check[0] == "ruff" else []))
