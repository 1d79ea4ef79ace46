"""A service as a process: how it starts, stops, and what it says when it cannot."""

from __future__ import annotations

import signal
import socket
import subprocess

import httpx2
import pytest
from programs import DEADLINE_SECONDS
from running import PROGRAM, environment, refused, serving


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_an_idle_connection_open(sig: signal.Signals) -> None:
    with serving() as service, httpx2.Client(base_url=service.url) as client:
        assert client.get("/livez").text == "ok"  # and the connection is kept
        assert service.stop(sig) == 0


def test_it_serves_on_a_socket_of_its_parent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd, (host, port) = listener.fileno(), listener.getsockname()
        process = subprocess.Popen([*PROGRAM.serve, "--fd", str(fd)], env=environment(), pass_fds=[fd])
        try:
            assert httpx2.get(f"http://{host}:{port}/livez", timeout=DEADLINE_SECONDS).text == "ok"
        finally:
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) == 0


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        said = refused("serve", "--port", str(port))
    assert f"Port {port} on 127.0.0.1 is taken" in said
    assert "HELLO_PORT=" in said


def test_a_mode_without_its_settings_is_one_line_that_names_them() -> None:
    said = refused("serve", HELLO_AUTH="tokens")
    assert "HELLO_AUTH_TOKEN_FILE" in said


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("HELLO_PORT", "http", "valid integer"),
        ("HELLO_PORT", "70000", "less than or equal to 65535"),
        ("HELLO_HOST", "nohost.invalid", "no address of this machine"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name_and_rule(name: str, value: str, rule: str) -> None:
    said = refused("serve", **{name: value})
    assert said.startswith(name)
    assert rule in said
