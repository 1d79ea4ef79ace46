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
from running import NOTES, PROGRAM, environment, expect_error, serving

from chassis.command_line import main
from chassis.server import CannotListen, listen
from chassis.service import Command
from chassis.settings import read_settings


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly_despite_an_idle_connection(sig: signal.Signals) -> None:
    with serving() as service, httpx2.Client(base_url=service.url) as client:
        assert client.get("/livez").text == "ok"  # and the connection stays open
        assert service.stop(sig) == 0


def test_a_signal_stops_it_while_it_waits_for_its_database() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts and never responds
        url = f"postgresql://me:pw@127.0.0.1:{silent.getsockname()[1]}/notes"
        process = subprocess.Popen([*NOTES.serve, "--port", "0"], env=NOTES.environment(NOTES_DATABASE_URL=url))
        silent.settimeout(DEADLINE_SECONDS)
        connection, _ = silent.accept()
        process.terminate()
        assert process.wait(DEADLINE_SECONDS) == 0
        connection.close()


def test_it_serves_on_an_inherited_socket() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        fd, (host, port) = listener.fileno(), listener.getsockname()
        process = subprocess.Popen([*PROGRAM.serve, "--fd", str(fd)], env=environment(), pass_fds=[fd])
        try:
            assert httpx2.get(f"http://{host}:{port}/livez", timeout=DEADLINE_SECONDS).text == "ok"
        finally:
            process.terminate()
            assert process.wait(DEADLINE_SECONDS) == 0


def test_it_serves_on_all_inherited_sockets() -> None:
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


def test_the_unspecified_ipv6_address_listens_on_both_families() -> None:
    with serving(HELLO_HOST="::") as service:
        port = httpx2.URL(service.url).port
        for host in ("127.0.0.1", "[::1]"):
            assert httpx2.get(f"http://{host}:{port}/v1/hello").status_code == 200
        assert service.stop() == 0
    clients = re.findall(r'"client": ?"([^"]*)"', "".join(service.log))
    assert clients == ["127.0.0.1", "::1"], "none as ::ffff:127.0.0.1, which matches no address rule"


def test_the_host_setting_overrides_the_default_of_the_image() -> None:
    """The image's command sets a default; a setting overrides it."""
    with serving("--default-host", "::1") as by_image:
        assert httpx2.URL(by_image.url).host == "::1"
    with serving("--default-host", "::1", HELLO_HOST="127.0.0.1") as by_setting:
        assert httpx2.URL(by_setting.url).host == "127.0.0.1"


def test_without_ipv6_it_listens_on_ipv4(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutIPv6(socket.socket):
        def __init__(self, family: int, kind: int) -> None:
            if family == socket.AF_INET6:  # as on a kernel booted with ipv6.disable=1
                raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
            super().__init__(family, kind)

    monkeypatch.setattr(socket, "socket", WithoutIPv6)
    (listener,) = listen(read_settings(Hello.settings, host="::", port=0))
    with listener:
        assert listener.family == socket.AF_INET
    with pytest.raises(CannotListen, match=r"\[::1\]:0: Address family not supported"):
        listen(read_settings(Hello.settings, host="::1", port=0))


def test_a_port_in_use_is_a_one_line_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        error = expect_error("serve", "--port", str(port))
    assert f"Port {port} on 127.0.0.1 is already in use" in error
    assert "HELLO_PORT=" in error


def test_a_port_that_requires_privileges_is_an_error_with_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    class WithoutPrivileges(socket.socket):
        def bind(self, address: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", WithoutPrivileges)
    with pytest.raises(CannotListen, match=r"Port 80 requires privileges.* HELLO_PORT=8000"):
        listen(read_settings(Hello.settings, port=80))


def test_an_authentication_mode_without_its_settings_is_a_one_line_error() -> None:
    error = expect_error("serve", HELLO_AUTH="tokens")
    assert "HELLO_AUTH_TOKEN_FILE" in error


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("HELLO_PORT", "http", "valid integer"),
        ("HELLO_PORT", "70000", "less than or equal to 65535"),
        ("HELLO_HOST", "nohost.invalid", "is not an address or host name of this machine"),
        ("HELLO_HOST", "192.0.2.1", "is not an address or host name of this machine"),  # for documentation, RFC 5737
    ],
)
def test_an_invalid_setting_is_a_one_line_error_with_its_name_and_rule(name: str, value: str, rule: str) -> None:
    error = expect_error("serve", **{name: value})
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
def test_an_invalid_database_setting_is_a_one_line_error_without_its_value(name: str, value: str, rule: str) -> None:
    error = NOTES.expect_error("serve", **{name: value})
    assert error.startswith(name)
    assert rule in error
    assert "hunter2" not in error


def test_a_url_with_several_hosts_uses_the_first_that_responds(postgres_url: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        url = re.sub(r"@([^/]+)/", rf"@127.0.0.1:{unused.getsockname()[1]},\1/", postgres_url)
    done = NOTES.run("migrate", NOTES_DATABASE_URL=url)
    assert done.returncode == 0, done.stderr


def test_a_command_of_the_service_gets_its_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    async def keep(service: Hello, file: str) -> None:
        calls.append((service.name, file))

    class HelloWithCommand(Hello):
        commands = (Command("keep", "keeps it", keep, {"file": "where"}),)

    monkeypatch.setattr("sys.argv", ["hello", "keep", "a file"])
    assert main(HelloWithCommand) == 0
    assert calls == [("hello", "a file")]


def test_a_new_token_is_accepted_once_its_line_is_in_the_file(tmp_path: Path) -> None:
    done = PROGRAM.run("token", "new", "--name", "ann", "--scope", "read")
    assert done.returncode == 0
    (tmp_path / "tokens").write_text(done.stdout)
    (token,) = re.findall(r"once: (\S+)", done.stderr)
    settings = {"HELLO_AUTH": "tokens", "HELLO_AUTH_TOKEN_FILE": str(tmp_path / "tokens")}
    with serving(**settings) as service, httpx2.Client(base_url=service.url) as client:
        rejected = client.get("/v1/hello")
        assert (rejected.status_code, rejected.headers["www-authenticate"]) == (401, 'Bearer realm="hello"')
        client.headers["Authorization"] = f"Bearer {token}"
        assert client.get("/v1/hello").status_code == 200
        assert client.post("/v1/hello", json={"name": "x"}).status_code == 403
        assert client.get("/health", headers={"Authorization": ""}).status_code == 200
