"""Log lines of requests, and what they must not contain."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import httpx2
import pytest
from databases import connected
from log_lines import lines_of, send_raw, wait_for_log
from programs import DEADLINE_SECONDS, Service
from running import NOTES, environment, serving

from chassis.auth import new_token

CREDENTIAL, LINE = new_token("ann", ["read", "write"])
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HOSTILE = b"/%0a%7b%22level%22:%22error%22%7d%0d%1b%5b31m%1b%5d0;x%07%c2%9b2J%7f%00%e2%80%a8%ff"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(LINE)
    with serving(HELLO_AUTH="tokens", HELLO_AUTH_TOKEN_FILE=str(file)) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, headers={"Authorization": f"Bearer {CREDENTIAL}"}) as open_client:
        yield open_client


def test_a_request_is_logged_as_one_json_line(service: Service, client: httpx2.Client) -> None:
    response = client.get("/v1/hello")
    (line,) = lines_of(service, response.headers["x-request-id"])
    timestamp = datetime.fromisoformat(line.pop("timestamp"))
    assert abs(datetime.now(UTC) - timestamp) < timedelta(minutes=1)
    assert timestamp.utcoffset() == timedelta(0)
    assert 0 < line.pop("duration_ms") < DEADLINE_SECONDS * 1000
    assert line == {
        "level": "info",
        "message": "request",
        "request_id": response.headers["x-request-id"],
        "method": "GET",
        "path": "/v1/hello",
        "route": "/v1/hello",
        "status": 200,
        "client": "127.0.0.1",
        "subject": "ann",
    }


def test_the_log_line_of_a_request_contains_its_route_template(service: Service, client: httpx2.Client) -> None:
    path = f"/v1/hello/{uuid4()}"
    (line,) = lines_of(service, client.get(path).headers["x-request-id"])
    assert (line["path"], line["route"], line["status"]) == (path, "/v1/hello/{name}", 200)


def test_probes_are_logged_only_when_they_fail(service: Service, client: httpx2.Client) -> None:
    for path in ("/livez", "/readyz", "/health", "/metrics"):
        assert lines_of(service, client.get(path).headers["x-request-id"]) == []
    rejected = client.get("/metrics", headers={"Authorization": ""})
    assert [line["status"] for line in lines_of(service, rejected.headers["x-request-id"])] == [401]


def test_probes_are_not_logged_below_a_root_path_either() -> None:
    with serving(HELLO_ROOT_PATH="/below") as service, httpx2.Client(base_url=service.url) as client:
        probe, other = client.get("/livez"), client.get("/v1/hello")
        assert (probe.status_code, other.status_code) == (200, 200)
        assert [len(lines_of(service, response.headers["x-request-id"])) for response in (probe, other)] == [0, 1]


@pytest.mark.parametrize("request_id", ["a", "A-Z_a.z-0", "x" * 128, "0" * 32])
def test_a_valid_request_id_of_the_client_is_kept(service: Service, client: httpx2.Client, request_id: str) -> None:
    request_id = request_id[:96] + uuid4().hex[:32] if len(request_id) == 128 else request_id
    response = client.get("/v1/hello", headers={"X-Request-ID": request_id})
    assert response.headers.get_list("x-request-id") == [request_id]
    assert len(lines_of(service, request_id)) == 1


@pytest.mark.parametrize(
    "request_id",
    [b"", b"x" * 129, b"a b", b"a\tb", b'a"b', b"a,b", b"a/b", b"\xc3\xa4", b"\xff", b"{}", b"\x1b", b"%0a"],
)
def test_an_invalid_request_id_is_replaced(service: Service, request_id: bytes) -> None:
    response = send_raw(service, b"GET /v1/hello HTTP/1.1\r\nHost: x\r\nX-Request-ID: " + request_id + b"\r\n\r\n")
    if response.startswith(b"HTTP/1.1 400"):
        assert request_id == b"\x1b"  # not allowed in a header
        return
    (generated,) = re.findall(rb"x-request-id: (.*)\r\n", response)
    assert re.fullmatch(rb"[0-9a-f]{32}", generated)
    assert len(lines_of(service, generated.decode())) == 1


@pytest.mark.parametrize(
    ("traceparent", "trace"),
    [
        (f"00-{TRACE}-00f067aa0ba902b7-01", TRACE),
        (f"00-{TRACE}-00f067aa0ba902b7-00", TRACE),
        (f"cc-{TRACE}-00f067aa0ba902b7-01-what-will-be", TRACE),
        (f"00-{'0' * 32}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-{'0' * 16}-01", None),
        (f"00-{TRACE}0-00f067aa0ba902b7-01", None),
        (f"00-{TRACE[1:]}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE.upper()}-00f067aa0ba902b7-01", None),
        (f"ff-{TRACE}-00f067aa0ba902b7-01", None),
        (f"00-{TRACE}-00f067aa0ba902b7-01-more", None),
        ("", None),
    ],
)
def test_the_log_line_contains_the_callers_trace_id(
    service: Service, client: httpx2.Client, traceparent: str, trace: str | None
) -> None:
    response = client.get("/v1/hello", headers={"traceparent": traceparent})
    (line,) = lines_of(service, response.headers["x-request-id"])
    assert line.get("trace_id") == trace


def test_a_path_cannot_forge_log_lines_or_inject_control_characters(service: Service) -> None:
    wait_for_log(service)
    before = len(service.log)
    response = send_raw(service, b"GET " + HOSTILE + b" HTTP/1.1\r\nHost: x\r\n\r\n")
    (request_id,) = re.findall(rb"x-request-id: (.*)\r\n", response)
    (line,) = lines_of(service, request_id.decode())
    assert line["path"] == HOSTILE.decode()
    assert len(service.log) == before + 2  # this line and that of wait_for_log
    assert all(" " <= character <= "~" for line in service.log for character in line.rstrip("\n"))


def test_a_long_path_is_truncated(service: Service, client: httpx2.Client) -> None:
    (line,) = lines_of(service, client.get("/" + "x" * 10_000).headers["x-request-id"])
    assert len(line["path"]) == 500


def test_the_servers_own_messages_are_json_too(service: Service) -> None:
    assert send_raw(service, b"\x16\x03\x01\r\n\r\n").startswith(b"HTTP/1.1 400")
    wait_for_log(service)
    lines = [json.loads(line) for line in service.log]  # all lines of this module's tests
    assert [line["level"] for line in lines if line["message"] == "Invalid HTTP request received."][-1:] == ["warning"]
    assert all({"timestamp", "level", "message"} <= line.keys() for line in lines)


async def test_all_log_lines_of_a_request_contain_its_id_and_none_the_database_password(postgres_server: str) -> None:
    password, schema = uuid4().hex, f"test_{uuid4().hex}"
    url = re.sub(r"//[^@]+@", f"//owner:{password}@", postgres_server)
    async with connected(postgres_server) as admin:
        try:
            await admin.execute(
                f"CREATE ROLE owner LOGIN PASSWORD '{password}'; CREATE SCHEMA {schema} AUTHORIZATION owner"
            )
            with NOTES.serving(NOTES_DATABASE_URL=f"{url}?search_path={schema}") as running:
                await admin.execute(f"DROP TABLE {schema}.notes")
                await admin.execute(f"CREATE VIEW {schema}.notes AS SELECT s3cr3t FROM (VALUES (1)) AS it (s3cr3t)")
                async with httpx2.AsyncClient(base_url=running.url, timeout=DEADLINE_SECONDS) as client:
                    defect = await client.get(f"/v1/notes/{uuid4()}")  # fails with an error that is not handled
                    assert defect.status_code == 500
                    await admin.execute("ALTER ROLE owner NOLOGIN")
                    await admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'"
                    )
                    lost = await client.get(f"/v1/notes/{uuid4()}")
                    assert lost.status_code == 503
                for response in (defect, lost):
                    lines = lines_of(running, response.headers["x-request-id"])
                    assert [line["level"] for line in lines] == ["error", "info"]
                    assert lines[-1]["status"] == response.status_code
                (failed, _) = lines_of(running, defect.headers["x-request-id"])
                assert "UndefinedColumnError" in failed["exception"]
                assert running.stop() == 0
                for line in running.log:
                    json.loads(line)
                    assert password not in line
        finally:
            await admin.execute(f"DROP SCHEMA {schema} CASCADE; DROP OWNED BY owner; DROP ROLE owner")


@contextlib.contextmanager
def on_a_terminal(*, no_color: str = "", **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes], int]]:
    """The service with a terminal as its standard error: its URL, process, and the terminal's other end."""
    other, terminal = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hello", "serve", "--port", "0"],
        env=environment(**settings) | {"TERM": "xterm", "NO_COLOR": no_color, "FORCE_COLOR": ""},
        stderr=terminal,
    )
    os.close(terminal)
    try:
        output = _read_until(other, b"/health)")
        (url,) = re.findall(rb"Listening on (http://[0-9.:]+)", output)
        yield url.decode(), process, other
    finally:
        process.kill()
        process.wait()
        os.close(other)


def _read_until(terminal: int, end: bytes | None) -> bytes:
    output = b""
    while end is None or end not in output:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not data:
            break
        output += data
    return output


def test_log_lines_on_a_terminal_are_readable_and_coloured() -> None:
    with on_a_terminal() as (url, process, terminal):
        httpx2.get(f"{url}/v1/hello", headers={"X-Request-ID": "of-the-list"})
        httpx2.get(url + HOSTILE.decode(), headers={"X-Request-ID": "of-the-hostile"})
        httpx2.get(f"{url}/livez")
        process.terminate()
        output = _read_until(terminal, None).decode()
        assert process.wait(DEADLINE_SECONDS) == 0
    lines = [line for line in output.split("\r\n") if line]
    plain = [re.sub(r"\x1b\[[0-9;]*m", "", line) for line in lines]
    assert any("\x1b[" in line for line in lines)  # colours, and nothing else:
    assert all(character.isprintable() for line in plain for character in line)
    requests = [line for line in plain if "request_id=" in line]
    assert ["of-the-list" in line for line in requests] == [True, False]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \[info\] GET /v1/hello 200 in \d+\.\d ms ", requests[0])
    assert not any(line.startswith("{") for line in plain)


def test_no_color_disables_colours() -> None:
    with on_a_terminal(no_color="1") as (url, process, terminal):
        httpx2.get(f"{url}/v1/hello")
        process.terminate()
        output = _read_until(terminal, None).decode()
        assert process.wait(DEADLINE_SECONDS) == 0
    assert "GET /v1/hello 200" in output
    assert "\x1b" not in output
