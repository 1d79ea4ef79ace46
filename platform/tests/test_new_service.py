"""`make new-service`: what it makes of each skeleton, in a copy of the repository that has no service yet."""

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
"""Skeletons are tested in this environment, and so is what is made of them here."""
LINES = {"": 200, "postgresql": 300}
"""How many a service may have at most, by its database."""
NOT_COUNTED = re.compile(r"requirements.*\.txt|openapi\.json|README\.md")


@dataclass(frozen=True)
class Made:
    """A service that was made in a copy of the repository."""

    copy: Path
    name: str
    database: str
    said: str = ""

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
        """All but what it links to, which is the library's."""
        found = (path for folder in (self.service, self.chart) for path in sorted(folder.rglob("*")))
        return [path for path in found if is_own(path)]

    def remove(self) -> None:
        for folder in (self.service, self.chart):
            shutil.rmtree(folder)


PLAIN, NOTES = ("order-items", ""), ("order-notes", "postgresql")
EACH = pytest.mark.parametrize("made", [PLAIN, NOTES], ids=["plain", "postgresql"], indirect=True)


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


def make(copy: Path, name: str, database: str) -> Made:
    done = new_service(copy, name, *(["--database", database] if database else []))
    assert done.returncode == 0, done.stderr
    return Made(copy, name, database, done.stdout)


def run(copy: Path, *command: str | Path, **environment: str) -> str:
    done = subprocess.run(command, cwd=copy, env=environment or None, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_its_tests(made: Made, *arguments: str) -> str:
    return run(made.service, PYTHON, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", *arguments)


def state(copy: Path) -> str:
    """What git sees of the copy: nothing but what was made there is untracked."""
    return run(copy, "git", "status", "--short", "--untracked-files=all")


def prepared(folder: Path) -> Path:
    """A copy without any service."""
    copy_repository(folder)
    lend_environments(folder)
    for other in [*folder.glob("services/*"), *folder.glob("platform/helm/*")]:
        if other.name != "service":
            shutil.rmtree(other)
    (folder / ".git/info/exclude").write_text(".venv\n.tools\n")
    run(folder, "git", "add", "--all")
    return folder


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return prepared(tmp_path_factory.mktemp("untouched"))


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One in which two services are made, of each kind one."""
    return prepared(tmp_path_factory.mktemp("copy"))


@pytest.fixture(scope="module")
def both(copy: Path) -> dict[tuple[str, str], Made]:
    return {(name, database): make(copy, name, database) for name, database in (PLAIN, NOTES)}


@pytest.fixture
def made(both: dict[tuple[str, str], Made], request: pytest.FixtureRequest) -> Made:
    return both[request.param]


# --- what is there --------------------------------------------------------------------


@EACH
def test_two_folders_are_made_and_nothing_else_is_touched(made: Made, untouched: Path) -> None:
    before = state(untouched)
    again = make(untouched, made.name, made.database)
    changed = [line for line in state(untouched).splitlines() if line not in before.splitlines()]
    again.remove()
    assert all(line.startswith((f"?? services/{made.name}/", f"?? platform/helm/{made.name}/")) for line in changed)
    assert len(changed) > 25
    assert state(untouched) == before


@EACH
def test_what_it_says_names_files_and_verbs_that_there_are(made: Made) -> None:
    paths = re.findall(r"(?:services|platform|tests)/[\w./-]+", made.said)
    assert len(paths) >= 5
    assert all((made.copy / path).exists() or (made.service / path).exists() for path in paths)
    targets = re.findall(r"^([a-z0-9-]+):", (made.copy / "Makefile").read_text(), re.MULTILINE)
    verbs = re.findall(r"make ([a-z-]+)", made.said)
    assert {"run", "test", "up", "openapi", "lock"} <= set(verbs) <= set(targets)


NAMES_OF_OTHERS = r"task[-_ ]?api|\btasks?\b|TASKS_|your[-_ ]?service|skeleton"
OF_A_DATABASE = r'|postgres|sqlite|asyncpg|database_|\bdatabase"?:'
RIGHT_WORDS = re.compile(r"docs/operate\.md#taskapi")  # runbooks hold for every service


@EACH
def test_nothing_of_it_speaks_of_another_service_or_of_a_database_that_it_lacks(made: Made) -> None:
    words = re.compile(NAMES_OF_OTHERS + ("" if made.database else OF_A_DATABASE), re.IGNORECASE)
    for file in made.files():
        assert not words.search(str(file.relative_to(made.copy)))
        for line in file.read_text().splitlines():
            assert not words.search(RIGHT_WORDS.sub("", line)), f"{file}: {line}"


@EACH
@pytest.mark.parametrize("longest", [False, True])
def test_it_has_few_lines(made: Made, untouched: Path, longest: bool) -> None:
    """A long name breaks lines of code."""
    counted = make(untouched, "abcdefghij-klmnopqrs"[:LONGEST], made.database) if longest else made
    lines = {
        file: len(file.read_text().splitlines()) for file in counted.files() if not NOT_COUNTED.fullmatch(file.name)
    }
    if longest:
        counted.remove()
    assert len(lines) > 20
    assert sum(lines.values()) <= LINES[made.database]


def known_to_git(folder: Path) -> list[Path]:
    """Those that would be committed: not the environment, nor what tests have left."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split("\0")
    return [folder / path for path in listed if path]


def windows(folders: list[Path], name: str) -> Iterator[tuple[str, ...]]:
    """Every six lines that follow each other in a file, blank ones and comments aside, under the skeletons' names."""
    names = {new: old for old, new in forms(name).items()}
    pattern = re.compile("|".join(map(re.escape, names)))
    for file in (file for folder in folders for file in known_to_git(folder) if is_own(file)):
        if NOT_COUNTED.fullmatch(file.name):
            continue
        lines = [pattern.sub(lambda found: names[found[0]], line.strip()) for line in file.read_text().splitlines()]
        code = [line for line in lines if line and not line.startswith(("#", "--"))]
        yield from (tuple(code[i : i + 6]) for i in range(len(code) - 5))


def test_no_two_services_share_six_lines(both: dict[tuple[str, str], Made]) -> None:
    """One of each kind, and those that the repository has."""
    services = [made.service for made in both.values()]
    services += [file.parent for file in REPOSITORY.glob("services/*/pyproject.toml")]
    of_each = [
        (service, set(windows([service, service.parents[1] / "platform/helm" / service.name], service.name)))
        for service in services
    ]
    assert all(len(found) > 20 for _, found in of_each)
    for (one_of_them, some), (other, others) in itertools.combinations(of_each, 2):
        assert not some & others, (one_of_them, other)


# --- the service ----------------------------------------------------------------------


@EACH
@pytest.mark.parametrize("arguments", [("check",), ("format", "--check")])
def test_its_code_is_as_ruff_wants_it(made: Made, arguments: tuple[str, ...]) -> None:
    run(made.copy, made.copy / ".venv/bin/ruff", *arguments, made.service)


@EACH
def test_its_types_are_right(made: Made, tmp_path: Path) -> None:
    config = made.copy / "packages/chassis/pyproject.toml"
    mypy = (made.copy / ".venv/bin/mypy", "--config-file", config, "--python-executable", PYTHON)
    run(made.copy, *mypy, "--cache-dir", tmp_path, made.service / "src", made.service / "tests")


def test_its_tests_pass(both: dict[tuple[str, str], Made]) -> None:
    said = run_its_tests(both[PLAIN], "-m", "not full")  # as make test does
    assert re.search(r"\b\d+ passed\b", said)


@pytest.mark.docker
def test_its_tests_pass_on_a_real_postgresql(both: dict[tuple[str, str], Made]) -> None:
    said = run_its_tests(both[NOTES], "-m", "not full")  # as make test does
    assert re.search(r"\b\d+ passed\b", said)


@EACH
def test_its_openapi_document_is_that_of_its_code(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.copy)
    documents.check(made.service, str(PYTHON))


@EACH
def test_its_lock_has_all_that_it_imports_and_nothing_of_a_database_that_it_lacks(made: Made) -> None:
    imported = {
        module
        for file in (made.service / "src").rglob("*.py")
        for module in re.findall(r"^ *(?:from|import) ([a-z0-9_]+)", file.read_text(), re.MULTILINE)
    }
    others = imported - sys.stdlib_module_names - {made.package, "chassis"}
    assert {"fastapi", "pydantic"} <= others
    locked = set(re.findall(r"^([a-z0-9-]+)==", (made.service / "requirements.txt").read_text(), re.MULTILINE))
    assert {module.replace("_", "-") for module in others} <= locked
    of_a_database = {"asyncpg", "opentelemetry-instrumentation-asyncpg"}
    assert locked & of_a_database == (of_a_database if made.database else set())
    asked = [
        package
        for project in (made.service, made.copy / "packages/chassis")
        for package in tomllib.loads((project / "pyproject.toml").read_text())["project"]["dependencies"]
    ]
    # In the one form that a name has in a lock: `backports.zstd` is backports-zstd.
    assert {re.split(r"[ ;>]", package)[0].replace(".", "-") for package in asked} <= locked


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt"])
def test_the_environment_that_skeletons_are_tested_in_has_what_they_lock(skeleton: Path, lock: str) -> None:
    def packages(file: Path) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==.*?(?= \\$)", file.read_text(), re.MULTILINE))

    locked = packages(skeleton / "service" / lock)
    assert len(locked) > 20
    assert locked <= packages(REPOSITORY / "packages/chassis/requirements-dev.txt")


# --- the chart ------------------------------------------------------------------------


def test_its_chart_renders_a_service_without_a_database(both: dict[tuple[str, str], Made]) -> None:
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


@EACH
def test_its_chart_renders_with_each_file_of_values(made: Made) -> None:
    files = values_files(made.chart)
    assert {"values-dev.yaml", "values-production.yaml", "ci/all-on-values.yaml"} <= files.keys()
    for name, arguments in files.items():
        done = helm_template(*arguments, chart=made.chart)
        assert done.returncode == 0, f"{name}: {done.stderr}"


@EACH
def test_its_chart_is_a_line_for_each_object_and_what_it_has_otherwise(made: Made) -> None:
    lines = {
        path.relative_to(made.chart): path.read_text().splitlines()
        for path in made.files()
        if path.is_relative_to(made.chart)
    }
    objects = {path: text for path, text in lines.items() if path.parts[0] == "templates"}
    assert len(objects) == (23 if made.database else 14)
    assert [path for path, text in objects.items() if len(text) != 1] == []
    assert sum(map(len, lines.values())) <= 60


@EACH
def test_alerts_and_dashboard_ask_for_what_it_exports(made: Made) -> None:
    ask = (
        "from starlette.testclient import TestClient\n"
        "from chassis.app import create_app\n"
        f"from {made.package}.__main__ import {forms(made.name)['YourService']} as service\n"
        "client = TestClient(create_app(service))\n"
        "print(client.get('/metrics').text, client.get('/health', headers={'Accept': 'text/plain'}).text, sep='')"
    )
    environment = {"PYTHONPATH": f"{made.service}/src:packages/chassis/src", "PYTHONDONTWRITEBYTECODE": "1"}
    if made.database:  # it is not asked
        environment[f"{made.package.upper()}_DATABASE_URL"] = "postgresql://nobody@127.0.0.1:1/none"
    said = run(made.copy, PYTHON, "-c", ask, **environment)
    own = set(re.findall(rf"^# TYPE ({made.package}_[a-z_]+?)(?:_total)? ", said, re.MULTILINE))
    # These are there where a container has a limit.
    own |= {f"{made.package}_{name}" for name in ("cpu_periods", "cpu_throttled_periods", "cpu_throttled_seconds")}
    rendered = render(*sets("prometheusRule.enabled=true", "dashboard.enabled=true"), chart=made.chart)
    (text,) = one("ConfigMap", rendered)["data"].values()
    dashboard = json.loads(text)
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
    asked += [rule["expr"] for group in one("PrometheusRule", rendered)["spec"]["groups"] for rule in group["rules"]]
    named = {re.sub("_(total|bucket)$", "", name) for expression in asked for name in metrics_of(expression)}
    of_its_own = {name for name in named if name.startswith(f"{made.package}_")}
    assert {f"{made.package}_health_status", f"{made.package}_cpu_periods"} <= of_its_own <= own


# --- who finds it ---------------------------------------------------------------------


def test_make_scripts_and_tilt_find_both_by_their_folders(both: dict[tuple[str, str], Made], copy: Path) -> None:
    names = [name for name, _ in both]
    assert run(copy, "bash", "-c", ". scripts/cluster.sh && deployable_services").split() == names
    assert f"scripts/test.sh {' '.join(names)}\n" in run(copy, "make", "--dry-run", "test")
    assert f"scripts/lint.sh {' '.join(names)}\n" in run(copy, "make", "--dry-run", "lint")
    tilt = Tilt(copy, "kind-task-platform").read()
    assert list(tilt.builds) == names
    assert tilt.uncategorized() == set()


def test_a_changed_line_is_in_the_image_of_its_service_and_one_of_the_chassis_in_each(
    both: dict[tuple[str, str], Made], copy: Path
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


def test_no_service_is_needed_to_make_one(untouched: Path) -> None:
    assert not [*untouched.glob("services/*/src")]
    said = run(untouched, "make", "new-service", "NAME=orders", "DATABASE=postgresql")
    Made(untouched, "orders", "postgresql").remove()
    assert "make run SERVICE=orders" in said
    assert "Installing" not in said


# --- an app from elsewhere ------------------------------------------------------------

APP = '''"""A shop, as FastAPI's own pages would write it."""

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
ASK = """
from starlette.testclient import TestClient
from chassis.app import create_app
from shop.service import Shop

with TestClient(create_app(Shop)) as client:
    for path in ("/items", "/items/1", "/items/9", "/items?most=0", "/readyz"):
        answer = client.get(path)
        print(path, answer.status_code, answer.headers["content-type"].partition(";")[0])
"""


def test_a_fastapi_app_is_a_service_after_the_commands_of_the_page(untouched: Path, tmp_path: Path) -> None:
    (block,) = commands_run_by("platform/tests/test_new_service.py", "docs/extend.md")
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop/main.py").write_text(APP)
    made = Made(untouched, "shop", "")
    try:
        run(untouched, "bash", "-euc", block.commands, **(os.environ | {"HOME": str(tmp_path)}))
        environment = {"PYTHONPATH": f"{made.service}/src:packages/chassis/src", "PYTHONDONTWRITEBYTECODE": "1"}
        assert run(untouched, PYTHON, "-c", ASK, **environment).splitlines() == [
            "/items 200 application/json",
            "/items/1 200 application/json",
            "/items/9 404 application/problem+json",
            "/items?most=0 422 application/problem+json",
            "/readyz 200 text/plain",
        ]
        run(untouched, untouched / ".venv/bin/ruff", "check", made.service)
        (made.service / "openapi.json").write_text(run(untouched, PYTHON, "-m", "shop", "openapi", **environment))
        documents.check(made.service, str(PYTHON))
    finally:
        made.remove()


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
def test_a_name_that_cannot_be_is_refused_in_one_line(untouched: Path, name: str, why: str) -> None:
    before = state(untouched)
    done = new_service(untouched, name)
    assert (done.returncode, done.stdout) == (1, "")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert state(untouched) == before


def test_a_database_that_no_skeleton_has_is_refused_in_one_line(untouched: Path) -> None:
    done = new_service(untouched, "orders", "--database", "mysql")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "No skeleton for DATABASE=mysql: use postgresql, or omit DATABASE.\n"


def test_a_second_time_is_refused_and_changes_nothing(untouched: Path) -> None:
    made = make(untouched, "orders", "")
    file = made.service / "src/orders/hello.py"
    file.write_text("# changed since\n")
    try:
        done = new_service(untouched, "orders")
        assert done.returncode == 1
        assert "NAME=orders is in use: services/orders exists." in done.stderr
        assert file.read_text() == "# changed since\n"
    finally:
        made.remove()


@EACH
def test_the_longest_name_breaks_no_line(made: Made, untouched: Path) -> None:
    longest = make(untouched, "abcdefghij-klmnopqrs", made.database)
    try:
        for arguments in (["check"], ["format", "--check"]):
            run(untouched, untouched / ".venv/bin/ruff", *arguments, longest.service)
    finally:
        longest.remove()


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


@pytest.mark.parametrize("name", ["my-your-service", "your-service-two", "sub-title-package"])
@pytest.mark.parametrize("database", SKELETONS)
def test_a_name_that_contains_another_is_whole_wherever_it_stands(untouched: Path, name: str, database: str) -> None:
    made = make(untouched, name, database)
    try:
        for file in made.files():
            text = file.read_text()
            for right in forms(name).values():
                text = text.replace(right, "")
            assert not re.search(r"your[-_ ]?service", text, re.IGNORECASE), file
        helm_template(chart=made.chart).check_returncode()
        documents.check(made.service, str(PYTHON))
    finally:
        made.remove()
