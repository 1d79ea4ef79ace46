"""The output of `make`, and its error messages."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from manifests import REPOSITORY
from repository_copy import copy_repository
from under_test import PACKAGE, SERVICE


def make(*arguments: str, folder: Path = REPOSITORY, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "IMAGE"))
    } | variables
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_help_line_fits_a_terminal() -> None:
    lines = make().stdout.splitlines()
    assert len(lines) > 40
    assert [line for line in lines if len(line) > 80] == []


def test_every_target_is_in_the_help_once() -> None:
    phony = re.findall(r"^\.PHONY: (.*)$", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert re.findall(r"^  make ([a-z0-9-]+)", make("help").stdout, re.MULTILINE) == phony


def test_unknown_service_is_rejected_with_the_existing_ones() -> None:
    done = make("run", "SERVICE=nope")
    assert done.returncode == 2
    assert re.match(rf"There is no service named nope\. The services are: .*\b{SERVICE}\b", done.stderr)


def test_e2e_full_selects_every_test() -> None:
    """A selection of tests would write its results page under a different name, as a partial run."""
    assert "scripts/e2e.sh" in make("--dry-run", "e2e-full").stdout.splitlines()


def test_single_e2e_test_without_the_tests_packages_is_rejected_with_the_next_step(tmp_path: Path) -> None:
    copy_repository(tmp_path)
    done = subprocess.run([tmp_path / "scripts/e2e.sh", "-k", "certificate"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "The tests' packages are not installed. Install them and run all tests: make e2e\n"


def test_push_without_a_repository_stops_before_the_build() -> None:
    done = make("push")
    assert done.returncode == 2
    assert (
        f"IMAGE_REPOSITORY: is not set: name the target, IMAGE_REPOSITORY=docker.io/you/{SERVICE}"
        in done.stderr.splitlines()[0]
    )
    assert done.stdout == ""


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository with environments that do nothing."""
    copy_repository(tmp_path)
    (tmp_path / "scripts/install.sh").write_text("#!/bin/sh\n")
    lock = tmp_path / f"services/{SERVICE}/requirements-dev.txt"
    if "hypothesis==" not in lock.read_text():  # it has no generated tests yet
        lock.write_text(f"{lock.read_text()}hypothesis==6.0.0\n")
    for project in (*tmp_path.glob("packages/*"), *tmp_path.glob("services/*")):
        (project / ".venv/bin").mkdir(parents=True)
        (project / ".venv/bin/python").write_text("#!/bin/sh\necho half\nexit 1\n")
        (project / ".venv/bin/python").chmod(0o755)
    return tmp_path


def test_failing_service_keeps_its_openapi_document(copy: Path) -> None:
    file = copy / f"services/{SERVICE}/openapi.json"
    before = file.read_text()
    assert make("openapi", folder=copy).returncode == 2
    assert file.read_text() == before
    assert [path.name for path in file.parent.glob("openapi*")] == ["openapi.json"]


@pytest.mark.parametrize(("require_all", "code"), [("", 0), ("1", 1)])
def test_tests_skipped_without_a_tool_are_reported_and_can_be_forbidden(
    copy: Path, require_all: str, code: int
) -> None:
    for project in ("packages/chassis", f"services/{SERVICE}"):
        (copy / project / ".venv/bin/python").write_text('#!/bin/sh\necho "$@"\n')
    tools = copy / "tools"
    tools.mkdir()
    for name in ("bash", "dirname", "env", "grep"):
        (tools / name).symlink_to(str(shutil.which(name)))
    environment = {**os.environ, "PATH": str(tools), "REQUIRE_ALL": require_all}

    def run_tests(*full: str) -> tuple[dict[str, str], list[str], int]:
        """pytest's selections, the reported skips, and the exit code."""
        test = [str(copy / "scripts/test.sh"), *full, SERVICE]
        done = subprocess.run(test, env=environment, capture_output=True, text=True, check=False)
        marks = re.findall(r"^Testing (\S+)\n.* -m (.*?)$", done.stdout, re.MULTILINE)
        skipped = re.findall("^Skipped: tests that need (\\w+)", done.stdout, re.MULTILINE)
        # With an initdb, PostgreSQL tests need no Docker.
        return (
            {name: selected.replace(" and not postgresql", "") for name, selected in marks},
            [name for name in skipped if name != "PostgreSQL"],
            done.returncode,
        )

    # A project whose tests need no Docker does not define the marks, and pytest rejects unknown ones.
    marks, skipped, status = run_tests()
    assert marks["skeletons/plain"] == "not full"
    assert {marks[name] for name in ("chassis", "skeletons/postgresql")} == {"not full and not docker"}
    assert (skipped, status) == (["Docker"], code)

    (tools / "docker").symlink_to("/bin/true")
    marks, skipped, status = run_tests("--full")
    assert marks["skeletons/plain"] == ""
    assert {marks[name] for name in ("chassis", "skeletons/postgresql")} == {"not go and not node and not chromium"}
    assert (skipped, status) == (["Go", "Node", "Chromium"], code)

    for name in ("go", "npm", "google-chrome"):
        (tools / name).symlink_to("/bin/true")
    marks, skipped, status = run_tests("--full")
    assert set(marks.values()) == {""}
    assert (skipped, status) == ([], 0)


def fuzz(copy: Path, python: str, **settings: str) -> tuple[int, list[str], list[str], str]:
    """The exit code of `make fuzz`, pytest's arguments of each call, the step's summary, and the error output."""
    calls, summary = copy / "calls", copy / "summary"
    calls.write_text("")
    summary.write_text("")
    (copy / f"services/{SERVICE}/.venv/bin/python").write_text(f'#!/bin/sh\necho "$@" >> {calls}\n{python}\n')
    for tool in ("docker", "initdb", "go", "npm", "chromium"):
        (copy / "with").mkdir(exist_ok=True)
        (copy / "with" / tool).write_text("#!/bin/sh\n")
        (copy / "with" / tool).chmod(0o755)
    path = f"{copy}/with:{os.environ['PATH']}"
    assignments = [f"{name}={value}" for name, value in settings.items()]
    done = make("fuzz", *assignments, folder=copy, PATH=path, GITHUB_STEP_SUMMARY=str(summary))
    return done.returncode, calls.read_text().splitlines(), summary.read_text().splitlines(), done.stderr


def test_fuzz_runs_once_with_a_given_seed(copy: Path) -> None:
    code, calls, summary, _ = fuzz(copy, "exit 0", SEED="7")
    assert (code, summary) == (0, [])
    (call,) = calls
    assert call.endswith("-m generated --hypothesis-seed 7")


def test_fuzz_uses_a_new_seed_per_round_and_stops_at_the_failing_one(copy: Path) -> None:
    fails_the_third_time = f"test $(wc -l < {copy}/calls) -lt 3"
    code, calls, summary, errors = fuzz(copy, fails_the_third_time, MINUTES="10")
    assert code == 2
    first, second, third = (int(call.rpartition(" ")[2]) for call in calls)
    assert (second, third) == (first + 1, first + 2)
    assert summary == [f"Failed with seed {third}. Reproduce: make fuzz SEED={third}"]
    assert f"-m pytest -k NAME --hypothesis-seed {third}\n" in errors


def test_fuzz_does_nothing_for_a_service_without_generated_tests(copy: Path) -> None:
    assert fuzz(copy, "exit 5", SEED="7")[0] == 0  # pytest's code for it
    lock = copy / f"services/{SERVICE}/requirements-dev.txt"
    lock.write_text(lock.read_text().replace("hypothesis==", "another=="))
    code, calls, *_ = fuzz(copy, "exit 4", SEED="7")  # and for an unknown option
    assert (code, calls) == (0, [])


def test_mutants_rejects_minutes_that_are_not_a_number(copy: Path) -> None:
    done = make("mutants", "MINUTES=1.5", folder=copy)
    assert done.returncode == 2
    assert "MINUTES=1.5 is not an integer. For example: make mutants MINUTES=60" in done.stderr


@pytest.mark.parametrize("variables", [{"SEED": "x"}, {"MINUTES": "1.5"}])
def test_fuzz_rejects_values_that_are_not_numbers(copy: Path, variables: dict[str, str]) -> None:
    assert fuzz(copy, "exit 0", **variables)[:2] == (2, [])


def test_clean_removes_all_ignored_files_except_data_backups_and_cluster(copy: Path) -> None:
    for path in (
        ".hypothesis",
        f"services/{SERVICE}/.schemathesis",
        "e2e/__pycache__",
        ".mypy_cache",
        "reports",
        ".tools",
    ):
        (copy / path).mkdir(parents=True, exist_ok=True)
        (copy / path / "file").touch()
    for path in (".data", ".kube", "backups"):
        (copy / path / "__pycache__").mkdir(parents=True)
        (copy / path / "file").touch()
    assert make("clean", folder=copy).returncode == 0
    ignored = ["git", "ls-files", "--others", "--ignored", "--exclude-standard"]
    remaining = subprocess.run(ignored, cwd=copy, capture_output=True, text=True, check=True).stdout.split()
    assert remaining == [".data/file", ".kube/file", "backups/file"]


@pytest.mark.parametrize("language", ["C", "en_US.UTF-8"])
def test_content_tag_of_an_image_is_independent_of_the_locale(copy: Path, language: str) -> None:
    (copy / f"services/{SERVICE}/src/{PACKAGE}/Zeta.py").touch()
    environment = {**os.environ, "LC_ALL": "", "LANG": language}
    tags = [
        subprocess.run(
            [copy / "scripts/image-tag.sh"], env=environment | {"LC_ALL": locale}, capture_output=True, text=True
        )
        for locale in ("", "C")
    ]
    assert tags[0].stdout == tags[1].stdout != ""
