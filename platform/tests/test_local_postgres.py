"""`make run` of a service with PostgreSQL, by scripts/run.sh: which database it gets, and that its data stays."""

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
    """One with a service of the skeleton's, and what scripts/run.sh needs."""
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "packages").symlink_to(REPOSITORY / "packages")
    (tmp_path / "versions.env").symlink_to(REPOSITORY / "versions.env")
    service = tmp_path / "services" / NAME
    copy(SKELETONS["postgresql"] / "service", service, REPOSITORY / "services" / NAME, forms(NAME))
    (service / ".venv").symlink_to(REPOSITORY / "packages/chassis/.venv")
    return tmp_path


def environment(folder: Path, docker: str = "") -> dict[str, str]:
    """docker: the script that takes its place."""
    given = os.environ | {"SERVICE": NAME, "ORDER_NOTES_PORT": "0"}
    if docker:
        (folder / "bin").mkdir()
        (folder / "bin/docker").write_text(f"#!/bin/sh\n{docker}\n")
        (folder / "bin/docker").chmod(0o755)
        given["PATH"] = f"{folder / 'bin'}:{given['PATH']}"
    return given


def as_on_a_terminal() -> None:
    """What a shell starts in the background ignores SIGINT, and so does all that it starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def served(folder: Path, *, end: signal.Signals) -> Iterator[str]:
    """The address of the service until it is told to end. The signal is for the script alone."""
    command: list[str | Path] = [folder / "scripts/run.sh", "serve"]
    with subprocess.Popen(
        command, env=environment(folder), text=True, stderr=subprocess.PIPE, preexec_fn=as_on_a_terminal
    ) as script:
        assert script.stderr is not None
        try:
            said = []
            for line in script.stderr:
                said.append(line)
                if listening := LISTENING.search(line):
                    yield listening[1]
                    break
            else:
                pytest.fail("".join(said))
        finally:
            script.send_signal(end)
            script.stderr.read()
        assert script.wait(60) == 0


def asked(address: str, body: dict[str, str] | None = None) -> Any:
    with contextlib.closing(http.client.HTTPConnection(address, timeout=30)) as connection:
        data = None if body is None else json.dumps(body)
        connection.request("GET" if data is None else "POST", "/v1/notes", data, {"Content-Type": "application/json"})
        return json.load(connection.getresponse())


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True).stdout


@pytest.mark.docker
def test_notes_are_there_again_after_a_restart_and_the_database_ends_with_the_service(folder: Path) -> None:
    kept = folder / f".data/{NAME}-postgres.env"
    try:
        with served(folder, end=signal.SIGINT) as address:
            note = asked(address, {"text": "Milk"})
            lines = dict(line.split("=") for line in kept.read_text().splitlines())
            assert docker("port", lines["VOLUME"]).startswith("5432/tcp -> 127.0.0.1:")
            arguments = json.loads(docker("inspect", "--format", "{{json .Args}}", lines["VOLUME"]))
            assert lines["POSTGRES_PASSWORD"] not in str(arguments)
        assert kept.stat().st_mode & 0o777 == 0o600
        assert docker("ps", "--all", "--quiet", "--filter", f"name={lines['VOLUME']}") == ""
        with served(folder, end=signal.SIGTERM) as address:
            assert asked(address) == [note]
        assert docker("ps", "--all", "--quiet", "--filter", f"name={lines['VOLUME']}") == ""
    finally:
        if kept.exists():
            (volume,) = re.findall(r"^VOLUME=(.+)$", kept.read_text(), re.MULTILINE)
            subprocess.run(["docker", "rm", "--force", volume], capture_output=True, check=False)
            docker("volume", "rm", "--force", volume)


def run(folder: Path, *arguments: str, docker: str, **settings: str) -> subprocess.CompletedProcess[str]:
    given = environment(folder, docker) | settings
    command: list[str | Path] = [folder / "scripts/run.sh", *arguments]
    return subprocess.run(command, env=given, capture_output=True, text=True, timeout=60, check=False)


def test_without_docker_it_says_in_a_line_what_to_do(folder: Path) -> None:
    done = run(folder, "serve", docker="exit 1")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert f"Start Docker (see make doctor), or use another PostgreSQL: {URL}=" in done.stderr
    assert not (folder / ".data").exists()


def test_a_database_that_is_named_is_the_one_it_gets(folder: Path) -> None:
    nobody = {URL: "postgresql://nobody@127.0.0.1:1/none", "ORDER_NOTES_DATABASE_WAIT_SECONDS": "0"}
    done = run(folder, "serve", docker="echo docker was asked >&2", **nobody)
    assert "PostgreSQL at 127.0.0.1:1/none cannot be reached" in done.stderr
    assert "docker was asked" not in done.stderr


def test_what_needs_no_database_starts_none(folder: Path) -> None:
    done = run(folder, "openapi", docker="echo docker was asked >&2")
    assert done.stderr == ""
    assert json.loads(done.stdout)["info"]["title"] == "Order Notes API"


def test_a_database_that_runs_already_is_not_taken_from_who_uses_it(folder: Path) -> None:
    done = run(folder, "serve", docker="case $1 in ps) echo 0123456789ab ;; info) ;; *) echo $1 was asked >&2 ;; esac")
    assert done.returncode == 1
    assert re.fullmatch(r"The PostgreSQL of order-notes is already running\. .*: docker rm --force \S+\n", done.stderr)
