"""Live update: the `dev` stage, run as in the Tiltfile and updated as by Tilt. Needs only Docker."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable

import httpx2
import pytest
from e2e.conftest import SUMMARY
from e2e.dev_container import INIT, PACKAGE, RELOAD_LINE, median, running, timed_save
from e2e.eventually import eventually
from e2e.example import LOAD_PATH, ROUTE
from under_test import PACKAGE as MODULE

SAVES = 10


@pytest.mark.parametrize(
    "nano_cpus",
    [
        pytest.param(None, id="without a CPU limit"),
        pytest.param(500_000_000, id="with 500m of a CPU", marks=pytest.mark.full),
    ],
)
def test_saved_line_is_served(
    dev_image: str,
    nano_cpus: int | None,
    request: pytest.FixtureRequest,
    record_property: Callable[[str, object], None],
) -> None:
    with running(dev_image, nano_cpus) as dev:
        # Same length, same second: a bytecode cache keyed by size and time would serve the old one.
        saves = [timed_save(dev, f"9.9.{number}", dev.save_version) for number in range(SAVES)]
    summary = f"Median of {SAVES} saves {request.node.callspec.id}, back to back: {median(saves)}"
    record_property(SUMMARY, summary)


def test_saved_line_of_the_chassis_is_served(dev_image: str) -> None:
    module = "app/src/chassis/health.py"
    with running(dev_image) as dev:
        dev.save({module: dev.read(module).replace('return "ok"', 'return "changed"')})
        eventually(lambda: (response := dev.get("/livez")) is not None and response.text == "changed", "it is served")


@pytest.mark.parametrize(
    ("line", "error"),
    [
        pytest.param("def", "SyntaxError", id="cannot be parsed"),
        pytest.param("raise RuntimeError('not today')", "RuntimeError: not today", id="fails when it is imported"),
        pytest.param("import os; os.abort()", "killed by signal 6", id="ends the process"),
    ],
)
def test_error_is_returned_for_every_request_until_it_is_fixed(dev_image: str, line: str, error: str) -> None:
    with running(dev_image) as dev:
        dev.save({INIT: line + "\n"})
        dev.fails(error)
        for response in (httpx2.get(f"{dev.url}/livez"), httpx2.post(f"{dev.url}{ROUTE}", json={"title": "x"})):
            assert response.status_code == 500
            assert response.headers["content-type"] == "text/plain; charset=utf-8"
            assert error in response.text
        dev.save_version("9.9.9")
        dev.serves("9.9.9")


def test_files_are_added_and_removed(dev_image: str) -> None:
    with running(dev_image) as dev:
        dev.save({f"{PACKAGE}/added/number.py": "NUMBER = '7.7.7'\n"})
        dev.save({INIT: f"from {PACKAGE.split('/')[-1]}.added.number import NUMBER as __version__\n"})
        dev.serves("7.7.7")
        dev.save({f"{PACKAGE}/added/number.py": "NUMBER = '7.7.8'\n"})
        dev.serves("7.7.8")
        dev.save_version("8.8.8")
        dev.delete(f"{PACKAGE}/added")
        dev.serves("8.8.8")
        with pytest.raises(AssertionError, match="No such file"):
            dev.read(f"{PACKAGE}/added/number.py")


def test_many_files_at_once_cause_few_reloads(dev_image: str) -> None:
    """As by `git checkout`."""
    with running(dev_image) as dev:
        added = {f"{PACKAGE}/file_{number}.py": f"NUMBER = {number}\n" for number in range(20)}
        dev.save(added | {INIT: f"from {MODULE}.file_19 import NUMBER\n\n__version__ = str(NUMBER)\n"})
        dev.serves("19")
        assert dev.log().count(RELOAD_LINE) < len(added) / 2


def test_file_replaced_by_a_rename_is_noticed(dev_image: str) -> None:
    """Editors and Git save like that."""
    with running(dev_image) as dev:
        dev.save({"app/src/new": '__version__ = "5.5.5"\n'})
        dev.run("mv", "/app/src/new", f"/{INIT}")
        dev.serves("5.5.5")


def test_clients_wait_during_a_reload(dev_image: str) -> None:
    refused: list[httpx2.ConnectError] = []
    done = threading.Event()
    with running(dev_image) as dev:

        def send_requests() -> None:
            while not done.is_set():
                try:
                    httpx2.get(f"{dev.url}/livez", timeout=30)
                except httpx2.ConnectError as error:
                    refused.append(error)
                except httpx2.TransportError:
                    pass  # terminated in the middle of the response

        client = threading.Thread(target=send_requests)
        client.start()
        for number in range(3):
            dev.save_version(f"9.9.{number}")
            dev.serves(f"9.9.{number}")
        done.set()
        client.join()
    assert refused == []


def test_no_thread_runs_when_the_next_process_is_forked(dev_image: str) -> None:
    with running(dev_image) as dev:
        dev.save_version("9.9.9")
        dev.serves("9.9.9")
        assert "\nThreads:\t1\n" in dev.read("proc/1/status")


def test_requests_are_logged_but_no_probes(dev_image: str) -> None:
    with running(dev_image) as dev:
        for path in ("/livez", "/readyz", "/metrics", "/health", LOAD_PATH):
            assert httpx2.get(f"{dev.url}{path}").status_code == 200
        eventually(lambda: f'"path":"{ROUTE}"' in dev.log(), "the request is in the log")
        assert not {"/livez", "/readyz", "/metrics", "/health"} & set(re.findall(r'"path":"([^"]*)"', dev.log()))


def test_signal_terminates_every_process(dev_image: str) -> None:
    with running(dev_image) as dev:
        assert dev.stop() == 0


def test_only_the_code_belongs_to_its_user(dev_image: str) -> None:
    with running(dev_image) as dev, pytest.raises(AssertionError, match="Cannot open"):
        dev.save({"opt/venv/bin/app": "#!/bin/sh\n"})
