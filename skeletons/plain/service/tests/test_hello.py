"""The behaviour of this service. What is common to all services is tested in packages/chassis/."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from chassis.app import create_app
from chassis.auth import Scope, new_token
from your_service.service import YourService
from your_service.settings import Settings


@pytest.fixture
def api() -> Iterator[TestClient]:
    with TestClient(create_app(YourService, Settings())) as client:
        yield client


@pytest.mark.parametrize(("query", "message"), [("", "Hello, world!"), ("?name=Ada", "Hello, Ada!")])
def test_it_greets_by_name(api: TestClient, query: str, message: str) -> None:
    response = api.get(f"/v1/hello{query}")
    assert (response.status_code, response.json()) == (200, {"message": message})


def test_the_greeting_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("YOUR_SERVICE_GREETING", "Good morning")
    with TestClient(create_app(YourService)) as client:
        assert client.get("/v1/hello").json() == {"message": "Good morning, world!"}


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_an_invalid_name_is_a_problem(api: TestClient, name: str) -> None:
    response = api.get("/v1/hello", params={"name": name})
    assert (response.status_code, response.headers["content-type"]) == (422, "application/problem+json")
    assert [error["pointer"] for error in response.json()["errors"]] == ["name"]


@pytest.mark.parametrize(("scope", "status"), [("read", 200), ("write", 403)])
def test_with_tokens_only_readers_are_allowed(tmp_path: Path, scope: Scope, status: int) -> None:
    token, line = new_token("someone", [scope])
    (tmp_path / "tokens").write_text(line)
    with TestClient(create_app(YourService, Settings(auth="tokens", auth_token_file=tmp_path / "tokens"))) as client:
        assert client.get("/v1/hello").status_code == 401
        assert client.get("/v1/hello", headers={"Authorization": f"Bearer {token}"}).status_code == status


def test_health_reports_no_storage(api: TestClient) -> None:
    health = api.get("/health").json()
    assert (health["status"], health["storage"], health["checks"]) == ("ok", "none", {})
    assert "your_service_health_status 1.0" in api.get("/health", headers={"Accept": "text/plain"}).text
