"""What the pages say of this kit with its first service: paths, and commands, each of which a test runs or a page says
why none does."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest
from documentation import COMMANDS, REPOSITORY, Block, blocks, commands_run_by, pages, prose

TYPED = [block for page in pages() for block in blocks(page) if block.language in COMMANDS]
SERVICE_TESTS = REPOSITORY / "services/task-api/tests"
FOLDERS = {entry.name for entry in REPOSITORY.iterdir() if entry.is_dir()}


@pytest.mark.parametrize("page", pages())
def test_every_path_in_the_text_is_in_the_repository(page: str) -> None:
    """`scripts/up.sh` in a sentence is a file; what a command makes has a folder that is in no commit. NAME and PACKAGE
    are those of any service."""
    paths = {
        path
        for path in re.findall(r"`([\w.-]+/[\w./-]*)`", prose(page))
        if PurePosixPath(path).parts[0] in FOLDERS - {".kube", ".image", ".tools", ".data", "backups", "reports"}
    }
    patterns = {path: re.sub(r"\b(NAME|PACKAGE)\b", "*", path) for path in sorted(paths)}
    assert [path for path, pattern in patterns.items() if not any(REPOSITORY.glob(pattern))] == []


# --- commands -------------------------------------------------------------------------

THIS = "platform/tests/task_api/test_docs.py"
MANIFESTS = "e2e/task_api/test_raw_manifests.py"


def serve(block: Block, folder: Path, **settings: str) -> list[str]:
    """What the block prints on a terminal until the API listens; it is then ended as by Ctrl-C."""
    environment = {**os.environ, "TASKS_DATABASE_URL": f"sqlite:///{folder}/tasks.db", **settings}
    ours, terminal = pty.openpty()
    command = ["bash", "-euc", block.commands]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    watch = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
    watch.start()
    printed: list[str] = []
    try:
        with os.fdopen(ours, errors="replace") as output:
            while "Listening on" not in "".join(printed[-1:]) and (line := output.readline()):
                printed.append(line.rstrip())
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        watch.cancel()
    return printed


def shape(line: str) -> str:
    """A line of a log without its colours, and without what is another one each time."""
    line = re.sub(r"\x1b\[\d*m", "", line)
    return re.sub(r":\d{4,5}\b", ":PORT", re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", line))


def test_make_run_prints_what_stands_in_the_readme(tmp_path: Path) -> None:
    """README.md: the last line, once the packages are there."""
    (block,) = commands_run_by(THIS, "README.md")
    assert shape(serve(block, tmp_path, TASKS_PORT="0")[-1]) == shape(block.text.splitlines()[-1])


def test_settings_stand_in_front_of_make_run(tmp_path: Path) -> None:
    """docs/develop.md"""
    block = commands_run_by(THIS, "docs/develop.md", "Live reload")[0]
    moved = replace(block, text=block.text.replace("TASKS_PORT=8001", "TASKS_PORT=0"))
    assert moved.text != block.text
    assert "Tasks are stored in memory" in "\n".join(serve(moved, tmp_path))


def test_one_test_is_run_alone() -> None:
    (block,) = commands_run_by(THIS, "docs/develop.md", "Tests")
    done = subprocess.run(["bash", "-euc", block.commands], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert re.search(r"^=+ \d+ passed.* deselected", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_a_failure_of_the_platforms_tests_ends_with_a_command_that_runs_one() -> None:
    (hint,) = re.findall(r"Run a single test: (.+)'", (REPOSITORY / "scripts/test-platform.sh").read_text())
    command = hint.replace("NAME", "test_one_test_is_run_alone") + " --collect-only"
    done = subprocess.run(["bash", "-euc", command], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert "test_docs.py::test_one_test_is_run_alone" in done.stdout, done.stdout + done.stderr


def outputs(section: str) -> dict[str, list[str]]:
    """What the README shows that a command prints, by the command."""
    shown = [block.text.splitlines() for block in blocks("README.md") if block.section == section]
    return {lines[0].removeprefix("$ "): lines[1:] for lines in shown if lines[0].startswith("$ ")}


def test_the_readme_shows_what_make_test_prints() -> None:
    *of_all, generated, _, last = outputs("Tests")["make test"]
    tested = [line.removeprefix("Testing ") for line in of_all if line.startswith("Testing ")]
    assert tested == ["chassis", "skeletons/plain", "skeletons/postgresql", "task-api"]
    assert 'echo "Testing $name"' in (REPOSITORY / "scripts/test.sh").read_text()
    count, _, what = generated.partition(" ")
    assert count.isdigit()
    assert what.replace("on sqlite", "on {kind}") in (SERVICE_TESTS / "test_generated_requests.py").read_text()
    passed = [line for line in of_all if re.fullmatch(r"\d+ passed in \d+\.\d\ds( \(\d:\d\d:\d\d\))?", line)]
    assert len(passed) == len(tested) - 1
    assert re.fullmatch(r"\d+ passed in \d+\.\d\ds \(\d:\d\d:\d\d\)", last)


def unfounded(block: Block) -> str:
    """Why nobody can be sure that the block works; empty where it is run, or says why it is not."""
    if block.reason:
        return ""
    if not block.run_by:
        return "no `<!-- run by FILE -->` above it, and no `<!-- not run: REASON -->`"
    file = REPOSITORY / block.run_by
    if not file.is_file():
        return f"{block.run_by} does not exist"
    runner = file.read_text()
    if block.run_by == ".ci/run":
        missing = [line for line in block.commands.splitlines() if line not in runner]
        return f"{block.run_by} does not call {missing}" if missing else ""
    # It reads the page's blocks through this module's reader, or by itself.
    if f'"{block.page}"' in runner:
        return ""
    return f"{block.run_by} does not read {block.page}"


@pytest.mark.parametrize("block", TYPED, ids=str)
def test_a_block_of_commands_is_run_or_says_why_not(block: Block) -> None:
    assert unfounded(block) == ""


def test_no_block_hides_behind_one_that_is_run() -> None:
    """How many blocks each file runs, section by section: one more here is one more call there. Of the two guides every
    block is run, whatever their number."""
    guides = ("docs/deploy.md", "docs/operate.md")
    found = Counter(
        (block.run_by, block.page, block.section)
        for block in TYPED
        if block.run_by
        and not block.reason
        and block.run_by != ".ci/run"
        and block.page not in guides
        # The README of a second service's chart is a copy of the first one's.
        and (not block.page.startswith("platform/helm/") or "/task-api/" in block.page)
    )
    assert found == {
        ("e2e/task_api/test_docs.py", "README.md", "Deploy"): 1,
        ("e2e/task_api/test_docs.py", "README.md", "Local cluster"): 1,
        ("e2e/task_api/test_docs.py", "docs/delivery.md", "Set up a repository"): 2,
        ("e2e/task_api/test_docs.py", "docs/delivery.md", "Run without GitHub"): 2,
        ("e2e/task_api/test_docs.py", "docs/develop.md", "Tests"): 1,
        ("e2e/task_api/test_docs.py", "docs/extend.md", "Custom autoscaler"): 1,
        ("e2e/task_api/test_docs.py", "docs/extend.md", "Cloud providers"): 1,
        ("e2e/task_api/test_docs.py", "docs/extend.md", "External database"): 2,
        ("e2e/task_api/test_docs.py", "docs/extend.md", "Ingress and Gateway API"): 2,
        ("e2e/task_api/test_docs.py", "docs/extend.md", "Container registry"): 1,
        ("e2e/task_api/test_docs.py", "platform/helm/task-api/README.md", "Database options"): 1,
        (
            "e2e/task_api/test_raw_manifests.py",
            "platform/helm/task-api/README.md",
            "Helm 3, Helm 4 and manual changes",
        ): 1,
        ("e2e/task_api/test_docs.py", "platform/helm/task-api/README.md", "task-api"): 1,
        ("e2e/task_api/test_tls.py", "docs/security.md", "Verify the database server"): 1,
        ("e2e/task_api/test_umbrella.py", "docs/extend.md", "Use as a subchart"): 1,
        ("e2e/test_new_service.py", "docs/extend.md", "Add a service"): 1,
        ("platform/tests/test_new_service.py", "docs/extend.md", "Bring your own FastAPI app"): 1,
        ("e2e/test_remove_service.py", "docs/develop.md", "Remove the first service"): 1,
        (
            "e2e/task_api/test_raw_manifests.py",
            "platform/helm/task-api/README.md",
            "Migrate from the manifests to the chart",
        ): 1,
        (THIS, "README.md", "Quick start"): 1,
        (THIS, "docs/develop.md", "Live reload"): 1,
        (THIS, "docs/develop.md", "Tests"): 1,
        ("services/task-api/tests/test_readme.py", "docs/auth.md", "tokens"): 1,
        # This one runs every block in `console` of the page.
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Create"): 1,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Find"): 3,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Change"): 2,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Retry safely"): 1,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Follow"): 1,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Recurring tasks"): 4,
    }
