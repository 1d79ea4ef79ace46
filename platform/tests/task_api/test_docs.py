"""The documentation of this kit with its first service: paths exist, and each command block is run by a test or has a
reason why not."""

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
import yaml
from documentation import COMMANDS, REPOSITORY, Block, blocks, commands_run_by, pages, prose
from manifests import api_container, environment, one, render

TYPED = [block for page in pages() for block in blocks(page) if block.language in COMMANDS]
SERVICE_TESTS = REPOSITORY / "services/task-api/tests"
FOLDERS = {entry.name for entry in REPOSITORY.iterdir() if entry.is_dir()}


@pytest.mark.parametrize("page", pages())
def test_every_path_in_the_text_exists(page: str) -> None:
    """`scripts/up.sh` in a sentence is a file; generated files are in folders that are never committed. NAME and
    PACKAGE are placeholders for any service."""
    paths = {
        path
        for path in re.findall(r"`([\w.-]+/[\w./-]*)`", prose(page))
        if PurePosixPath(path).parts[0] in FOLDERS - {".kube", ".image", ".tools", ".data", "backups", "reports"}
    }
    patterns = {path: re.sub(r"\b(NAME|PACKAGE)\b", "*", path) for path in sorted(paths)}
    assert [path for path, pattern in patterns.items() if not any(REPOSITORY.glob(pattern))] == []


# --- commands -------------------------------------------------------------------------

THIS = "platform/tests/task_api/test_docs.py"
DEPLOY, OPERATE = "docs/deploy.md", "docs/operate.md"
MANIFESTS = "e2e/task_api/test_raw_manifests.py"


def serve(block: Block, folder: Path, **settings: str) -> list[str]:
    """The block's output on a terminal until the API listens; then it is stopped like with Ctrl-C."""
    environment = {**os.environ, "TASKS_DATABASE_URL": f"sqlite:///{folder}/tasks.db", **settings}
    controller, terminal = pty.openpty()
    command = ["bash", "-euc", block.commands]
    process = subprocess.Popen(
        command, cwd=REPOSITORY, env=environment, stdout=terminal, stderr=terminal, start_new_session=True
    )
    os.close(terminal)
    killer = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
    killer.start()
    printed: list[str] = []
    try:
        with os.fdopen(controller, errors="replace") as output:
            while "Listening on" not in "".join(printed[-1:]) and (line := output.readline()):
                printed.append(line.rstrip())
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.wait()
        killer.cancel()
    return printed


def shape(line: str) -> str:
    """A log line without colours and without variable parts."""
    line = re.sub(r"\x1b\[\d*m", "", line)
    return re.sub(r":\d{4,5}\b", ":PORT", re.sub(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", "TIME", line))


def test_make_run_prints_the_output_in_the_readme(tmp_path: Path) -> None:
    """README.md: the last line, once packages are installed."""
    (block,) = commands_run_by(THIS, "README.md")
    assert shape(serve(block, tmp_path, TASKS_PORT="0")[-1]) == shape(block.text.splitlines()[-1])


def test_settings_can_be_passed_to_make_run(tmp_path: Path) -> None:
    """docs/develop.md"""
    block = commands_run_by(THIS, "docs/develop.md", "Live reload")[0]
    block_with_free_port = replace(block, text=block.text.replace("TASKS_PORT=8001", "TASKS_PORT=0"))
    assert block_with_free_port.text != block.text
    assert "Tasks are stored in memory" in "\n".join(serve(block_with_free_port, tmp_path))


def test_one_test_is_run_alone() -> None:
    (block,) = commands_run_by(THIS, "docs/develop.md", "Tests")
    done = subprocess.run(["bash", "-euc", block.commands], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert re.search(r"^=+ \d+ passed.* deselected", done.stdout, re.MULTILINE), done.stdout + done.stderr


def test_failure_of_a_platform_test_ends_with_a_command_that_reruns_it() -> None:
    (hint,) = re.findall(r"Run a single test: (.+)'", (REPOSITORY / "scripts/test-platform.sh").read_text())
    command = hint.replace("NAME", "test_one_test_is_run_alone") + " --collect-only"
    done = subprocess.run(["bash", "-euc", command], cwd=REPOSITORY, capture_output=True, text=True, timeout=300)
    assert "test_docs.py::test_one_test_is_run_alone" in done.stdout, done.stdout + done.stderr


def test_documented_values_for_production_require_tokens_and_the_users_own_database(tmp_path: Path) -> None:
    """docs/deploy.md: rendered with the values file that the page creates."""
    (deploy,) = commands_run_by(THIS, DEPLOY, "Production")
    (create,) = (block.commands for block in blocks(DEPLOY) if "cat > deploy/production.yaml" in block.text)
    (tmp_path / "platform").symlink_to(REPOSITORY / "platform")
    own_values = create[: create.index("\nEND\n")] + "\nEND\n"
    command = deploy.commands.replace("upgrade --install", "template").replace("$(git rev-parse HEAD)", "0123456")
    script = f"{own_values}{command} --kube-version 1.26.0"
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    rendered = list(yaml.safe_load_all(done.stdout))
    api = api_container(rendered)
    assert api["image"] == "your-dockerhub-username/task-api:0123456"
    assert environment(api)["TASKS_AUTH"] == "tokens"
    assert one("Ingress", rendered)["spec"]["rules"][0]["host"] == "tasks.example.com"
    kinds = {manifest["kind"] for manifest in rendered}
    assert "ServiceMonitor" in kinds
    assert "StatefulSet" not in kinds


def test_documented_values_enable_all_monitoring(tmp_path: Path) -> None:
    """docs/operate.md"""
    (block,) = (block for block in blocks(OPERATE) if block.language == "yaml" and block.section == "Monitoring")
    (tmp_path / "values.yaml").write_text(block.text)
    rendered = render("--values", str(tmp_path / "values.yaml"))
    for kind in ("ServiceMonitor", "PrometheusRule"):
        one(kind, rendered)
    assert [m["metadata"]["name"] for m in rendered if m["kind"] == "ConfigMap"] == ["task-api-dashboard"]


def outputs(section: str) -> dict[str, list[str]]:
    """The documented outputs in the README section, by command."""
    blocks_ = [block.text.splitlines() for block in blocks("README.md") if block.section == section]
    return {lines[0].removeprefix("$ "): lines[1:] for lines in blocks_ if lines[0].startswith("$ ")}


def test_readme_shows_the_output_of_make_test() -> None:
    *lines, generated, _, last = outputs("Tests")["make test"]
    tested = [line.removeprefix("Testing ") for line in lines if line.startswith("Testing ")]
    assert tested == ["chassis", "skeletons/plain", "skeletons/postgresql", "task-api"]
    assert 'echo "Testing $name"' in (REPOSITORY / "scripts/test.sh").read_text()
    count, _, what = generated.partition(" ")
    assert count.isdigit()
    assert what.replace("on sqlite", "on {kind}") in (SERVICE_TESTS / "test_generated_requests.py").read_text()
    summary = re.compile(r"\d+ passed in \d+\.\d\ds( \(\d:\d\d:\d\d\))?")  # pytest adds minutes if it takes one
    assert sum(summary.fullmatch(line) is not None for line in lines) == len(tested) - 1
    assert summary.fullmatch(last)


def reason_untested(block: Block) -> str:
    """Why the block may be untested; empty if a test runs it or it has a reason."""
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
    # Calls this module's reader of the page's blocks, or reads them itself.
    if f'"{block.page}"' in runner:
        return ""
    return f"{block.run_by} does not read {block.page}"


@pytest.mark.parametrize("block", TYPED, ids=str)
def test_every_command_block_is_run_or_has_a_reason(block: Block) -> None:
    assert reason_untested(block) == ""


def test_number_of_run_blocks_per_section_is_as_expected() -> None:
    """How many blocks each file runs, by section: an additional one needs an additional call. Of the two guides every
    block is run, so their number does not matter."""
    counts = Counter(
        (block.run_by, block.page, block.section)
        for block in TYPED
        if block.run_by
        and not block.reason
        and block.run_by != ".ci/run"
        and block.page not in {DEPLOY, OPERATE}
        # The chart README of another service is a copy of the first one's.
        and (not block.page.startswith("platform/helm/") or "/task-api/" in block.page)
    )
    assert counts == {
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
        # This test runs every `console` block of the page.
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Create"): 1,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Find"): 3,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Change"): 2,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Retry safely"): 1,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Follow"): 1,
        ("services/task-api/tests/test_readme.py", "docs/tour.md", "Recurring tasks"): 4,
    }
