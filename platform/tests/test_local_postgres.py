"""`make run` of a service with PostgreSQL, by scripts/run.sh: which database it uses, and that its data is kept."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from manifests import REPOSITORY
from scripts.new_service import SKELETONS, copy, forms

NAME, URL = "order-notes", "ORDER_NOTES_DATABASE_URL"
LISTENING = re.compile(r"Listening on http://([\d.:]+)")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a service made from the skeleton, and the files that scripts/run.sh needs."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "packages").symlink_to(REPOSITORY / "packages")
    (tmp_path / "versions.env").symlink_to(REPOSITORY / "versions.env")
    service = tmp_path / "services" / NAME
    copy(SKELETONS["postgresql"] / "service", service, REPOSITORY / "services" / NAME, forms(NAME))
    (service / ".venv").symlink_to(REPOSITORY / "packages/chassis/.venv")
    return tmp_path


def environment(folder: Path, docker: str = "") -> dict[str, str]:
    """docker: a script that replaces it."""
    variables = os.environ | {"SERVICE": NAME, "ORDER_NOTES_PORT": "0"}
    if docker:
        (folder / "bin").mkdir()
        (folder / "bin/docker").write_text(f"#!/bin/sh\n{docker}\n")
        (folder / "bin/docker").chmod(0o755)
        variables["PATH"] = f"{folder / 'bin'}:{variables['PATH']}"
    return variables


def restore_sigint() -> None:
    """A shell starts background processes with SIGINT ignored, which their children inherit."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def serve(folder: Path, *, end: signal.Signals) -> Iterator[str]:
    """The service's address until it is stopped. The signal is sent only to the script."""
    command: list[str | Path] = [folder / "scripts/run.sh", "serve"]
    with subprocess.Popen(
        command, env=environment(folder), text=True, stderr=subprocess.PIPE, preexec_fn=restore_sigint
    ) as script:
        assert script.stderr is not None
        try:
            lines_ = []
            for line in script.stderr:
                lines_.append(line)
                if listening := LISTENING.search(line):
                    yield listening[1]
                    break
            else:
                pytest.fail("".join(lines_))
        finally:
            script.send_signal(end)
            script.stderr.read()
        assert script.wait(60) == 0


def request(address: str, body: dict[str, str] | None = None) -> Any:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        data = None if body is None else json.dumps(body)
        connection.request("GET" if data is None else "POST", "/v1/notes", data, {"Content-Type": "application/json"})
        return json.load(connection.getresponse())


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.docker
def test_notes_survive_a_restart_and_the_database_stops_with_the_service(folder: Path) -> None:
    settings_file = folder / f".data/{NAME}-postgres.env"
    try:
        with serve(folder, end=signal.SIGINT) as address:
            note = request(address, {"text": "Milk"})
            lines = dict(line.split("=") for line in settings_file.read_text().splitlines())
            assert docker("port", lines["VOLUME"]).startswith("5432/tcp -> 127.0.0.1:")
            arguments = json.loads(docker("inspect", "--format", "{{json .Args}}", lines["VOLUME"]))
            assert lines["POSTGRES_PASSWORD"] not in str(arguments)
        assert settings_file.stat().st_mode & 0o777 == 0o600
        assert docker("ps", "--all", "--quiet", "--filter", f"name={lines['VOLUME']}") == ""
        with serve(folder, end=signal.SIGTERM) as address:
            assert request(address) == [note]
        assert docker("ps", "--all", "--quiet", "--filter", f"name={lines['VOLUME']}") == ""
    finally:
        if settings_file.exists():
            (volume,) = re.findall(r"^VOLUME=(.+)$", settings_file.read_text(), re.MULTILINE)
            subprocess.run(["docker", "rm", "--force", volume], capture_output=True, check=False)
            docker("volume", "rm", "--force", volume)


def run(folder: Path, *arguments: str, docker: str, **settings: str) -> subprocess.CompletedProcess[str]:
    variables = environment(folder, docker) | settings
    command: list[str | Path] = [folder / "scripts/run.sh", *arguments]
    return subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=False)


def test_without_docker_one_line_says_what_to_do(folder: Path) -> None:
    done = run(folder, "serve", docker="exit 1")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"Start Docker (see make doctor), or use another PostgreSQL: {URL}=" in done.stderr
    assert not (folder / ".data").exists()


def test_configured_database_is_used(folder: Path) -> None:
    unreachable = {URL: "postgresql://nobody@127.0.0.1:1/none", "ORDER_NOTES_DATABASE_WAIT_SECONDS": "0"}
    done = run(folder, "serve", docker="echo docker was called >&2", **unreachable)
    assert "PostgreSQL at 127.0.0.1:1/none cannot be reached" in done.stderr
    assert "docker was called" not in done.stderr


def test_command_that_needs_no_database_starts_none(folder: Path) -> None:
    done = run(folder, "openapi", docker="echo docker was called >&2")
    assert done.stderr == ""
    assert json.loads(done.stdout)["info"]["title"] == "Order Notes API"


def test_database_in_use_by_another_run_is_left_alone(folder: Path) -> None:
    done = run(folder, "serve", docker="case $1 in ps) echo 0123456789ab ;; info) ;; *) echo $1 was called >&2 ;; esac")
    assert done.returncode == 1
    assert re.fullmatch(r"The PostgreSQL of order-notes is already running\. .*: docker rm --force \S+\n", done.stderr)
