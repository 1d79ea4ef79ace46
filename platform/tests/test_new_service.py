"""`make new-service`: what it creates from each skeleton, in a copy of the repository without services."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from documentation import commands_run_by
from exported import metrics_of
from manifests import REPOSITORY, helm_template, one, render, sets, values_files
from repository_copy import copy_repository, lend_environments
from scripts.lint import documents
from scripts.new_service import LONGEST, SKELETONS, forms
from tilt import Tilt

PYTHON = REPOSITORY / "packages/chassis/.venv/bin/python"
"""The skeletons' test environment, also used for the services made from them here."""
LINES = {"": 200, "postgresql": 300}
"""The maximum number of lines of a service, by database."""
NOT_COUNTED = re.compile(r"requirements.*\.txt|openapi\.json|README\.md")


@dataclass(frozen=True)
class CreatedService:
    """A service created in a copy of the repository."""

    copy: Path
    name: str
    database: str
    output: str = ""

    @property
    def package(self) -> str:
        return self.name.replace("-", "_")

    @property
    def service(self) -> Path:
        return self.copy / "services" / self.name

    @property
    def chart(self) -> Path:
        return self.copy / "platform/helm" / self.name

    def files(self) -> list[Path]:
        """All files except for links to the library."""
        paths = (path for folder in (self.service, self.chart) for path in sorted(folder.rglob("*")))
        return [path for path in paths if is_own(path)]

    def remove(self) -> None:
        for folder in (self.service, self.chart):
            shutil.rmtree(folder)


PLAIN, NOTES = ("order-items", ""), ("order-notes", "postgresql")
EACH_SERVICE = pytest.mark.parametrize("created", [PLAIN, NOTES], ids=["plain", "postgresql"], indirect=True)


def is_own(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and not {"charts", "__pycache__"} & set(path.parts)


def new_service(copy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [copy / ".venv/bin/python", "-m", "scripts.new_service", *arguments],
        cwd=copy,
        capture_output=True,
        text=True,
        check=False,
    )


def make(copy: Path, name: str, database: str) -> CreatedService:
    done = new_service(copy, name, *(["--database", database] if database else []))
    assert done.returncode == 0, done.stderr
    return CreatedService(copy, name, database, done.stdout)


def run(copy: Path, *command: str | Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=copy, env=environment or None, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_tests(created: CreatedService, *arguments: str) -> str:
    return run(created.service, PYTHON, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *arguments)


def state(copy: Path) -> str:
    """Git's view of the copy: only files created there are untracked."""
    return run(copy, "git", "status", "--short", "--untracked-files=all")


def prepare_copy(folder: Path) -> Path:
    """A copy without services."""
    copy_repository(folder)
    lend_environments(folder)
    for other in [*folder.glob("services/*"), *folder.glob("platform/helm/*")]:
        if other.name != "service":
            shutil.rmtree(other)
    (folder / ".git/info/exclude").write_text(".venv\n.tools\n")
    run(folder, "git", "add", "--all")
    return folder


@pytest.fixture(scope="module")
def empty_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepare_copy(tmp_path_factory.mktemp("untouched"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy in which two services are created, one of each kind."""
    return prepare_copy(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="module")
def mypy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For both kinds of service: they have the same packages."""
    return tmp_path_factory.mktemp("mypy")


@pytest.fixture(scope="module")
def both(copy: Path) -> dict[tuple[str, str], CreatedService]:
    return {(name, database): make(copy, name, database) for name, database in (PLAIN, NOTES)}


@pytest.fixture
def created(both: dict[tuple[str, str], CreatedService], request: pytest.FixtureRequest) -> CreatedService:
    return both[request.param]


# --- created files --------------------------------------------------------------------


@EACH_SERVICE
def test_two_folders_are_created_and_nothing_else_changes(created: CreatedService, empty_copy: Path) -> None:
    before = state(empty_copy)
    second = make(empty_copy, created.name, created.database)
    changed = [line for line in state(empty_copy).splitlines() if line not in before.splitlines()]
    second.remove()
    assert all(
        line.startswith((f"?? services/{created.name}/", f"?? platform/helm/{created.name}/")) for line in changed
    )
    assert len(changed) > 25
    assert state(empty_copy) == before


@EACH_SERVICE
def test_output_names_existing_files_and_targets(created: CreatedService) -> None:
    paths = re.findall(r"(?:services|platform|tests)/[\w./-]+", created.output)
    assert len(paths) >= 5
    assert all((created.copy / path).exists() or (created.service / path).exists() for path in paths)
    targets = re.findall(r"^([a-z0-9-]+):", (created.copy / "Makefile").read_text(), re.MULTILINE)
    named_targets = re.findall(r"make ([a-z-]+)", created.output)
    assert {"run", "test", "up", "openapi", "lock"} <= set(named_targets) <= set(targets)


NAMES_OF_OTHERS = r"task[-_ ]?api|\btasks?\b|TASKS_|your[-_ ]?service|skeleton"
OF_A_DATABASE = r'|postgres|sqlite|asyncpg|database_|\bdatabase"?:'
ALLOWED = re.compile(r"docs/operate\.md#taskapi")  # runbooks apply to every service


@EACH_SERVICE
def test_no_file_mentions_another_service_or_a_database_that_it_lacks(created: CreatedService) -> None:
    words = re.compile(NAMES_OF_OTHERS + ("" if created.database else OF_A_DATABASE), re.IGNORECASE)
    for file in created.files():
        assert not words.search(str(file.relative_to(created.copy)))
        for line in file.read_text().splitlines():
            assert not words.search(ALLOWED.sub("", line)), f"{file}: {line}"


@EACH_SERVICE
@pytest.mark.parametrize("longest", [False, True])
def test_service_has_few_lines(created: CreatedService, empty_copy: Path, longest: bool) -> None:
    """A long name breaks lines of code."""
    counted = make(empty_copy, "abcdefghij-klmnopqrs"[:LONGEST], created.database) if longest else created
    lines = {
        file: len(file.read_text().splitlines()) for file in counted.files() if not NOT_COUNTED.fullmatch(file.name)
    }
    if longest:
        counted.remove()
    assert len(lines) > 20
    assert sum(lines.values()) <= LINES[created.database]


def known_to_git(folder: Path) -> list[Path]:
    """The files that would be committed: without the environment and test leftovers."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split("\0")
    return [folder / path for path in listed if path]


def windows(folders: list[Path], name: str) -> Iterator[tuple[str, ...]]:
    """All windows of six consecutive lines of a file, without blank ones and comments, with the skeletons' names."""
    names = {new: old for old, new in forms(name).items()}
    pattern = re.compile("|".join(map(re.escape, names)))
    for file in (file for folder in folders for file in known_to_git(folder) if is_own(file)):
        if NOT_COUNTED.fullmatch(file.name):
            continue
        lines = [pattern.sub(lambda match: names[match[0]], line.strip()) for line in file.read_text().splitlines()]
        code = [line for line in lines if line and not line.startswith(("#", "--"))]
        yield from (tuple(code[i : i + 6]) for i in range(len(code) - 5))


def test_no_two_services_share_six_lines(both: dict[tuple[str, str], CreatedService]) -> None:
    """One of each kind, and those of the repository."""
    services = [created.service for created in both.values()]
    services += [file.parent for file in REPOSITORY.glob("services/*/pyproject.toml")]
    windows_by_service = [
        (service, set(windows([service, service.parents[1] / "platform/helm" / service.name], service.name)))
        for service in services
    ]
    assert all(len(lines) > 20 for _, lines in windows_by_service)
    for (first, first_windows), (second, second_windows) in itertools.combinations(windows_by_service, 2):
        assert not first_windows & second_windows, (first, second)


# --- the service ----------------------------------------------------------------------


@EACH_SERVICE
@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")])
def test_code_passes_ruff(created: CreatedService, arguments: tuple[str, ...]) -> None:
    run(created.copy, created.copy / ".venv/bin/ruff", *arguments, created.service)


@EACH_SERVICE
def test_types_pass_mypy(created: CreatedService, mypy_cache: Path) -> None:
    config = created.copy / "packages/chassis/pyproject.toml"
    mypy = (created.copy / ".venv/bin/mypy", "--config-file", config, "--python-executable", PYTHON)
    run(created.copy, *mypy, "--cache-dir", mypy_cache, created.service / "src", created.service / "tests")


def test_tests_pass(both: dict[tuple[str, str], CreatedService]) -> None:
    output = run_tests(both[PLAIN], "-m", "not full")  # as in make test
    assert re.search(r"\b\d+ passed\b", output)


@pytest.mark.docker
def test_tests_pass_on_a_real_postgresql(both: dict[tuple[str, str], CreatedService]) -> None:
    output = run_tests(both[NOTES], "-m", "not full")  # as in make test
    assert re.search(r"\b\d+ passed\b", output)


@EACH_SERVICE
def test_openapi_document_matches_the_code(created: CreatedService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(created.copy)
    documents.check(created.service, str(PYTHON))


@EACH_SERVICE
def test_lock_has_all_imports_and_nothing_of_a_database_that_it_lacks(created: CreatedService) -> None:
    imported = {
        module
        for file in (created.service / "src").rglob("*.py")
        for module in re.findall(r"^ *(?:from|import) ([a-z0-9_]+)", file.read_text(), re.MULTILINE)
    }
    third_party = imported - sys.stdlib_module_names - {created.package, "chassis"}
    assert {"fastapi", "pydantic"} <= third_party
    locked = set(re.findall(r"^([a-z0-9-]+)==", (created.service / "requirements.txt").read_text(), re.MULTILINE))
    assert {module.replace("_", "-") for module in third_party} <= locked
    of_a_database = {"asyncpg", "opentelemetry-instrumentation-asyncpg"}
    assert locked & of_a_database == (of_a_database if created.database else set())
    requested = [
        package
        for project in (created.service, created.copy / "packages/chassis")
        for package in tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    # Normalized as in a lock: `backports.zstd` is backports-zstd.
    assert {re.split(r"[ ;>]", package)[0].replace(".", "-") for package in requested} <= locked


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_test_environment_of_the_skeletons_has_their_locked_packages(skeleton: Path, lock: str) -> None:
    def packages(file: Path) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==.*?(?= \\$)", file.read_text(), re.MULTILINE))

    locked = packages(skeleton / "service" / lock)
    assert len(locked) > 20
    assert locked <= packages(REPOSITORY / "packages/chassis/requirements-dev.txt")


# --- the chart ------------------------------------------------------------------------


def test_chart_renders_a_service_without_a_database(both: dict[tuple[str, str], CreatedService]) -> None:
    rendered, name = render(chart=both[PLAIN].chart), both[PLAIN].name
    assert {manifest["kind"] for manifest in rendered} == {
        *("Deployment", "Service", "Ingress", "HorizontalPodAutoscaler"),
        *("PodDisruptionBudget", "NetworkPolicy", "ServiceAccount"),
    }
    deployment = one("Deployment", rendered)
    assert deployment["metadata"]["name"] == name
    variables = [variable["name"] for variable in deployment["spec"]["template"]["spec"]["containers"][0]["env"]]
    assert variables == ["ORDER_ITEMS_DRAIN_SECONDS", "ORDER_ITEMS_GRACEFUL_SECONDS"]
    (dns,) = one("NetworkPolicy", rendered)["spec"]["egress"]
    assert {port["port"] for port in dns["ports"]} == {53, 5353}


@EACH_SERVICE
def test_chart_renders_with_every_values_file(created: CreatedService) -> None:
    files = values_files(created.chart)
    assert {"values-dev.yaml", "values-production.yaml", "ci/all-on-values.yaml"} <= files.keys()
    for name, arguments in files.items():
        done = helm_template(*arguments, chart=created.chart)
        assert done.returncode == 0, f"{name}: {done.stderr}"


@EACH_SERVICE
def test_chart_has_a_line_per_object_and_its_own_values(created: CreatedService) -> None:
    lines = {
        path.relative_to(created.chart): path.read_text().splitlines()
        for path in created.files()
        if path.is_relative_to(created.chart)
    }
    objects = {path: text for path, text in lines.items() if path.parts[0] == "templates"}
    assert len(objects) == (23 if created.database else 14)
    assert [path for path, text in objects.items() if len(text) != 1] == []
    assert sum(map(len, lines.values())) <= 60


@EACH_SERVICE
def test_alerts_and_dashboard_use_exported_metrics(created: CreatedService) -> None:
    script = (
        "from starlette.testclient import TestClient\n"
        "from chassis.app import create_app\n"
        f"from {created.package}.__main__ import {forms(created.name)['YourService']} as service\n"
        "client = TestClient(create_app(service))\n"
        "print(client.get('/metrics').text, client.get('/health', headers={'Accept': 'text/plain'}).text, sep='')"
    )
    environment = {"PYTHONPATH": f"{created.service}/src:packages/chassis/src", "PYTHONDONTWRITEBYTECODE": "1"}
    if created.database:  # it is never connected to
        environment[f"{created.package.upper()}_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    output = run(created.copy, PYTHON, "-c", script, **environment)
    exported = set(re.findall(rf"^# TYPE ({created.package}_[a-z_]+?)(?:_total)? ", output, re.MULTILINE))
    # Exported only in a container with a limit.
    exported |= {
        f"{created.package}_{name}" for name in ("cpu_periods", "cpu_throttled_periods", "cpu_throttled_seconds")
    }
    rendered = render(*sets("prometheusRule.enabled=true", "dashboard.enabled=true"), chart=created.chart)
    (text,) = one("ConfigMap", rendered)["data"].values()
    dashboard = json.loads(text)
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    expressions += [
        rule["expr"] for group in one("PrometheusRule", rendered)["spec"]["groups"] for rule in group["rules"]
    ]
    named = {re.sub("_(total|bucket)$", "", name) for expression in expressions for name in metrics_of(expression)}
    own_metrics = {name for name in named if name.startswith(f"{created.package}_")}
    assert {f"{created.package}_health_status", f"{created.package}_cpu_periods"} <= own_metrics <= exported


# --- discovery ------------------------------------------------------------------------


def test_make_scripts_and_tilt_discover_both_by_their_folders(
    both: dict[tuple[str, str], CreatedService], copy: Path
) -> None:
    names = [name for name, _ in both]
    assert run(copy, "bash", "-c", ". scripts/cluster.sh && deployable_services").split() == names
    assert f"scripts/test.sh {' '.join(names)}\n" in run(copy, "make", "--dry-run", "test")
    assert f"scripts/lint.sh {' '.join(names)}\n" in run(copy, "make", "--dry-run", "lint")
    tilt = Tilt(copy, "kind-task-platform").read()
    assert list(tilt.builds) == names
    assert tilt.uncategorized() == set()


def test_changed_line_is_in_the_image_of_its_service_and_one_of_the_chassis_in_each(
    both: dict[tuple[str, str], CreatedService], copy: Path
) -> None:
    def tags() -> list[str]:
        return [run(copy, "env", f"SERVICE={name}", "scripts/image-tag.sh") for name, _ in both]

    def changed(file: Path) -> list[bool]:
        before, text = tags(), file.read_text()
        file.write_text(text + "# another line\n")
        try:
            return [now != then for now, then in zip(tags(), before, strict=True)]
        finally:
            file.write_text(text)

    plain, notes = both.values()
    assert changed(copy / "packages/chassis/src/chassis/health.py") == [True, True]
    assert changed(plain.service / f"src/{plain.package}/service.py") == [True, False]
    assert changed(notes.service / f"src/{notes.package}/service.py") == [False, True]


def test_service_can_be_created_without_existing_ones(empty_copy: Path) -> None:
    assert not [*empty_copy.glob("services/*/src")]
    output = run(empty_copy, "make", "new-service", "NAME=orders", "DATABASE=postgresql")
    CreatedService(empty_copy, "orders", "postgresql").remove()
    assert "make run SERVICE=orders" in output
    assert "Installing" not in output


# --- existing app ---------------------------------------------------------------------

EXISTING_APP = '''"""A shop, as FastAPI's own pages would write it."""

from typing import Annotated

from fastapi import FastAPI, HTTPException, Query
from pydantic import BaseModel, Field

app = FastAPI(title="Shop", version="1.0")


class Item(BaseModel):
    name: str = Field(min_length=1)
    price: float = Field(gt=0)


ITEMS = {1: Item(name="Cup", price=4.5)}


@app.get("/items")
def list_items(most: Annotated[int, Query(ge=1)] = 10) -> list[Item]:
    """Everything there is."""
    return list(ITEMS.values())[:most]


@app.get("/items/{item_id}")
async def read_item(item_id: int) -> Item:
    """One of them."""
    if item_id not in ITEMS:
        raise HTTPException(404, "There is no such item.")
    return ITEMS[item_id]
'''
REQUESTS = """
from starlette.testclient import TestClient
from chassis.app import create_app
from shop.service import Shop

with TestClient(create_app(Shop)) as client:
    for path in ("/items", "/items/1", "/items/9", "/items?most=0", "/readyz"):
        answer = client.get(path)
        print(path, answer.status_code, answer.headers["content-type"].partition(";")[0])
"""


def test_fastapi_app_becomes_a_service_with_the_documented_commands(empty_copy: Path, tmp_path: Path) -> None:
    (block,) = commands_run_by("platform/tests/test_new_service.py", "docs/extend.md")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/main.py").write_text(EXISTING_APP)
    created = CreatedService(empty_copy, "shop", "")
    try:
        run(empty_copy, "bash", "-euc", block.commands, **(os.environ | {"HOME": str(tmp_path)}))
        environment = {"PYTHONPATH": f"{created.service}/src:packages/chassis/src", "PYTHONDONTWRITEBYTECODE": "1"}
        assert run(empty_copy, PYTHON, "-c", REQUESTS, **environment).splitlines() == [
            "/items 200 application/json",
            "/items/1 200 application/json",
            "/items/9 404 application/problem+json",
            "/items?most=0 422 application/problem+json",
            "/readyz 200 text/plain",
        ]
        run(empty_copy, empty_copy / ".venv/bin/ruff", "check", created.service)
        (created.service / "openapi.json").write_text(run(empty_copy, PYTHON, "-m", "shop", "openapi", **environment))
        documents.check(created.service, str(PYTHON))
    finally:
        created.remove()


# --- names ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("service", "is in use: platform/helm/service exists. Use another name"),
        *((name, "is not a valid Service name") for name in ("Orders", "order_items", "1st", "-a", "a-", "a--b", "")),
        ("../orders", "is not a valid Service name"),
        ("x" * 21, "at most 20 lowercase letters"),
        *(
            (name, "the name of a Python module")
            for name in ("json", "import", "fastapi", "prometheus-client", "joserfc", "chassis", "asyncpg")
        ),
        *(
            (name, "the name of a Python module")
            for name in ("programs", "test-hello", "test-notes", "conftest", "typing-inspection")
        ),
        ("kubernetes", "the name of a Service that exists in every cluster"),
    ],
)
def test_invalid_name_is_rejected_in_one_line(empty_copy: Path, name: str, why: str) -> None:
    before = state(empty_copy)
    done = new_service(empty_copy, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert state(empty_copy) == before


def test_unknown_database_is_rejected_in_one_line(empty_copy: Path) -> None:
    done = new_service(empty_copy, "orders", "--database", "mysql")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "No skeleton for DATABASE=mysql: use postgresql, or omit DATABASE.\n"


def test_second_run_is_rejected_and_changes_nothing(empty_copy: Path) -> None:
    created = make(empty_copy, "orders", "")
    file = created.service / "src/orders/hello.py"
    file.write_text("# changed since\n")
    try:
        done = new_service(empty_copy, "orders")
        assert done.returncode == 1
        assert "NAME=orders is in use: services/orders exists." in done.stderr
        assert file.read_text() == "# changed since\n"
    finally:
        created.remove()


@EACH_SERVICE
def test_longest_name_breaks_no_line(created: CreatedService, empty_copy: Path) -> None:
    longest = make(empty_copy, "abcdefghij-klmnopqrs", created.database)
    try:
        for arguments in (["check"], ["format", "--check"]):
            run(empty_copy, empty_copy / ".venv/bin/ruff", *arguments, longest.service)
    finally:
        longest.remove()


def test_failure_in_the_last_step_leaves_neither_folder(tmp_path: Path) -> None:
    copy = prepare_copy(tmp_path)
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


@pytest.mark.parametrize("name", ["my-your-service", "your-service-two", "sub-title-package"])
@pytest.mark.parametrize("database", SKELETONS)
def test_name_that_contains_another_is_replaced_completely(empty_copy: Path, name: str, database: str) -> None:
    created = make(empty_copy, name, database)
    try:
        for file in created.files():
            text = file.read_text()
            for right in forms(name).values():
                text = text.replace(right, "")
            assert not re.search(r"your[-_ ]?service", text, re.IGNORECASE), file
        helm_template(chart=created.chart).check_returncode()
        documents.check(created.service, str(PYTHON))
    finally:
        created.remove()
