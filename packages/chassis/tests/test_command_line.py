"""A service as a process: startup, shutdown and error messages."""

from __future__ import annotations

import errno
import re
import signal
import socket
import subprocess
from pathlib import Path

import httpx2
import pytest
from hello.service import Hello
from programs import DEADLINE_SECONDS
from running import NOTES, PROGRAM, environment, refused, serving

from chassis.command_line import main
from chassis.server import CannotListen, listen
from chassis.service import Command
from chassis.settings import read_settings


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_with_an_idle_connection_open(sig: signal.Signals) -> None:
    with serving() as service, httpx2.Client(base_url=service.url) as client:
        assert client.get("/livez").text == "ok"  # and the connection stays open
        assert service.stop(sig) == 0


def test_a_signal_ends_it_while_it_waits_for_its_database() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never responds
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


def test_it_serves_on_every_socket_of_its_parent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("::1", 0), family=socket.AF_INET6) as two:
        listeners = (one.fileno(), two.fileno())
        command = [*PROGRAM.serve, *(f"--fd={fd}" for fd in listeners)]
        process = subprocess.Popen(command, env=environment(), pass_fds=listeners)
        try:
            for host, port in (("127.0.0.1", one.getsockname()[1]), ("[::1]", two.getsockname()[1])):
                assert httpx2.get(f"http://{host}:{port}/livez", timeout=DEADLINE_SECONDS).text == "ok"
        finally:
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) == 0


def test_two_colons_are_every_address_of_both_families() -> None:
    with serving(HELLO_HOST="::") as service:
        port = httpx2.URL(service.url).port
        for host in ("127.0.0.1", "[::1]"):
            assert httpx2.get(f"http://{host}:{port}/v1/hello").status_code == 200
        assert service.stop() == 0
    clients = re.findall(r'"client": ?"([^"]*)"', "".join(service.log))
    assert clients == ["127.0.0.1", "::1"], "none as ::ffff:127.0.0.1, which matches no address rule"


def test_an_image_may_say_where_to_listen_and_the_setting_says_otherwise() -> None:
    """The image's command sets a default; a setting overrides it."""
    with serving("--default-host", "::1") as by_image:
        assert httpx2.URL(by_image.url).host == "::1"
    with serving("--default-host", "::1", HELLO_HOST="127.0.0.1") as by_setting:
        assert httpx2.URL(by_setting.url).host == "127.0.0.1"


def test_where_a_family_is_switched_off_the_other_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutIPv6(socket.socket):
        def __init__(self, family: int, kind: int) -> None:
            if family == socket.AF_INET6:  # as a kernel started with ipv6.disable=1 says
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, kind)

    monkeypatch.setattr(socket, "socket", WithoutIPv6)
    (listener,) = listen(read_settings(Hello.settings, host="::", port=0))
    with listener:
        assert listener.family == socket.AF_INET
    with pytest.raises(CannotListen, match=r"\[::1\]:0: Address family not supported"):
        listen(read_settings(Hello.settings, host="::1", port=0))


def test_a_taken_port_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = refused("serve", "--port", str(port))
    assert f"Port {port} on 127.0.0.1 is already in use" in error
    assert "HELLO_PORT=" in error


def test_a_mode_without_its_settings_is_one_line_that_names_them() -> None:
    error = refused("serve", HELLO_AUTH="tokens")
    assert "HELLO_AUTH_TOKEN_FILE" in error


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("HELLO_PORT", "http", "valid integer"),
        ("HELLO_PORT", "70000", "less than or equal to 65535"),
        ("HELLO_HOST", "nohost.invalid", "is not an address or host name of this machine"),
    ],
)
def test_a_wrong_setting_is_one_line_with_its_name_and_rule(name: str, value: str, rule: str) -> None:
    error = refused("serve", **{name: value})
    assert error.startswith(name)
    assert rule in error


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("NOTES_DATABASE_URL", "mysql://me:hunter2@db/notes", "must begin with postgresql://"),
        ("NOTES_DATABASE_URL", "postgresql:///hunter2", "must name the host"),
        ("NOTES_DATABASE_URL", "postgresql://me:hunter2/3@db/notes", "%2F"),
        ("NOTES_DATABASE_URL", "postgresql://me:12/hunter2@db/notes", "%2F"),
        ("NOTES_DATABASE_URL", "postgresql://me:12?hunter2@db/notes", "%3F"),
        ("NOTES_DATABASE_URL", "postgresql://me:12#hunter2@db/notes", "%23"),
        ("NOTES_DATABASE_URL", "postgresql://me:hunter2\N{ACCOUNT OF}@db/notes", "not a valid URL"),
        ("NOTES_DATABASE_URL", "postgresql://me:hunter2@db:http/notes", "host:port"),
        ("NOTES_DATABASE_URL", "postgresql://me:hunter2@[::1/notes", "not a valid URL"),
        ("NOTES_DATABASE_STATEMENT_SECONDS", "6", "more than NOTES_DATABASE_SECONDS, which is 5"),
        ("NOTES_DATABASE_LOCK_SECONDS", "3", "more than NOTES_DATABASE_STATEMENT_SECONDS, which is 2"),
    ],
)
def test_a_wrong_setting_of_the_database_is_one_line_with_its_name_and_rule_but_not_its_value(
    name: str, value: str, rule: str
) -> None:
    error = NOTES.refused("serve", **{name: value})
    assert error.startswith(name)
    assert rule in error
    assert "hunter2" not in error


def test_a_url_with_several_hosts_is_taken_and_the_first_that_answers_is_used(postgres_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as nobody:
        url = re.sub(r"@([^/]+)/", rf"@127.0.0.1:{nobody.getsockname()[1]},\1/", postgres_url)
    done = NOTES.run("migrate", NOTES_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr


def test_a_command_of_the_service_gets_what_was_typed_for_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def keep(service: Hello, file: str) -> None:
        calls.append((service.name, file))

    class Keeping(Hello):
        commands = (Command("keep", "keeps it", keep, {"file": "where"}),)

    monkeypatch.setattr("sys.argv", ["hello", "keep", "a file"])
    assert main(Keeping) == 0
    assert calls == [("hello", "a file")]


def test_a_new_token_opens_the_api_that_has_its_line(tmp_path: Path) -> None:
    done = PROGRAM.run("token", "new", "--name", "ann", "--scope", "read")
    assert done.returncode == 0
    (tmp_path / "tokens").write_text(done.stdout)
    (token,) = re.findall(r"once: (\S+)", done.stderr)
    settings = {"HELLO_AUTH": "tokens", "HELLO_AUTH_TOKEN_FILE": str(tmp_path / "tokens")}
    with serving(**settings) as service, httpx2.Client(base_url=service.url) as client:
        refused = client.get("/v1/hello")
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, 'Bearer realm="hello"')
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/v1/hello").status_code == 200
        assert client.post("/v1/hello", json={"name": "x"}).status_code == 403
        assert client.get("/health", headers={"Authorization": ""}).status_code == 200
