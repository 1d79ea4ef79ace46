"""What the service says of its requests, and what it keeps to itself."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from uuid import uuid4

import asyncpg
import httpx2
import pytest
from log_lines import lines_of, raw
from running import DEADLINE_SECONDS, Service, serving

from chassis.auth import new_token

CREDENTIAL, LINE = new_token("ann", ["read", "write"])
PASSWORD = uuid4().hex
SECRETS = (CREDENTIAL, PASSWORD, "s3cr3t")


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


def test_the_line_of_a_request_has_the_template_of_its_route(service: Service, client: httpx2.Client) -> None:
    path = f"/v1/tasks/{uuid4()}"
    (line,) = lines_of(service, client.get(path).headers["x-request-id"])
    assert (line["path"], line["route"], line["status"]) == (path, "/v1/tasks/{task_id}", 404)


def test_nothing_secret_is_in_the_log(service: Service, client: httpx2.Client) -> None:
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
    raw(service, b"GET /?s3cr3t HTTP/9.9 s3cr3t\r\n\r\n")
    for request_id in ids:
        (line,) = lines_of(service, request_id)
        assert "?" not in line["path"]
    assert not [line for line in service.log if any(secret in line for secret in SECRETS)]


async def test_all_lines_of_a_request_have_its_id_and_none_the_databases_password(postgres_server: str) -> None:
    url = re.sub(r"//[^@]+@", f"//owner:{PASSWORD}@", postgres_server)
    admin = await asyncpg.connect(postgres_server)
    schema = f"test_{uuid4().hex}"
    try:
        await admin.execute(
            f"CREATE ROLE owner LOGIN PASSWORD '{PASSWORD}'; CREATE SCHEMA {schema} AUTHORIZATION owner"
        )
        with serving(TASKS_DATABASE_URL=f"{url}?search_path={schema}") as running:
            await admin.execute(f"DROP TABLE {schema}.answers, {schema}.tasks")
            await admin.execute(f"CREATE VIEW {schema}.tasks AS SELECT s3cr3t FROM (VALUES (1)) AS it (s3cr3t)")
            async with httpx2.AsyncClient(base_url=running.url, timeout=DEADLINE_SECONDS) as client:
                defect = await client.get(f"/v1/tasks/{uuid4()}")  # a query that fails as no repair foresees
                assert defect.status_code == 500
                await admin.execute("ALTER ROLE owner NOLOGIN")
                await admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'owner'")
                lost = await client.get(f"/v1/tasks/{uuid4()}")
                assert lost.status_code == 503
            for answer in (defect, lost):
                lines = lines_of(running, answer.headers["x-request-id"])
                assert [line["level"] for line in lines] == ["error", "info"]
                assert lines[-1]["status"] == answer.status_code
            (failed, _) = lines_of(running, defect.headers["x-request-id"])
            assert "UndefinedColumnError" in failed["exception"]
            assert running.stop() == 0
            for line in running.log:
                json.loads(line)
                assert PASSWORD not in line
    finally:
        await admin.execute(f"DROP SCHEMA {schema} CASCADE; DROP OWNED BY owner; DROP ROLE owner")
        await admin.close()
