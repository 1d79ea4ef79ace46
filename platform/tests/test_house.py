"""Editor and hook settings match the files and the checks of `make lint`."""

from __future__ import annotations

import re
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
VERBATIM = {"LICENSE"}  # as published by its authors


def text_files() -> list[str]:
    """Every text file, excluding pictures."""
    done = subprocess.run(["git", "grep", "-Il", "", "--", ":!*.svg"], cwd=REPOSITORY, capture_output=True, text=True)
    return [file for file in done.stdout.splitlines() if file not in VERBATIM and (REPOSITORY / file).is_file()]


def test_files_comply_with_the_editorconfig() -> None:
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
def test_every_hook_runs_what_lint_runs(hook: dict[str, str]) -> None:
    assert hook["language"] == "system"  # nothing is downloaded
    command, checked_by_lint = hook["entry"].removeprefix(".venv/bin/").split(), LINT[hook["name"]]
    assert isinstance(checked_by_lint, tuple)
    assert checked_by_lint[: len(command)] == tuple(command)


PARAPHRASES = {
    "anew": "again",
    "by itself": "automatically, or on its own",
    "for want of": "without",
    "goes back": "rolls back",
    "hurry": "stop immediately",
    "in the place of": "instead of",
    "mend": "fix",
    "the road": "the pipeline",
    "turned away": "rejected",
    "way back": "rollback",
    "whoever": "the caller",
}
APPLIED = re.compile(r"(services|skeletons)/.*/migrations/.*\.sql")
"""Never changed: the checksum of an applied migration is stored."""


@pytest.mark.parametrize("paraphrase", PARAPHRASES)
def test_texts_use_standard_terms(paraphrase: str) -> None:
    wording = re.compile(rf"\b{paraphrase}\b", re.IGNORECASE)
    found = [
        f"{file}:{number}: write {PARAPHRASES[paraphrase]!r}: {line.strip()}"
        for file in text_files()
        if not APPLIED.fullmatch(file) and file != Path(__file__).relative_to(REPOSITORY).as_posix()
        for number, line in enumerate((REPOSITORY / file).read_text().splitlines(), 1)
        if wording.search(line)
    ]
    assert found == []
