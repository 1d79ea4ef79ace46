"""What a second service is for until it has a purpose: the files of one that says hello.

new_service.py writes them, with the words in capitals replaced.
"""

from __future__ import annotations

SERVICE_PY = '''"""What this service is: all that the chassis, which runs it, knows of it stands here."""

from __future__ import annotations

from fastapi import FastAPI

import PACKAGE
from chassis.check import Check
from chassis.metrics import Metrics
from chassis.service import HealthTexts, Service
from PACKAGE import hello
from PACKAGE.settings import Settings


class CLASS_(Service):
    """What one running app says and how often. It keeps nothing, so that any number of pods are alike."""

    name = "NAME_"
    version = PACKAGE.__version__
    title = "TITLE_ API"
    description = """
Says hello.

Errors are problem documents (RFC 9457).
"""
    tags = ({"name": "hello", "description": "An example, to put your own routes in the place of"},)
    settings = Settings
    metrics = Metrics("PACKAGE")
    health = HealthTexts(
        noun="hellos",
        total="How often this process said hello",
        gauge="How often this process said hello",
    )
    credential_prefix = "PACKAGE_"
    scope_prefix = "NAME_"

    def __init__(self, settings: Settings) -> None:
        self._greeter = hello.Greeter(settings.greeting)

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes and what they ask for in its state."""
        app.state.greeter = self._greeter
        app.include_router(hello.router)

    async def condition(self) -> tuple[int | None, dict[str, Check]]:
        """The total for /health, and whether each thing that it needs answers; never raises because of one."""
        return self._greeter.hellos, {}
'''

SETTINGS_PY = '''"""What can be set from outside, beside what every service lets set."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from chassis import settings


class Settings(settings.Settings):
    """Read from the environment: `PREFIX_` and the field's name in capitals.

    Kubernetes gives pods beside a Service named `NAME_` a variable
    `PREFIX_PORT=tcp://...`, unless they have `enableServiceLinks: false`, as those of the chart.
    """

    model_config = SettingsConfigDict(env_prefix="PREFIX_")

    greeting: str = Field(default="Hello", min_length=1, max_length=100, description="word to greet callers with")
'''

HELLO_PY = '''"""/v1/hello: an example of a route that checks who calls and what they send."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from chassis.auth import requires
from chassis.problems import problem_responses

router = APIRouter(prefix="/v1/hello", tags=["hello"])


class Hello(BaseModel):
    """A greeting."""

    message: str = Field(examples=["Hello, world!"])


class Greeter:
    """Greets, and counts how often."""

    def __init__(self, greeting: str) -> None:
        self._greeting = greeting
        self.hellos = 0

    def greet(self, name: str) -> Hello:
        """Whoever it is."""
        self.hellos += 1
        return Hello(message=f"{self._greeting}, {name}!")


@router.get(
    "",
    summary="Say hello",
    dependencies=[Depends(requires("read"))],
    responses=problem_responses(401, 403, 422, 429, 503),
)
async def say_hello(
    request: Request, name: Annotated[str, Query(min_length=1, max_length=100, description="Whom to greet")] = "world"
) -> Hello:
    """Greets by name."""
    greeter: Greeter = request.app.state.greeter
    return greeter.greet(name)
'''

LOCAL_ENV = """# What the kit's scripts set for this service on a laptop; the environment wins.
# What `make load` asks for.
LOAD_PATH=/v1/hello
"""

TEST_PY = '''"""What this service is for, and that it is served as every service of the kit is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from running import refused, serving
from starlette.testclient import TestClient

from PACKAGE.app import create_app
from chassis.auth import new_token
from PACKAGE.settings import Settings


@pytest.fixture
def api() -> Iterator[TestClient]:
    with TestClient(create_app(Settings(revision="abc123"))) as client:
        yield client


@pytest.mark.parametrize(("query", "message"), [("", "Hello, world!"), ("?name=Ada", "Hello, Ada!")])
def test_it_says_hello(api: TestClient, query: str, message: str) -> None:
    response = api.get(f"/v1/hello{query}")
    assert response.status_code == 200
    assert response.json() == {"message": message}


@pytest.mark.parametrize("name", ["", "x" * 101])
def test_a_name_that_is_none_is_a_problem(api: TestClient, name: str) -> None:
    response = api.get("/v1/hello", params={"name": name})
    assert response.status_code == 422
    assert response.headers["content-type"] == "application/problem+json"
    assert [error["pointer"] for error in response.json()["errors"]] == ["name"]


def test_the_greeting_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFIX_GREETING", "Good morning")
    with TestClient(create_app()) as client:
        assert client.get("/v1/hello").json() == {"message": "Good morning, world!"}


def test_with_tokens_only_who_has_one_with_the_scope_is_greeted(tmp_path: Path) -> None:
    reader, read_line = new_token("reader", ["read"])
    writer, write_line = new_token("writer", ["write"])
    (tmp_path / "tokens").write_text(f"{read_line}\\n{write_line}\\n")
    with TestClient(create_app(Settings(auth="tokens", auth_token_file=tmp_path / "tokens"))) as client:
        assert client.get("/v1/hello").status_code == 401
        for token, status in ((reader, 200), (writer, 403)):
            response = client.get("/v1/hello", headers={"Authorization": f"Bearer {token}"})
            assert response.status_code == status
        assert client.get("/health").status_code == 200


def test_health_counts_the_hellos_and_says_that_nothing_is_kept(api: TestClient) -> None:
    api.get("/v1/hello")
    response = api.get("/health")
    assert response.status_code == 200
    health = response.json()
    assert (health["status"], health["revision"], health["storage"]) == ("ok", "abc123", "none")
    assert (health["hellos_total"], health["checks"]) == (1, {})
    assert "PACKAGE_hellos 1.0" in api.get("/health", headers={"Accept": "text/plain"}).text
    assert 'route="/v1/hello"' in api.get("/metrics").text


def test_a_wrong_setting_is_answered_in_a_line() -> None:
    assert refused("serve", PREFIX_PORT="none").startswith("PREFIX_PORT: ")


def test_it_serves_until_it_is_told_to_end() -> None:
    with serving() as service:
        assert httpx2.get(f"{service.url}/readyz").text == "ok"
        assert httpx2.get(f"{service.url}/v1/hello").status_code == 200
        assert service.stop(signal.SIGTERM) == 0
'''
