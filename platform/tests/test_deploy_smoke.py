"""How scripts/deploy/smoke.py verifies a release: its waiting in simulated time, a pod and a URL with real processes
and servers."""

from __future__ import annotations

import dataclasses
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from scripts.deploy import processes
from scripts.deploy import smoke as smoke_module
from scripts.deploy.processes import Cancelled, Failed
from scripts.deploy.settings import Settings
from scripts.deploy.smoke import check_pod, check_url, soak, wait_for_commit

PUBLIC = "https://example.org"
START = 1000.0


class Release:
    """Its pods in simulated time, in which only waiting takes time."""

    def __init__(self) -> None:
        self.now = START
        self.pods: Callable[[], list[str]] = lambda: ["pod-1", "pod-2"]
        self.problem: Callable[[str], str] = lambda _: ""
        """By pod or URL."""
        self.restarts: Callable[[], dict[str, int]] = lambda: {"pod-1": 0, "pod-2": 3}
        self.verified: list[float] = []
        """When the pods were verified, in seconds since the start."""

    @property
    def seconds(self) -> float:
        return self.now - START

    def wait(self, seconds: float) -> None:
        assert seconds > 0
        self.now += seconds

    def monotonic(self) -> float:
        return self.now

    def list_pods(self, _: Settings) -> list[Any]:
        self.verified.append(self.seconds)
        assert len(self.verified) < 1000, "it does not wait between two checks"
        return [{"metadata": {"name": name}} for name in self.pods()]

    def check(self, name: str, commit: str) -> str:
        assert commit == "abc"
        return self.problem(name)


@pytest.fixture
def release(monkeypatch: pytest.MonkeyPatch) -> Release:
    release = Release()
    monkeypatch.setattr(smoke_module, "time", release)
    monkeypatch.setattr(smoke_module, "wait", release.wait)
    monkeypatch.setattr(smoke_module, "pods", release.list_pods)
    monkeypatch.setattr(smoke_module, "check_pod", release.check)
    monkeypatch.setattr(smoke_module, "check_url", release.check)
    monkeypatch.setattr(smoke_module, "restarts", lambda _: release.restarts())
    return release


def settings(smoke_timeout: int = 60, soak_time: int = 0, production_url: str = "") -> Settings:
    defaults = Settings.from_env("task-api", "")
    return dataclasses.replace(
        defaults, smoke_timeout=smoke_timeout, soak_time=soak_time, production_url=production_url
    )


# --- waiting for the commit -----------------------------------------------------------


def test_pods_have_time_until_they_serve_the_commit(release: Release) -> None:
    """Old ones still end after Helm's wait."""
    release.problem = lambda name: "it serves another" if name == "pod-2" and release.seconds < 3 else ""
    assert wait_for_commit(settings(), "abc") == 2
    assert release.verified == [0, 1, 2, 3]


def test_public_address_has_time_until_it_serves_the_commit(release: Release) -> None:
    release.problem = lambda name: "it serves another" if name == PUBLIC and release.seconds < 3 else ""
    assert wait_for_commit(settings(production_url=PUBLIC), "abc") == 2
    assert release.seconds == 3


def test_release_without_pods_is_not_verified(release: Release) -> None:
    release.pods = list
    with pytest.raises(Failed, match=r"Verifying commit abc failed after 3 s:\nno pods$"):
        wait_for_commit(settings(smoke_timeout=3), "abc")
    assert release.verified == [0, 1, 2, 3, 4]


def test_last_problems_of_pods_and_public_address_are_reported(release: Release) -> None:
    release.problem = lambda name: f"{name} is bad" if name != "pod-1" else ""
    with pytest.raises(Failed) as failure:
        wait_for_commit(settings(smoke_timeout=3, production_url=PUBLIC), "abc")
    assert str(failure.value).splitlines()[1:] == ["pod-2 is bad", f"{PUBLIC} is bad"]


# --- soak time ------------------------------------------------------------------------


def test_soaking_verifies_every_five_seconds_and_at_the_end(
    release: Release, capsys: pytest.CaptureFixture[str]
) -> None:
    soak(settings(soak_time=66), "abc")
    assert release.verified == [*range(5, 66, 5), 66]
    assert capsys.readouterr().out.splitlines() == [
        "Soaking for 66 s",
        "Soaking: 30 of 66 s",
        "Soaking: 60 of 66 s",
    ]


def test_restart_in_the_last_interval_fails_the_deploy(release: Release) -> None:
    release.restarts = lambda: {"pod-1": 0, "pod-2": 3 if release.seconds < 6 else 4}
    with pytest.raises(Failed, match=r"A container of pod-2 restarted within the first 7 s of soak time\."):
        soak(settings(soak_time=7), "abc")


@pytest.mark.parametrize(("restarts", "fails"), [(0, False), (1, True)])
def test_restarts_of_a_pod_that_started_while_soaking_count(release: Release, restarts: int, *, fails: bool) -> None:
    release.restarts = lambda: {"pod-1": 0} if release.seconds == 0 else {"pod-1": 0, "pod-3": restarts}
    if fails:
        with pytest.raises(Failed, match="A container of pod-3 restarted"):
            soak(settings(soak_time=5), "abc")
    else:
        soak(settings(soak_time=5), "abc")


def test_pods_that_stop_serving_while_soaking_fail_the_deploy(release: Release) -> None:
    release.problem = lambda name: f"{name} is bad" if release.seconds > 20 else ""
    with pytest.raises(Failed, match="Verifying commit abc failed after 3 s"):
        soak(settings(smoke_timeout=3, soak_time=60), "abc")


def test_without_soak_time_nothing_is_queried(release: Release, capsys: pytest.CaptureFixture[str]) -> None:
    soak(settings(), "abc")
    assert (release.verified, capsys.readouterr().out) == ([], "")


# --- a pod and a URL ------------------------------------------------------------------


@pytest.fixture
def timeout(monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(smoke_module, "RESPONSE_TIMEOUT", 0.5)
    return 0.5


@contextmanager
def server(body: bytes = b"", *, endless: bool = False) -> Iterator[str]:
    """Responds with this, and with spaces that do not end."""
    done = threading.Event()

    class Health(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(10_000 if endless else len(body)))
            self.end_headers()
            self.wfile.write(body)
            while endless and not done.wait(0.05):
                self.wfile.write(b" ")

        def log_message(self, *_: object) -> None:
            """Silent."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Health) as health:
        thread = threading.Thread(target=health.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"http://127.0.0.1:{health.server_port}"
        finally:
            done.set()
            health.shutdown()
            thread.join()


@pytest.fixture
def kubectl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes kubectl this shell script."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    def write(script: str) -> None:
        (tmp_path / "kubectl").write_text(f"#!/usr/bin/env bash\n{script}\n")
        (tmp_path / "kubectl").chmod(0o755)

    return write


def test_pod_is_queried_by_a_port_forward(kubectl: Callable[[str], None]) -> None:
    with server(b'{"revision": "abc"}') as url:
        port = url.rpartition(":")[2]
        # In two pieces, as a pipe may deliver it.
        kubectl(f"printf 'Forwarding from 127.0.0.1'; sleep 0.2; echo ':{port} -> 8000'; exec sleep 60")
        assert check_pod("pod-1", "abc") == ""
        assert check_pod("pod-1", "def") == f"pod-1: {url}/health reports commit abc"


@pytest.mark.usefixtures("timeout")
@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo Unable to listen; echo error: pod not found >&2; exit 1", "error: pod not found"),
        ("echo Unable to listen; exec sleep 60", "Unable to listen"),
        ("printf 'Forwarding from'; exec sleep 60", "Forwarding from"),
        ("exec sleep 60", "no port-forward within 0.5 s"),
    ],
)
def test_failed_port_forward_is_reported_with_its_output(
    kubectl: Callable[[str], None], script: str, problem: str
) -> None:
    kubectl(script)
    assert check_pod("pod-1", "abc") == f"pod-1: {problem}"


def test_port_forward_that_ends_is_not_waited_for(
    kubectl: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl("echo error: pod not found >&2; exit 1")
    looks = count()

    class Clock:
        @staticmethod
        def monotonic() -> float:
            assert next(looks) < 200, "it waits for the whole timeout"
            return time.monotonic()

    monkeypatch.setattr(smoke_module, "time", Clock)
    assert check_pod("pod-1", "abc") == "pod-1: error: pod not found"


def test_signal_is_handled_while_nothing_responds(
    kubectl: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl("exec sleep 60")
    monkeypatch.setattr(processes, "signals_received", [signal.SIGTERM])
    with pytest.raises(Cancelled):
        check_pod("pod-1", "abc")
    with server(endless=True) as url, pytest.raises(Cancelled):
        check_url(url, "abc")


@pytest.mark.parametrize(
    ("body", "error"),
    [(b"{}", "KeyError: 'revision'"), (b"[]", "TypeError: "), (b"<html>", "JSONDecodeError: ")],
)
def test_invalid_response_is_reported(body: bytes, error: str) -> None:
    with server(body) as url:
        assert check_url(url, "abc").startswith(f"{url}/health: {error}")


def test_refused_connection_is_reported() -> None:
    with server() as url:
        pass
    assert check_url(url, "abc").startswith(f"{url}/health: URLError: ")


def test_any_response_passes_without_a_commit() -> None:
    with server(b'{"revision": "abc"}') as url:
        assert check_url(url, "") == ""


def test_response_that_does_not_end_is_cut_off(timeout: float) -> None:
    before = set(threading.enumerate())
    with server(b'{"revision": "abc"}', endless=True) as url:
        assert check_url(url, "abc") == f"{url}/health: no response within {timeout} s"
        left = [thread for thread in set(threading.enumerate()) - before if "serve_forever" not in thread.name]
        # It would keep the script from exiting.
        assert [thread for thread in left if not thread.daemon] == []
