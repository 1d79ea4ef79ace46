"""`make new-service`: what it makes of the first service, in a copy of the repository."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from exported import metrics_of
from manifests import REPOSITORY, helm_template, one, render, sets, values_files
from repository_copy import copy_repository, lend_environments
from tilt import Tilt

NAME, PACKAGE, PREFIX = "order-items", "order_items", "ORDER_ITEMS"
MADE = (f"services/{NAME}", f"platform/helm/{NAME}")


def new_service(copy: Path, name: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [copy / ".venv/bin/python", "-m", "scripts.new_service", name],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )


def run(copy: Path, *command: str | Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=copy, env=environment or None, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def state(copy: Path) -> str:
    """What git sees of the copy: nothing but what was made there is untracked."""
    return run(copy, "git", "status", "--short", "--untracked-files=all")


def prepared(folder: Path) -> Path:
    """A copy with the first service alone, however many there are."""
    copy_repository(folder)
    for other in [*folder.glob("services/*"), *folder.glob("platform/helm/*")]:
        if other.name not in ("task-api", "service"):
            shutil.rmtree(other)
    run(folder, "git", "add", "--all")
    lend_environments(folder)
    (folder / ".git/info/exclude").write_text(".venv\n.tools\n")
    return folder


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("untouched"))


@pytest.fixture(scope="module")
def said() -> list[str]:
    return []


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory, said: list[str]) -> Path:
    """One with a second service."""
    copy = prepared(tmp_path_factory.mktemp("copy"))
    done = new_service(copy, NAME)
    assert done.returncode == 0, done.stderr
    said.append(done.stdout)
    return copy


def made(copy: Path) -> list[Path]:
    """All but what it links to, which is the library's."""
    files = (path for folder in MADE for path in sorted((copy / folder).rglob("*")))
    return [path for path in files if path.is_file() and not path.is_symlink() and "charts" not in path.parts]


# --- what is there --------------------------------------------------------------------


def test_two_folders_are_made_and_nothing_else_is_touched(copy: Path) -> None:
    before = set(run(copy, "git", "ls-files").splitlines())
    changed = [line for line in state(copy).splitlines() if line[3:] not in before]
    assert all(line.startswith("?? ") and line[3:].startswith(MADE) for line in changed)
    assert len(changed) > 30


def test_what_it_says_names_files_and_verbs_that_there_are(copy: Path, said: list[str]) -> None:
    paths = re.findall(r"(?:services|platform|tests)/[\w./-]+", said[0])
    assert len(paths) >= 5
    assert all((copy / path).exists() or (copy / MADE[0] / path).exists() for path in paths)
    targets = re.findall(r"^([a-z0-9-]+):", (copy / "Makefile").read_text(), re.MULTILINE)
    verbs = re.findall(r"make ([a-z-]+)", said[0])
    assert {"run", "test", "up", "openapi", "lock"} <= set(verbs) <= set(targets)


OTHERS_WORDS = re.compile(
    r'task[-_ ]?api|\btasks?\b|TASKS_|postgres|sqlite|asyncpg|database_|\bdatabase"?:|\[/?domain[]:]', re.IGNORECASE
)
RIGHT_WORDS = re.compile(
    r"docs/operate\.md#taskapi"  # runbooks hold for every service
    r"|asyncio\.Task|create_task|current_task|keep_alive_task|what this task logs"  # asyncio's
)


def test_nothing_of_it_speaks_of_tasks_or_a_database(copy: Path) -> None:
    for file in made(copy):
        assert not OTHERS_WORDS.search(str(file.relative_to(copy)))
        for line in file.read_text().splitlines():
            assert not OTHERS_WORDS.search(RIGHT_WORDS.sub("", line)), f"{file}: {line}"


# --- the service ----------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")])
def test_its_code_is_as_ruff_wants_it(copy: Path, arguments: tuple[str, ...]) -> None:
    run(copy, copy / ".venv/bin/ruff", *arguments, MADE[0])


def test_its_types_are_right(copy: Path, tmp_path: Path) -> None:
    folder = copy / MADE[0]
    python = copy / "services/task-api/.venv/bin/python"
    run(
        copy,
        *(copy / ".venv/bin/mypy", "--config-file", folder / "pyproject.toml", "--python-executable", python),
        *("--cache-dir", tmp_path, folder / "src", folder / "tests"),
    )


def test_its_tests_pass(copy: Path) -> None:
    python = REPOSITORY / "services/task-api/.venv/bin/python"
    said = run(copy / MADE[0], python, "-m", "pytest", "--quiet", "-p", "no:cacheprovider")
    assert re.search(r"\b\d+ passed\b", said)


def test_its_lock_has_all_that_it_imports_and_nothing_of_the_first_services_domain(copy: Path) -> None:
    folders = (copy / MADE[0] / "src", copy / "packages/chassis/src")
    source = "".join(file.read_text() for folder in folders for file in folder.rglob("*.py"))
    imported = set(re.findall(r"^ *(?:from|import) ([a-z0-9_]+)", source, re.MULTILINE))
    others = imported - sys.stdlib_module_names - {PACKAGE, "chassis", "asyncpg"}
    assert {"fastapi", "joserfc", "structlog"} <= others
    locked = set(re.findall(r"^([a-z0-9-]+)==", (copy / MADE[0] / "requirements.txt").read_text(), re.MULTILINE))
    modules = {"opentelemetry": "opentelemetry-sdk"}
    assert {modules.get(module, module.replace("_", "-")) for module in others} <= locked
    assert not {"asyncpg", "icalendar", "python-dateutil", "opentelemetry-instrumentation-asyncpg"} & locked
    asked = [
        package
        for project in (MADE[0], "packages/chassis")
        for package in tomllib.loads((copy / project / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    assert {re.split(r"[ ;>]", package)[0] for package in asked} <= locked


# --- the chart ------------------------------------------------------------------------


def test_its_chart_renders_a_service_without_a_database(copy: Path) -> None:
    chart = copy / MADE[1]
    kinds = {manifest["kind"] for manifest in render(chart=chart)}
    assert kinds == {
        *("Deployment", "Service", "Ingress", "HorizontalPodAutoscaler"),
        *("PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"),
    }
    deployment = one("Deployment", render(chart=chart))
    assert deployment["metadata"]["name"] == NAME
    variables = [variable["name"] for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert variables == [f"{PREFIX}_DRAIN_SECONDS", f"{PREFIX}_GRACEFUL_SECONDS"]
    (dns,) = one("NetworkPolicy", render(chart=chart))["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53}


def test_its_chart_renders_with_each_file_of_values(copy: Path) -> None:
    chart = copy / MADE[1]
    files = values_files(chart)
    assert {"values-dev.yaml", "values-production.yaml", "ci/all-on-values.yaml"} <= files.keys()
    for name, arguments in files.items():
        done = helm_template(*arguments, chart=chart)
        assert done.returncode == 0, f"{name}: {done.stderr}"


def test_its_chart_is_a_line_for_each_object_and_what_it_has_otherwise(copy: Path) -> None:
    files = [path for path in made(copy) if path.is_relative_to(copy / MADE[1])]
    lines = {path.relative_to(copy / MADE[1]): path.read_text().splitlines() for path in files}
    objects = {path: text for path, text in lines.items() if path.parts[0] == "templates" and path.suffix != ".tpl"}
    assert len(objects) == 14
    assert [path for path, text in objects.items() if len(text) != 1] == []
    assert sum(map(len, lines.values())) <= 60


def test_alerts_and_dashboard_ask_for_what_it_exports(copy: Path) -> None:
    python = REPOSITORY / "services/task-api/.venv/bin/python"
    ask = (
        "from starlette.testclient import TestClient\n"
        f"from {PACKAGE}.app import create_app\n"
        "with TestClient(create_app()) as client:\n"
        "    print(client.get('/metrics').text, client.get('/health', headers={'Accept': 'text/plain'}).text, sep='')"
    )
    said = run(copy, python, "-c", ask, PYTHONPATH=f"{MADE[0]}/src:packages/chassis/src", PYTHONDONTWRITEBYTECODE="1")
    own = set(re.findall(rf"^# TYPE ({PACKAGE}_[a-z_]+?)(?:_total)? ", said, re.MULTILINE))
    # These are there where a container has a limit.
    own |= {f"{PACKAGE}_{name}" for name in ("cpu_periods", "cpu_throttled_periods", "cpu_throttled_seconds")}
    rendered = render(*sets("prometheusRule.enabled=true", "dashboard.enabled=true"), chart=copy / MADE[1])
    dashboard = json.loads(one("ConfigMap", rendered)["data"][f"{NAME}.json"])
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [rule["expr"] for group in one("PrometheusRule", rendered)["spec"]["groups"] for rule in group["rules"]]
    named = {re.sub("_(total|bucket)$", "", name) for expression in asked for name in metrics_of(expression)}
    of_its_own = {name for name in named if name.startswith(f"{PACKAGE}_")}
    assert {f"{PACKAGE}_health_status", f"{PACKAGE}_cpu_periods"} <= of_its_own <= own


# --- who finds it ---------------------------------------------------------------------


def test_make_scripts_and_tilt_find_both_by_their_folders(copy: Path) -> None:
    both = [NAME, "task-api"]
    assert run(copy, "bash", "-c", ". scripts/cluster.sh && deployable_services").split() == both
    assert f"scripts/test.sh {' '.join(both)}\n" in run(copy, "make", "--dry-run", "test")
    assert f"scripts/lint.sh {' '.join(both)}\n" in run(copy, "make", "--dry-run", "lint")
    tilt = Tilt(copy, "kind-task-platform").read()
    assert list(tilt.builds) == both
    assert tilt.uncategorized() == set()


# --- names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("task-api", "is taken: there is services/task-api. Take another"),
        *(
            (name, "cannot be the name of a Service")
            for name in ("Orders", "order_items", "1st", "-a", "a-", "a--b", "")
        ),
        ("../orders", "cannot be the name of a Service"),
        ("x" * 21, "at most 20 small letters"),
        *(
            (name, "the name of a Python module")
            for name in ("json", "import", "fastapi", "prometheus-client", "joserfc", "chassis")
        ),
        *(
            (name, "the name of a Python module")
            for name in ("running", "test-openapi", "conftest", "typing-inspection")
        ),
        ("kubernetes", "the name of a Service that every cluster has"),
    ],
)
def test_a_name_that_cannot_be_is_refused_in_one_line(untouched: Path, name: str, why: str) -> None:
    before = state(untouched)
    done = new_service(untouched, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert state(untouched) == before


def test_a_second_time_is_refused_and_changes_nothing(copy: Path) -> None:
    (copy / MADE[0] / "src" / PACKAGE / "hello.py").write_text("# changed since\n")
    try:
        done = new_service(copy, NAME)
        assert done.returncode == 1
        assert f"NAME={NAME} is taken: there is services/{NAME}." in done.stderr
        assert (copy / MADE[0] / "src" / PACKAGE / "hello.py").read_text() == "# changed since\n"
    finally:
        run(copy, "rm", "-r", *MADE)
        assert new_service(copy, NAME).returncode == 0


def test_the_longest_name_breaks_no_line(untouched: Path) -> None:
    name = "abcdefghij-klmnopqrs"
    assert new_service(untouched, name).returncode == 0
    try:
        for arguments in (["check"], ["format", "--check"]):
            run(untouched, untouched / ".venv/bin/ruff", *arguments, f"services/{name}")
    finally:
        run(untouched, "rm", "-r", f"services/{name}", f"platform/helm/{name}")


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("services/task-api/pyproject.toml", lambda text: text.replace("[/domain]", "")),
        (
            "services/task-api/src/task_api/__main__.py",
            lambda text: text.replace("command_line.main", "command_line.no_main"),
        ),
    ],
)
def test_where_the_first_service_has_changed_too_far_nothing_is_made(
    tmp_path: Path, file: str, change: Callable[[str], str]
) -> None:
    copy = prepared(tmp_path)
    text = (copy / file).read_text()
    assert change(text) != text
    (copy / file).write_text(change(text))
    before = state(copy)
    done = new_service(copy, "orders")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Nothing was made: ")
    assert len(done.stderr.splitlines()) == 1
    assert state(copy) == before


def test_where_the_last_step_fails_neither_folder_is_left(tmp_path: Path) -> None:
    copy = prepared(tmp_path)
    environment = copy / ".venv"
    real = environment.resolve()
    environment.unlink()
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(real / "bin/python")
    (environment / "bin/ruff").write_text("#!/bin/sh\necho 'no space left' >&2\nexit 1\n")
    (environment / "bin/ruff").chmod(0o755)
    before = state(copy)
    done = new_service(copy, "orders")
    assert done.returncode == 1
    assert done.stderr.endswith("failed: no space left\n")
    assert state(copy) == before


@pytest.mark.parametrize("name", ["my-task-api", "task-api-tasks", "sub-title-package"])
def test_a_name_that_contains_another_is_whole_wherever_it_stands(untouched: Path, name: str) -> None:
    package, prefix = name.replace("-", "_"), name.replace("-", "_").upper()
    assert new_service(untouched, name).returncode == 0
    try:
        for folder in (f"services/{name}", f"platform/helm/{name}"):
            for file in (path for path in (untouched / folder).rglob("*") if path.is_file()):
                text = file.read_text()
                for right in (name, package, prefix):
                    text = text.replace(right, "")
                assert not re.search(r"task[-_]api|\bTASKS_", text), file
        helm_template(chart=untouched / f"platform/helm/{name}").check_returncode()
        python = REPOSITORY / "services/task-api/.venv/bin/python"
        run(
            untouched / f"services/{name}",
            python,
            "-m",
            "pytest",
            "--quiet",
            "-p",
            "no:cacheprovider",
            "tests/test_hello.py",
        )
    finally:
        run(untouched, "rm", "-r", f"services/{name}", f"platform/helm/{name}")
