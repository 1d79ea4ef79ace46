"""What the log must not contain. What is common to all services is tested in packages/chassis/tests/test_logs.py."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from log_lines import lines_of, send_raw
from running import Service, serving

from chassis.auth import new_token

CREDENTIAL, LINE = new_token("ann", ["read", "write"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    file.write_text(LINE)
    with serving(TASKS_AUTH="tokens", TASKS_AUTH_TOKEN_FILE=str(file)) as running:
        yield running


@pytest.fixture
def client(service: Service) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=service.url, headers={"Authorization": f"Bearer {CREDENTIAL}"}) as open_client:
        yield open_client


def test_the_log_contains_no_secrets(service: Service, client: httpx2.Client) -> None:
    secret = {"title": "s3cr3t"}
    ids = [
        answer.headers["x-request-id"]
        for answer in (
            client.post("/v1/tasks", json=secret),
            client.get("/v1/tasks?q=s3cr3t"),
            client.post("/v1/tasks", json={"title": ["s3cr3t"]}),
            client.post("/v1/tasks", content=b'{"title": "s3cr3t', headers={"Content-Type": "application/json"}),
            client.get("/v1/tasks?status=s3cr3t"),
            client.get("/v1/tasks?cursor=s3cr3t"),
            client.get("/v1/tasks", headers={"Authorization": "Bearer s3cr3t"}),
            client.get("/v1/tasks", headers={"Authorization": "Basic s3cr3t"}),
            client.post("/v1/tasks", json=secret, headers={"Idempotency-Key": "s3cr3t", "Cookie": "a=s3cr3t"}),
        )
    ]
    send_raw(service, b"GET /?s3cr3t HTTP/9.9 s3cr3t\r\n\r\n")
    for request_id in ids:
        (line,) = lines_of(service, request_id)
        assert "?" not in line["path"]
    assert not [line for line in service.log if CREDENTIAL in line or "s3cr3t" in line]
