"""A service as a process: how it starts, stops, and what it says when it cannot."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx2
import pytest
from programs import DEADLINE_SECONDS
from running import NOTES, PROGRAM, environment, refused, serving


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_an_idle_connection_open(sig: signal.Signals) -> None:
    with serving() as service, httpx2.Client(base_url=service.url) as client:
        assert client.get("/livez").text == "ok"  # and the connection is kept
        assert service.stop(sig) == 0


def test_a_signal_ends_it_while_it_waits_for_its_database() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never answers
        url = f"postgresql://me:pw@127.0.0.1:{silent.getsockname()[1]}/notes"
        process = subprocess.Popen([*NOTES.serve, "--port", "0"], env=NOTES.environment(NOTES_DATABASE_URL=url))
        silent.settimeout(DEADLINE_SECONDS)
        connection, _ = silent.accept()
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
        connection.close()


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


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("NOTES_DATABASE_URL", "mysql://me:hunter2@db/notes", "must begin with postgresql://"),
        ("NOTES_DATABASE_URL", "postgresql:///hunter2", "names a host"),
        ("NOTES_DATABASE_URL", "postgresql://me:hunter2/3@db/notes", "%2F"),
        ("NOTES_DATABASE_URL", "postgresql://me:12/hunter2@db/notes", "%2F"),
        ("NOTES_DATABASE_URL", "postgresql://me:12?hunter2@db/notes", "%3F"),
        ("NOTES_DATABASE_URL", "postgresql://me:12#hunter2@db/notes", "%23"),
        ("NOTES_DATABASE_URL", "postgresql://me:hunter2\N{ACCOUNT OF}@db/notes", "cannot be read"),
        ("NOTES_DATABASE_URL", "postgresql://me:hunter2@db:http/notes", "host:port"),
        ("NOTES_DATABASE_URL", "postgresql://me:hunter2@[::1/notes", "cannot be read"),
        ("NOTES_DATABASE_STATEMENT_SECONDS", "6", "more than NOTES_DATABASE_SECONDS, which is 5"),
        ("NOTES_DATABASE_LOCK_SECONDS", "3", "more than NOTES_DATABASE_STATEMENT_SECONDS, which is 2"),
    ],
)
def test_a_wrong_setting_of_the_database_is_one_line_with_its_name_and_rule_but_not_its_value(
    name: str, value: str, rule: str
) -> None:
    said = NOTES.refused("serve", **{name: value})
    assert said.startswith(name)
    assert rule in said
    assert "hunter2" not in said


def test_a_url_with_several_hosts_is_taken_and_the_first_that_answers_is_used(postgres_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = re.sub(r"@([^/]+)/", rf"@127.0.0.1:{nobody.getsockname()[1]},\1/", postgres_url)
    done = NOTES.run("migrate", NOTES_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr


def test_a_new_token_opens_the_api_that_has_its_line(tmp_path: Path) -> None:
    done = PROGRAM.run("token", "new", "--name", "ann", "--scope", "read")
    assert done.returncode == 0
    (tmp_path / "tokens").write_text(done.stdout)
    (token,) = re.findall(r"now: (\S+)", done.stderr)
    settings = {"HELLO_AUTH": "tokens", "HELLO_AUTH_TOKEN_FILE": str(tmp_path / "tokens")}
    with serving(**settings) as service, httpx2.Client(base_url=service.url) as client:
        refused = client.get("/v1/hello")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="hello"')
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/v1/hello").status_code == 200
        assert client.post("/v1/hello", json={"name": "x"}).status_code == 403
        assert client.get("/health", headers={"Authorization": ""}).status_code == 200
