"""`make lint` reruns a check exactly when one of its inputs changes."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from manifests import REPOSITORY
from scripts.lint.charts import Charts
from scripts.lint.check import READ_BY_ALL, Check, Failed, repository_files
from scripts.lint.checks import checks

FILES = repository_files()
SERVICES = [path.name for path in (REPOSITORY / "services").iterdir()]
CHECKS = list(checks(SERVICES, FILES, Charts(Path(), REPOSITORY / "platform/helm")))


class Linted:
    """A repository with one check, which passes if `file` contains good."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        package = folder / "scripts/lint"
        package.mkdir(parents=True)
        for module in ("__init__", "__main__", "check", "charts"):
            (package / f"{module}.py").write_text((REPOSITORY / f"scripts/lint/{module}.py").read_text())
        (package / "checks.py").write_text(
            "from scripts.lint.check import Check\n"
            "def checks(*_):\n"
            "    run = ('sh', '-c', 'echo run >> .git/runs; cat file; grep -q good file')\n"
            "    yield Check('One', r'file|more/.*', run)\n"
        )
        (folder / "versions.env").write_text("TOOL_VERSION=1\n")
        for name in (".tools", "platform/helm", "more"):
            (folder / name).mkdir(parents=True)
        subprocess.run(["git", "init", "--quiet"], cwd=folder, check=True)
        (folder / ".gitignore").write_text(".tools\n__pycache__\n")
        self.write("file", "good")

    def write(self, path: str, text: str) -> None:
        (self.folder / path).write_text(text)

    def lint(self, **environment: str) -> subprocess.CompletedProcess[str]:
        # Without Go or Helm: neither is needed here.
        environment = {"PATH": "/usr/bin:/bin", "TOOL_VERSION": "1"} | environment
        command = [sys.executable, "-m", "scripts.lint"]
        return subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    @property
    def runs(self) -> int:
        return len((self.folder / ".git/runs").read_text().splitlines())


@pytest.fixture
def linted(tmp_path: Path) -> Linted:
    return Linted(tmp_path)


def test_passed_check_is_not_rerun(linted: Linted) -> None:
    assert re.search(r"^One +ok +0 s$", linted.lint().stdout, re.MULTILINE)
    second_run = linted.lint()
    assert second_run.returncode == 0
    assert re.search(r"^One +ok, unchanged$", second_run.stdout, re.MULTILINE)
    assert "1 checks passed, 0 failed" in second_run.stdout
    assert linted.runs == 1


@pytest.mark.parametrize(
    "path", ["file", "more/new", "versions.env", "pyproject.toml", ".a-tools-settings.yaml", "scripts/lint/charts.py"]
)
def test_change_of_an_input_reruns_it(linted: Linted, path: str) -> None:
    linted.lint()
    linted.write(path, "# good\n" + ((linted.folder / path).read_text() if "/" in path and path != "more/new" else ""))
    linted.lint()
    assert linted.runs == 2


def test_removed_file_and_another_tool_version_rerun_it(linted: Linted) -> None:
    linted.write("more/old", "")
    linted.lint()
    (linted.folder / "more/old").unlink()
    linted.lint()
    assert linted.runs == 2
    linted.lint(TOOL_VERSION="2")
    assert linted.runs == 3


def test_change_of_anything_else_does_not_rerun_it(linted: Linted) -> None:
    linted.lint()
    linted.write("other", "changed")
    (linted.folder / "file").touch()  # only its mtime
    linted.lint()
    assert linted.runs == 1


def test_failed_check_is_shown_and_rerun_until_it_passes(linted: Linted) -> None:
    linted.lint()
    linted.write("file", "bad")
    for runs in (2, 3):
        done = linted.lint()
        assert done.returncode == 1
        assert re.search(r"^One +FAILED\n    bad$", done.stdout, re.MULTILINE)
        assert "0 checks passed, 1 failed" in done.stdout
        assert done.stderr.startswith("Failed: One\nFix the errors above")
        assert linted.runs == runs
    linted.write("file", "good")
    assert linted.lint().returncode == 0


def test_truncated_record_of_the_last_run_is_ignored(linted: Linted) -> None:
    linted.lint()
    linted.write(".tools/lint.json", '{"One": "')
    assert linted.lint().returncode == 0
    assert linted.runs == 2


@pytest.mark.parametrize(("require_all", "code"), [("", 0), ("1", 1)])
def test_checks_skipped_without_a_tool_are_reported_and_can_be_forbidden(
    linted: Linted, require_all: str, code: int
) -> None:
    done = linted.lint(REQUIRE_ALL=require_all)
    assert "Skipped: Rendered charts in the manifest checks: needs Go or Helm, https://" in done.stdout
    assert done.returncode == code


# --- the real checks ------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.title)
def test_every_check_reads_existing_files(check: Check) -> None:
    assert [path for path in FILES if re.fullmatch(check.reads, path)]
    assert check.fingerprint(FILES) == replace(check).fingerprint(FILES)


@pytest.mark.parametrize("check", [check for check in CHECKS if isinstance(check.run, tuple)], ids=lambda c: c.title)
def test_every_file_argument_of_a_command_is_an_input(check: Check) -> None:
    arguments = [word for word in check.run if word in FILES] if isinstance(check.run, tuple) else []
    assert [path for path in arguments if not re.fullmatch(f"{READ_BY_ALL}|{check.reads}", path)] == []


def test_every_file_of_a_kind_is_read_by_its_check() -> None:
    reads = {check.title: check.reads for check in CHECKS}
    for title, pattern in {
        "Python code (ruff)": r".*\.py",
        "Shell (shellcheck)": r".*\.sh|\.ci/run",
        "YAML (yamllint)": r"(?!(platform/helm|skeletons)/.*/templates/).*\.ya?ml",
        "Markdown (pymarkdown)": r"(?!bench/findings).*\.md",
        "Workflows (actionlint)": r"\.github/workflows/.*",
        "Manifests, Kubernetes 1.37 (kubeconform)": r"(platform/helm|skeletons/[^/]*/chart)/.*",
    }.items():
        files = [path for path in FILES if re.fullmatch(pattern, path)]
        assert files
        assert [path for path in files if not re.fullmatch(f"{READ_BY_ALL}|{reads[title]}", path)] == []


def test_charts_without_tests_fail(tmp_path: Path) -> None:
    with pytest.raises(Failed, match=r"service/tests contains no \*_test\.yaml\."):
        Charts(tmp_path, tmp_path).tests(tmp_path / "orders")
