"""scripts/mutants/ on a small module, and the lists of accepted survivors."""

from __future__ import annotations

import os
import subprocess
import tomllib
from pathlib import Path

import pytest
from repository_copy import copy_repository, lend_environments
from under_test import REPOSITORY

MODULE = """\
def is_adult(age: int) -> bool:
    return age >= 18
"""
TESTS = """\
from adults import is_adult

def test_children_are_no_adults():
    assert is_adult(40) and not is_adult(17)
"""
BOUNDARY = "-    return age >= 18\n+    return age > 18\n"
PROJECT = "needs_postgresql = false\n\n[modules]\n'adults.py' = 'test_adults.py --strict-config'\n"


def accepting(*diffs: str) -> str:
    """An entry of mutants.toml for each diff."""
    return "".join(f'\n[[accepted]]\nmodule = "adults.py"\ndiff = """\n{diff}"""\nreason = "R"\n' for diff in diffs)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with one project, which has one module."""
    folder = copy_repository(tmp_path_factory.mktemp("repository"))
    for file in (folder / "mutants.toml", *folder.glob("*/*/mutants.toml")):
        file.unlink()
    lend_environments(folder)
    project = folder / "packages/adults"
    project.mkdir()
    (project / ".venv").symlink_to(REPOSITORY / ".venv")
    (project / "adults.py").write_text(MODULE)
    (project / "test_adults.py").write_text(TESTS)
    (project / "pyproject.toml").write_text("[tool.pytest]\npythonpath = ['.']\n")
    return folder


def run_mutants(copy: Path, toml: str, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    (copy / "packages/adults/mutants.toml").write_text(toml)
    return subprocess.run(
        [copy / "scripts/mutants.sh", *words],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def figures(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Of the module: mutants, killed, timed out, accepted, survived, not run."""
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("packages/adults/adults.py "))
    return line.split()[1:7]


def test_survivor_fails_the_run_until_it_is_accepted_and_the_working_tree_never_has_a_mutant(
    copy: Path, tmp_path: Path
) -> None:
    summary = tmp_path / "summary"
    done = run_mutants(copy, PROJECT, GITHUB_STEP_SUMMARY=str(summary))
    assert done.returncode == 1, done.stderr
    mutants, killed, timed_out, accepted, survived, not_run = figures(done)
    assert (timed_out, accepted, not_run) == ("0", "0", "0")
    assert int(mutants) == int(killed) + int(survived)
    assert f"Survives: packages/adults/adults.py, line 2\n{BOUNDARY}" in done.stdout
    last = done.stdout.splitlines()[-1]
    assert last.startswith("Next: for each survivor above write the test that fails with it")
    assert last.endswith('make mutants MODULES="packages/adults/adults.py"')
    assert last in summary.read_text()
    assert (copy / "packages/adults/adults.py").read_text() == MODULE

    survivors = done.stdout.split("\nSurvives: ")[1:]
    diffs = ["".join(f"{line}\n" for line in text.splitlines()[1:] if line[:1] in ("-", "+")) for text in survivors]
    assert len(diffs) == int(survived)
    done = run_mutants(copy, PROJECT + accepting(*diffs), "adults.py")
    assert (done.returncode, figures(done)[3:5]) == (0, [survived, "0"])
    assert done.stdout.splitlines()[-1] == "Next: nothing; all survivors are accepted in mutants.toml"


def test_accepted_survivor_that_does_not_exist_fails_the_run(copy: Path) -> None:
    done = run_mutants(copy, PROJECT + accepting(BOUNDARY.replace("18", "21")), MINUTES="0")
    assert done.returncode == 1
    assert "Accepted, but there is no such mutant: packages/adults/adults.py\n-    return age >= 21" in done.stdout
    assert done.stdout.splitlines()[-1] == "Next: remove the entries above from mutants.toml"


def test_no_mutant_is_tested_after_the_time(copy: Path) -> None:
    done = run_mutants(copy, PROJECT, MINUTES="0")
    assert done.returncode == 0
    mutants, *others, not_run = figures(done)
    assert others == ["0"] * 4
    assert mutants == not_run
    assert 'Next: make mutants MODULES="packages/adults/adults.py" runs what is left' in done.stdout


def test_failing_tests_kill_no_mutants(copy: Path) -> None:
    done = run_mutants(copy, PROJECT.replace("strict-config", "nonsense"))
    assert done.returncode == 1
    assert "unrecognized arguments: --nonsense" in done.stderr
    assert figures(done)[1:3] == ["0", "0"]
    assert "Next: make the unchanged tests pass" in done.stdout.splitlines()[-1]


def test_unknown_module_is_rejected_with_the_existing_ones(copy: Path) -> None:
    done = run_mutants(copy, PROJECT, "nope")
    assert done.returncode == 2
    assert done.stderr == ("MODULES=nope is in no path of a module. Choose from:\npackages/adults/adults.py\n")


LISTS = sorted([REPOSITORY / "mutants.toml", *REPOSITORY.glob("*/*/mutants.toml")])


@pytest.mark.parametrize("file", LISTS, ids=lambda file: str(file.parent.relative_to(REPOSITORY)))
def test_lists_name_existing_modules_tests_and_lines_with_a_reason(file: Path) -> None:
    content = tomllib.loads(file.read_text())
    for module, tests in content["modules"].items():
        assert (file.parent / module).is_file()
        assert [word for word in tests.split() if word.endswith(".py") and not (file.parent / word).is_file()] == []
    for entry in content.get("accepted", []):
        assert entry.keys() == {"module", "diff", "reason"}
        assert entry["module"] in content["modules"]
        assert len(entry["reason"].split()) >= 3
        source = (file.parent / entry["module"]).read_text().splitlines()
        assert [line for line in entry["diff"].splitlines() if line[0] == "-" and line[1:] not in source] == []
