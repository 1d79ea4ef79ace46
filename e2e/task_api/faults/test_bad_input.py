"""Invalid input causes no 500 and no restart, and other clients are served in the meantime."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from e2e.cluster import REPOSITORY
from e2e.conftest import SUMMARY
from e2e.eventually import eventually
from e2e.namespace import Namespace
from e2e.task_api.faults.bad_input import Bad, Real, bad_requests
from e2e.task_api.faults.conftest import CHART, POSTGRES, ClientsDuring, revision, wait_until_settled
from e2e.task_api.faults.nodes import restarts
from e2e.task_api.faults.report import Report
from e2e.test_chart import WITH_TOKENS, new_token

pytestmark = pytest.mark.full

REQUESTS = 18_000
GENERATED = 2_000
"""At least this many more come from schemathesis."""
CONNECTIONS = 6
TRICKLES = 20
RESPONSE_SECONDS = 20
TRICKLE_SECONDS = 60
"""The service's body timeout is 20 seconds."""
NOT_HTTP = {"501 by nginx", "505 by nginx"}
"""nginx's responses to an unknown transfer coding or HTTP version."""

# nginx streams bodies, and accepts larger ones than the service: so the service must reject them itself.
NGINX = r"nginx\.ingress\.kubernetes\.io"
UNPROTECTED = (
    f"--set-string 'ingress.annotations.{NGINX}/proxy-request-buffering=off'"
    f" --set-string 'ingress.annotations.{NGINX}/proxy-body-size=2m'"
)


@pytest.fixture(scope="module")
def guarded(installed: Namespace) -> Iterator[tuple[Namespace, str]]:
    """The release while it requires tokens, and a token."""
    before = revision(installed)
    try:
        token = new_token(installed)
        installed.run(f"helm upgrade task-api {CHART} {installed.values} {WITH_TOKENS} {UNPROTECTED} --wait")
        wait_until_settled(installed)
        with installed.client() as client:
            eventually(
                lambda: {client.get("/v1/tasks").status_code for _ in range(12)} == {401},
                "every pod requires a token",
                seconds=60,
            )
        yield installed, token
    finally:
        installed.run(f"helm rollback task-api {before} --wait")
        wait_until_settled(installed)
        installed.run("kubectl delete secret task-api-tokens task-api-test-token --ignore-not-found")


def client_with(namespace: Namespace, token: str) -> httpx2.Client:
    client = namespace.client()
    client.headers["Authorization"] = f"Bearer {token}"
    return client


class Sender:
    """A connection that is kept open as long as the server keeps it open."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._port = port
        self._trust = ssl.create_default_context()
        self._trust.check_hostname = False
        self._trust.verify_mode = ssl.CERT_NONE  # the requests are tested here, not the certificate
        self._connection: ssl.SSLSocket | None = None

    def connect(self) -> ssl.SSLSocket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=RESPONSE_SECONDS)
        return self._trust.wrap_socket(connection, server_hostname=self.host)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def send(self, request: Bad, token: str) -> str:
        """The status, and whether it is nginx's; or `closed` if the connection was closed."""
        for _ in range(2):  # a keep-alive connection may have been closed
            fresh = self._connection is None
            connection = self._connection or self.connect()
            self._connection = None
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # rejected before all of it was sent
                    connection.sendall(request.encoded(self.host, token))
                response = http.client.HTTPResponse(connection, method=request.method)
                response.begin()
                response.read()
            except TimeoutError:
                connection.close()
                return "no response"
            except (OSError, http.client.HTTPException):
                connection.close()
                if not fresh:
                    continue
                return "closed"
            # After malformed HTTP both sides may disagree on where the next request starts.
            if response.will_close or request.raw:
                connection.close()
            else:
                self._connection = connection
            return status_text(response.status, response.headers.get_content_type())
        return "closed"


def status_text(status: int, content_type: str) -> str:
    """The status. All errors of the service are problem details; other errors are nginx's."""
    return f"{status} by nginx" if status >= 400 and content_type != "application/problem+json" else str(status)


def trickle(sender: Sender, token: str) -> str:
    """Sends a body byte by byte, without ever completing it, until there is a response."""
    unfinished = Bad("trickled", "POST", headers={"Content-Length": "100000"})
    deadline = time.monotonic() + TRICKLE_SECONDS
    with sender.connect() as connection:
        connection.sendall(unfinished.encoded(sender.host, token))
        connection.settimeout(0.5)
        while time.monotonic() < deadline:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                connection.sendall(b" ")
            with contextlib.suppress(TimeoutError):
                head = connection.recv(65536).decode("latin-1").partition("\r\n\r\n")[0].lower()
                match = re.match(r"http/1.1 (\d+)", head)
                kind = "application/problem+json" if "content-type: application/problem+json" in head else ""
                return status_text(int(match[1]), kind) if match else "closed"
    return "no response"


def real_values(client: httpx2.Client, token: str) -> Real:
    for n in range(2):
        task = client.post("/v1/tasks", json={"title": f"real {n}"}).json()
    page = client.get("/v1/tasks?page_size=1").json()
    since = client.get("/v1/changes?page_size=1").json()["next_since"]
    return Real(task["id"], page["next_cursor"], since, token)


def non_json_lines(namespace: Namespace) -> list[str]:
    """Log lines of the API's pods that are not one JSON object: forged lines."""
    logs = namespace.run("kubectl logs -l app=task-api --tail=-1 --since=15m").splitlines()
    assert len(logs) > 100
    return [line for line in logs if not line.startswith("{") or "timestamp" not in json.loads(line)]


def test_twenty_thousand_bad_requests_cause_no_500_and_no_restart(
    guarded: tuple[Namespace, str],
    clients_during: ClientsDuring,
    https_port: int,
    report: Report,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    victim, token = guarded
    before = restarts(victim)
    with client_with(victim, token) as client:
        real = real_values(client, token)
    requests = bad_requests(1, REQUESTS, real)
    results: list[tuple[Bad, str]] = []

    def send(mine: list[Bad]) -> list[tuple[Bad, str]]:
        with contextlib.closing(Sender(victim.host, https_port)) as sender:
            return [(request, sender.send(request, token)) for request in mine]

    started = time.monotonic()
    with (
        clients_during("bad input", graceful=True, connect=lambda: client_with(victim, token)) as clients,
        ThreadPoolExecutor(CONNECTIONS + TRICKLES) as pool,
    ):
        clients.mark_fault("bad input")
        trickles = [pool.submit(trickle, Sender(victim.host, https_port), token) for _ in range(TRICKLES)]
        for batch in pool.map(send, (requests[n::CONNECTIONS] for n in range(CONNECTIONS))):
            results += batch
        trickled = Counter(trickle.result() for trickle in trickles)
    seconds = time.monotonic() - started

    statuses = Counter(status for _, status in results)
    assert trickled == {"408": TRICKLES}, "the service times out on an incomplete body"
    unexpected = Counter((request.kind, status) for request, status in results if is_unexpected(request, status))
    assert unexpected == {}
    by_service = {request.kind for request, status in results if status == "413"}
    assert "oversized bodies" in by_service, "none reached the service"
    assert statuses["closed"] < len(results) / 20, "most must get a response"

    # Calendars of more than 5,000 tasks are rejected, by design: schemathesis must not find those of the trials here.
    victim.run(f'kubectl exec {POSTGRES} -- psql -U tasks -d tasks -qc "DELETE FROM tasks"')
    generated = schemathesis(victim.host, https_port, token, tmp_path)
    kinds = ", ".join(sorted({request.kind for request, _ in results}))
    counted = ", ".join(f"{status}: {count:,}" for status, count in statuses.most_common())
    summary = (
        f"Bad input through the ingress: {len(results):,} requests in {seconds:.0f} s ({kinds}), responses {counted};"
        f" {TRICKLES} concurrent trickled bodies, each with a 408; and {generated:,} requests of schemathesis. No pod"
        " restarted."
    )
    record_property(SUMMARY, summary)
    assert len(results) + generated >= REQUESTS + GENERATED
    assert restarts(victim) == before
    assert non_json_lines(victim) == []
    report.remarks.append(summary)


def is_unexpected(request: Bad, status: str) -> bool:
    """Whether the status is not allowed for such a request."""
    if request.only:
        return not status.startswith(request.only)
    if request.kind == "malformed HTTP" and status in NOT_HTTP:
        return False
    return status == "no response" or status.startswith("5")


def test_revoked_token_is_rejected_by_every_pod(guarded: tuple[Namespace, str]) -> None:
    """The last test here: after it there is no token."""
    victim, token = guarded
    with client_with(victim, token) as client:
        assert client.get("/v1/tasks").status_code == 200
        victim.run(
            "kubectl create secret generic task-api-tokens --from-literal=tokens= --dry-run=client -o yaml"
            " | kubectl apply --server-side --force-conflicts -f -"
        )
        # The kubelet syncs a pod's Secrets once a minute, or when the pod changes.
        victim.run("kubectl annotate pods -l app=task-api e2e/looked-at=again --overwrite")
        eventually(
            lambda: {client.get("/v1/tasks").status_code for _ in range(12)} == {401},
            "every pod rejects it",
            seconds=180,
        )


def schemathesis(host: str, https_port: int, token: str, folder: Path) -> int:
    """The number of requests that schemathesis sent to the deployed service, all with responses as in its OpenAPI
    document."""
    service = REPOSITORY / "services/task-api"
    result = subprocess.run(
        [
            service / ".venv/bin/schemathesis",
            *("--no-color", "run", f"https://127.0.0.1:{https_port}/openapi.json"),
            *("--header", f"Host: {host}", "--tls-verify", "false"),
            *("--max-examples", "40", "--seed", "2", "--continue-on-failure"),
            *("--exclude-checks", "unsupported_method"),  # nginx responds to TRACE itself, without an Allow header
            *("--report", "json", "--report-json-path", folder / "report.json"),
        ],
        cwd=service,  # the folder of schemathesis.toml
        env={
            "PATH": "/usr/bin:/bin",
            "SCHEMATHESIS_HOOKS": "tests/schemathesis_hooks.py",
            "TASK_API_TOKEN": token,
            "PYTHONPATH": ".",
            "PYTHONWARNINGS": "ignore:Unverified HTTPS request",
        },
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, re.sub(r"tsk_\w+", "TOKEN", result.stdout + result.stderr)
    count: int = json.loads((folder / "report.json").read_text())["test_cases"]["generated"]
    return count
