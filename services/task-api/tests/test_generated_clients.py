"""Clients generated from openapi.json, type-checked and run against the service; and OpenAPI linters.

tests/clients pins the generators and checkers, which come from the registries of npm, Go and Python.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import SERVICE, Service, serving

CLIENTS = SERVICE / "tests/clients"
DOCUMENT = SERVICE / "openapi.json"
TOUR = SERVICE.parents[1] / "docs/tour.md"
NODE = CLIENTS / "node_modules"

pytestmark = [pytest.mark.full, pytest.mark.timeout(1200)]


def run(*command: str | Path, cwd: Path, **settings: str) -> str:
    """The output of the command; fails with it if the command fails."""
    done = subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "REDOCLY_TELEMETRY": "off", "REDOCLY_SUPPRESS_UPDATE_NOTICE": "true", **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="module")
def npm() -> None:
    """The packages of package-lock.json, installed unless they are there."""
    installed, lock = NODE / ".package-lock.json", CLIENTS / "package-lock.json"
    with lock.open() as held:
        fcntl.flock(held, fcntl.LOCK_EX)  # two pytest workers would remove each other's installation
        if not installed.exists() or installed.stat().st_mtime < lock.stat().st_mtime:
            run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=CLIENTS)
            installed.touch()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(TASKS_DATABASE_URL=f"sqlite:///{tmp_path}/tasks.db") as running:
        yield running


def test_a_client_in_python(service: Service, tmp_path: Path) -> None:
    env = tmp_path / "env"
    run("scripts/install.sh", env, CLIENTS / "requirements.txt", env / "stamp", cwd=SERVICE.parents[1])
    folder = tmp_path / "client"
    folder.mkdir()
    shutil.copy(CLIENTS / "client.py", folder)
    made = ("openapi-python-client", "generate", "--path", DOCUMENT, "--meta", "none", "--fail-on-warning")
    path = f"{env / 'bin'}{os.pathsep}{os.environ['PATH']}"  # it formats its output with ruff
    run(env / "bin" / made[0], *made[1:], "--output-path", folder / "tasks_client", cwd=folder, PATH=path)
    # The generator's own modules do not type-check: `__exit__` takes `object`s.
    run(env / "bin/mypy", "--strict", "--follow-imports", "silent", "client.py", cwd=folder)
    run(env / "bin/python", "client.py", service.url, secrets.token_hex(), cwd=folder)  # authentication is off


@pytest.mark.node
@pytest.mark.usefixtures("npm")
def test_a_client_in_typescript(service: Service, tmp_path: Path) -> None:
    for file in ("client.ts", "tsconfig.json", "package.json"):
        shutil.copy(CLIENTS / file, tmp_path)
    (tmp_path / "node_modules").symlink_to(NODE)
    (block,) = re.findall(r"```ts\n(.*?)```", TOUR.read_text(), re.DOTALL)
    assert "http://127.0.0.1:8000" in block
    (tmp_path / "tour.ts").write_text(block.replace("http://127.0.0.1:8000", service.url))
    run(NODE / ".bin/openapi-typescript", DOCUMENT, "--output", tmp_path / "schema.d.ts", cwd=CLIENTS)
    run(NODE / ".bin/tsc", cwd=tmp_path)
    run("node", "out/client.js", service.url, cwd=tmp_path)
    assert run("node", "out/tour.js", cwd=tmp_path) == "Call the plumber is in_progress (40 % done)\n"


@pytest.mark.go
def test_a_client_in_go(service: Service, tmp_path: Path) -> None:
    for file in ("main.go", "go.mod", "go.sum", "oapi-codegen.yaml"):
        shutil.copy(CLIENTS / file, tmp_path)
    (tmp_path / "api").mkdir()
    run("go", "tool", "oapi-codegen", "-config", "oapi-codegen.yaml", DOCUMENT, cwd=tmp_path)
    run("go", "vet", "./...", cwd=tmp_path)
    run("go", "run", ".", service.url, cwd=tmp_path)


@pytest.mark.node
@pytest.mark.usefixtures("npm")
def test_the_openapi_linters_find_no_errors() -> None:
    """With their recommended rules; exceptions are explained in their files here."""
    run(NODE / ".bin/redocly", "lint", "--config", "redocly.yaml", "--max-problems", "1000", DOCUMENT, cwd=CLIENTS)
    output = run(NODE / ".bin/redocly", "lint", "--config", "redocly.yaml", "--format", "json", DOCUMENT, cwd=CLIENTS)
    assert '"warnings": 0' in output
    run(NODE / ".bin/spectral", "lint", "--ruleset", "spectral.yaml", "--fail-severity", "hint", DOCUMENT, cwd=CLIENTS)
