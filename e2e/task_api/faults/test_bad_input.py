"""Whatever is sent: no 500, no pod starts again, and others are served meanwhile."""

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
from e2e.task_api.faults.conftest import CHART, POSTGRES, Live, revision, settle
from e2e.task_api.faults.nodes import restarts
from e2e.task_api.faults.report import Report
from e2e.test_chart import WITH_TOKENS, new_token

pytestmark = pytest.mark.full

REQUESTS = 18_000
GENERATED = 2_000
"""At least so many more come from schemathesis."""
CONNECTIONS = 6
TRICKLES = 20
ANSWER_SECONDS = 20
TRICKLE_SECONDS = 60
"""The service gives a body 20 seconds."""
NOT_HTTP = {"501 by nginx", "505 by nginx"}
"""Its answers to a transfer coding or a version of HTTP that it does not know."""

# nginx hands a body on as it comes, and more of it than the service takes: so the service has to refuse it itself.
NGINX = r"nginx\.ingress\.kubernetes\.io"
UNPROTECTED = (
    f"--set-string 'ingress.annotations.{NGINX}/proxy-request-buffering=off'"
    f" --set-string 'ingress.annotations.{NGINX}/proxy-body-size=2m'"
)


@pytest.fixture(scope="module")
def guarded(installed: Namespace) -> Iterator[tuple[Namespace, str]]:
    """The release while it asks for tokens, and one."""
    before = revision(installed)
    try:
        token = new_token(installed)
        installed.run(f"helm upgrade task-api {CHART} {installed.values} {WITH_TOKENS} {UNPROTECTED} --wait")
        settle(installed)
        with installed.client() as client:
            eventually(
                lambda: {client.get("/v1/tasks").status_code for _ in range(12)} == {401}, "every pod asks", seconds=60
            )
        yield installed, token
    finally:
        installed.run(f"helm rollback task-api {before} --wait")
        settle(installed)
        installed.run("kubectl delete secret task-api-tokens task-api-test-token --ignore-not-found")


def client_with(namespace: Namespace, token: str) -> httpx2.Client:
    client = namespace.client()
    client.headers["Authorization"] = f"Bearer {token}"
    return client


class Sender:
    """A connection that is kept as long as the other side keeps it."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self._port = port
        self._trust = ssl.create_default_context()
        self._trust.check_hostname = False
        self._trust.verify_mode = ssl.CERT_NONE  # what is sent is tested here, not to whom
        self._connection: ssl.SSLSocket | None = None

    def connect(self) -> ssl.SSLSocket:
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=ANSWER_SECONDS)
        return self._trust.wrap_socket(connection, server_hostname=self.host)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def send(self, request: Bad, token: str) -> str:
        """The status, and whether nginx said it; or `closed` where the connection was."""
        for _ in range(2):  # a kept connection may have been closed meanwhile
            fresh = self._connection is None
            connection = self._connection or self.connect()
            self._connection = None
            try:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was sent
                    connection.sendall(request.encoded(self.host, token))
                response = http.client.HTTPResponse(connection, method=request.method)
                response.begin()
                response.read()
            except TimeoutError:
                connection.close()
                return "no answer"
            except (OSError, http.client.HTTPException):
                connection.close()
                if not fresh:
                    continue
                return "closed"
            # After what is no HTTP the two sides may differ on where the next request begins.
            if response.will_close or request.raw:
                connection.close()
            else:
                self._connection = connection
            return said(response.status, response.headers.get_content_type())
        return "closed"


def said(status: int, content_type: str) -> str:
    """The status. All errors of the service are problem details; what is not is nginx's."""
    return f"{status} by nginx" if status >= 400 and content_type != "application/problem+json" else str(status)


def trickle(sender: Sender, token: str) -> str:
    """Sends a body byte by byte, and never its end, until that is answered."""
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
                found = re.match(r"http/1.1 (\d+)", head)
                kind = "application/problem+json" if "content-type: application/problem+json" in head else ""
                return said(int(found[1]), kind) if found else "closed"
    return "no answer"


def real_values(client: httpx2.Client, token: str) -> Real:
    for n in range(2):
        task = client.post("/v1/tasks", json={"title": f"real {n}"}).json()
    page = client.get("/v1/tasks?page_size=1").json()
    since = client.get("/v1/changes?page_size=1").json()["next_since"]
    return Real(task["id"], page["next_cursor"], since, token)


def lines_that_are_no_json(namespace: Namespace) -> list[str]:
    """What the API's pods logged that is not one JSON object per line: a forged line."""
    logs = namespace.run("kubectl logs -l app=task-api --tail=-1 --since=15m").splitlines()
    assert len(logs) > 100
    return [line for line in logs if not line.startswith("{") or "timestamp" not in json.loads(line)]


def test_twenty_thousand_bad_requests_lead_to_no_500_and_restart_nothing(
    guarded: tuple[Namespace, str],
    live: Live,
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
    answered: list[tuple[Bad, str]] = []

    def send(mine: list[Bad]) -> list[tuple[Bad, str]]:
        with contextlib.closing(Sender(victim.host, https_port)) as sender:
            return [(request, sender.send(request, token)) for request in mine]

    began = time.monotonic()
    with (
        live("bad input", graceful=True, connect=lambda: client_with(victim, token)) as clients,
        ThreadPoolExecutor(CONNECTIONS + TRICKLES) as pool,
    ):
        clients.strike("bad input")
        trickles = [pool.submit(trickle, Sender(victim.host, https_port), token) for _ in range(TRICKLES)]
        for answers in pool.map(send, (requests[n::CONNECTIONS] for n in range(CONNECTIONS))):
            answered += answers
        trickled = Counter(trickle.result() for trickle in trickles)
    seconds = time.monotonic() - began

    statuses = Counter(status for _, status in answered)
    assert trickled == {"408": TRICKLES}, "the service itself gives up on a body that does not come"
    wrong = Counter((request.kind, status) for request, status in answered if is_wrong(request, status))
    assert wrong == {}
    by_service = {request.kind for request, status in answered if status == "413"}
    assert "oversized bodies" in by_service, "none came through to the service"
    assert statuses["closed"] < len(answered) / 20, "most should be answered"

    # A calendar of more than 5,000 tasks is refused, and rightly: schemathesis finds none of the trials' here.
    victim.run(f'kubectl exec {POSTGRES} -- psql -U tasks -d tasks -qc "DELETE FROM tasks"')
    generated = schemathesis(victim.host, https_port, token, tmp_path)
    kinds = ", ".join(sorted({request.kind for request, _ in answered}))
    counted = ", ".join(f"{status}: {count:,}" for status, count in statuses.most_common())
    summary = (
        f"Bad input through the ingress: {len(answered):,} requests in {seconds:.0f} s ({kinds}), answered {counted};"
        f" {TRICKLES} trickled bodies beside them, each answered 408; and {generated:,} of schemathesis. No pod started"
        " again."
    )
    record_property(SUMMARY, summary)
    assert len(answered) + generated >= REQUESTS + GENERATED
    assert restarts(victim) == before
    assert lines_that_are_no_json(victim) == []
    report.remarks.append(summary)


def is_wrong(request: Bad, status: str) -> bool:
    """Whether that is no answer to such a request."""
    if request.only:
        return not status.startswith(request.only)
    if request.kind == "malformed HTTP" and status in NOT_HTTP:
        return False
    return status == "no answer" or status.startswith("5")


def test_a_token_that_was_revoked_is_refused_by_every_pod(guarded: tuple[Namespace, str]) -> None:
    """The last one here: after it there is no token."""
    victim, token = guarded
    with client_with(victim, token) as client:
        assert client.get("/v1/tasks").status_code == 200
        victim.run(
            "kubectl create secret generic task-api-tokens --from-literal=tokens= --dry-run=client -o yaml"
            " | kubectl apply --server-side --force-conflicts -f -"
        )
        # The kubelet looks at the Secrets of a pod once a minute, or when the pod changes.
        victim.run("kubectl annotate pods -l app=task-api e2e/looked-at=again --overwrite")
        eventually(
            lambda: {client.get("/v1/tasks").status_code for _ in range(12)} == {401},
            "every pod refuses it",
            seconds=180,
        )


def schemathesis(host: str, https_port: int, token: str, folder: Path) -> int:
    """How many requests schemathesis sent to the deployed service, all of them answered as its document says."""
    service = REPOSITORY / "services/task-api"
    done = subprocess.run(
        [
            service / ".venv/bin/schemathesis",
            *("--no-color", "run", f"https://127.0.0.1:{https_port}/openapi.json"),
            *("--header", f"Host: {host}", "--tls-verify", "false"),
            *("--max-examples", "40", "--seed", "2", "--continue-on-failure"),
            *("--exclude-checks", "unsupported_method"),  # nginx answers TRACE itself, without saying what it allows
            *("--report", "json", "--report-json-path", folder / "report.json"),
        ],
        cwd=service,  # schemathesis.toml is here
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
    assert done.returncode == 0, re.sub(r"tsk_\w+", "TOKEN", done.stdout + done.stderr)
    found: int = json.loads((folder / "report.json").read_text())["test_cases"]["generated"]
    return found
