"""The habits of the house: what editors and hooks are told is what the files are and what `make lint` checks."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml
from documentation import REPOSITORY
from scripts.lint.charts import Charts
from scripts.lint.check import repository_files
from scripts.lint.checks import checks

LINT = {
    check.title: check.run for check in checks([], repository_files(), Charts(Path(), REPOSITORY / "platform/helm"))
}
HOOKS = yaml.safe_load((REPOSITORY / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
BY_TABS = ("Makefile", ".go", "go.mod")
VERBATIM = {"LICENSE"}  # as its authors publish it


def text_files() -> list[str]:
    """Every file with lines, but for pictures."""
    done = subprocess.run(["git", "grep", "-Il", "", "--", ":!*.svg"], cwd=REPOSITORY, capture_output=True, text=True)
    return [file for file in done.stdout.splitlines() if file not in VERBATIM and (REPOSITORY / file).is_file()]


def test_files_are_as_the_editorconfig_says() -> None:
    wrong = []
    for file in text_files():
        text = (REPOSITORY / file).read_bytes()
        if text and not text.endswith(b"\n"):
            wrong.append(f"{file}: the last line has no end")
        wrong += [
            f"{file}:{number}: {what}"
            for number, line in enumerate(text.split(b"\n"), 1)
            for what, is_so in {
                "spaces at the end": line != line.rstrip(),
                "indented by a tab": line.startswith(b"\t") and not file.endswith(BY_TABS),
            }.items()
            if is_so
        ]
    assert wrong == []


@pytest.mark.parametrize("hook", HOOKS, ids=lambda hook: str(hook["id"]))
def test_a_hook_runs_what_lint_runs(hook: dict[str, str]) -> None:
    assert hook["language"] == "system"  # nothing is fetched
    command, checked_by_lint = hook["entry"].removeprefix(".venv/bin/").split(), LINT[hook["name"]]
    assert isinstance(checked_by_lint, tuple)
    assert checked_by_lint[: len(command)] == tuple(command)
