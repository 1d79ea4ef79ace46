"""Whatever is sent: no 500, no pod starts again, and others are served meanwhile."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest
from e2e.conftest import REPOSITORY, SUMMARY, Namespace, eventually
from e2e.faults.bad_input import Bad, Real, bad_requests
from e2e.faults.conftest import CHART
from e2e.faults.nodes import restarts
from e2e.faults.report import Report
from e2e.test_chart import WITH_TOKENS, new_token

pytestmark = pytest.mark.full

REQUESTS = 18_000
GENERATED = 2_000
"""At least so many more come from schemathesis."""
CONNECTIONS = 6
TRICKLES = 20
ANSWER_SECONDS = 20
NOT_HTTP = {"501", "505"}
"""nginx's own answers to a transfer coding or a version of HTTP that it does not know."""


@pytest.fixture
def guarded(victim: Namespace) -> Iterator[tuple[Namespace, str]]:
    """The release while it asks for tokens, and one."""
    before = victim.run("helm history task-api --max 1 -o json | jq .[0].revision").strip()
    token = new_token(victim)
    victim.run(f"helm upgrade task-api {CHART} {victim.values} {WITH_TOKENS} --wait")
    victim.wait_for_rollout()
    with victim.client() as client:
        eventually(
            lambda: {client.get("/v1/tasks").status_code for _ in range(12)} == {401}, "every pod asks", seconds=60
        )
    yield victim, token
    victim.run(f"helm rollback task-api {before} --wait")
    victim.wait_for_rollout()
    victim.run("kubectl delete secret task-api-tokens task-api-test-token")


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
        """The status, or `closed` where the connection was."""
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
            return str(response.status)
        return "closed"


def trickle(sender: Sender, token: str, ending: threading.Event) -> None:
    """Sends a body byte by byte, and never its end."""
    unfinished = Bad("trickled", "POST", headers={"Content-Length": "100000"})
    with sender.connect() as connection:
        connection.sendall(unfinished.encoded(sender.host, token))
        while not ending.wait(0.5):
            connection.sendall(b" ")


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
    https_port: int,
    report: Report,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    victim, token = guarded
    before = restarts(victim)
    with victim.client() as client:
        client.headers["Authorization"] = f"Bearer {token}"
        real = real_values(client, token)
        requests = bad_requests(1, REQUESTS, real)
        answers: Counter[tuple[str, str]] = Counter()
        ending, began = threading.Event(), time.monotonic()

        def send(mine: list[Bad]) -> list[tuple[str, str]]:
            with contextlib.closing(Sender(victim.host, https_port)) as sender:
                return [(request.kind, sender.send(request, token)) for request in mine]

        tricklers = [
            threading.Thread(target=trickle, args=(Sender(victim.host, https_port), token, ending))
            for _ in range(TRICKLES)
        ]
        for trickler in tricklers:
            trickler.start()
        try:
            with ThreadPoolExecutor(CONNECTIONS) as pool:
                for answered in pool.map(send, (requests[n::CONNECTIONS] for n in range(CONNECTIONS))):
                    answers.update(answered)
        finally:
            ending.set()
            for trickler in tricklers:
                trickler.join()
        seconds = time.monotonic() - began
        assert client.get(f"/v1/tasks/{real.task}").status_code in {200, 404}  # one of the requests deletes it
        assert client.get("/health").json()["status"] == "ok"

    generated = schemathesis(victim.host, https_port, token, tmp_path)
    statuses: Counter[str] = Counter()
    for (_, status), count in answers.items():
        statuses[status] += count
    total = answers.total() + generated
    kinds = ", ".join(sorted({kind for kind, _ in answers}))
    counted = ", ".join(f"{status}: {count:,}" for status, count in statuses.most_common())
    said = (
        f"Bad input through the ingress: {answers.total():,} requests in {seconds:.0f} s ({kinds}), with {TRICKLES}"
        f" trickled bodies beside them, answered {counted}; and {generated:,} of schemathesis. No pod started again."
    )
    record_property(SUMMARY, said)
    wrong = {
        (kind, status): count
        for (kind, status), count in answers.items()
        if status == "no answer" or (status.startswith("5") and not (kind == "malformed HTTP" and status in NOT_HTTP))
    }
    assert wrong == {}
    assert statuses["closed"] < answers.total() / 20, "most should be answered"
    assert total >= REQUESTS + GENERATED
    assert restarts(victim) == before
    assert lines_that_are_no_json(victim) == []
    report.remarks.append(said)


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
