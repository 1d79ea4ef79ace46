"""What a second service is for until it has a purpose: the files of a domain that says hello.

new_service.py writes them, with the words in capitals replaced.
"""

from __future__ import annotations

DOMAIN_PY = '''"""What this service is for: to say hello. All that the other modules know of it stands here."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING

from fastapi import FastAPI
from pydantic import Field
from pydantic.config import JsonDict
from pydantic_settings import BaseSettings
from starlette.types import ASGIApp

from PACKAGE import hello
from chassis.check import Check

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TITLE = "TITLE_ API"
DESCRIPTION = """
Says hello.

Errors are problem documents (RFC 9457).
"""
TAGS = [{"name": "hello", "description": "An example, to put your own routes in the place of"}]

TOTAL = "hellos_total"
TOTAL_IS = "How often this process said hello"
TOTAL_GAUGE = ("PACKAGE_hellos", TOTAL_IS)
STORAGE_IS = "none: this service keeps nothing"
DEGRADED_IS = "Something that the service needs does not answer"
HEALTH_EXAMPLE: JsonDict = {"storage": "none", "checks": {}}


class DomainSettings(BaseSettings):
    """Those that only this service needs."""

    greeting: str = Field(default="Hello", min_length=1, max_length=100, description="word to greet callers with")


class CannotOpen(Exception):
    """What the service needs is not there; the message says what, and what to do."""


class Domain:
    """What one running app says and how often. It keeps nothing, so that any number of pods are alike."""

    storage = "none"
    """What /health and PACKAGE_build_info call it."""

    def __init__(self, settings: DomainSettings) -> None:
        self._greeter = hello.Greeter(settings.greeting)

    def add_to(self, app: FastAPI) -> None:
        """Gives `app` its routes and what they ask for in its state."""
        app.state.greeter = self._greeter
        app.include_router(hello.router)

    def shortcut(self, _app: FastAPI, rest: ASGIApp) -> ASGIApp:
        """Could answer what is asked for most without `rest`, which is all of the app behind its edge."""
        return rest

    async def open(self) -> None:
        """Before the first request: the place to connect to what it needs. Raises CannotOpen."""

    def background(self) -> list[Coroutine[None, None, None]]:
        """What goes on while it is open, until it is cancelled."""
        return []

    def end_streams(self) -> None:
        """Ends answers that would not end by themselves."""

    async def close(self) -> None:
        """After the last request, or where it could not be opened."""

    async def condition(self) -> tuple[int | None, dict[str, Check]]:
        """The total for /health, and whether each thing that it needs answers; never raises because of one."""
        return self._greeter.hellos, {}


COMMANDS: dict[str, tuple[str, Callable[[DomainSettings], Coroutine[None, None, None]]]] = {}
"""Those of the command line beside the ones that every service has: their help, and what they do."""


def trace(_provider: TracerProvider) -> None:
    """Makes spans of what the service asks of others: nothing so far."""
'''

HELLO_PY = '''"""/v1/hello: an example of a route that checks who calls and what they send."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, Field

from PACKAGE.auth import requires
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
from running import run, serving
from starlette.testclient import TestClient

from PACKAGE.app import create_app
from PACKAGE.auth import new_token
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
    done = run("serve", PREFIX_PORT="none")
    assert done.returncode == 1
    assert done.stderr.startswith("PREFIX_PORT: ")
    assert len(done.stderr.splitlines()) == 1


def test_it_serves_until_it_is_told_to_end() -> None:
    with serving() as service:
        assert httpx2.get(f"{service.url}/readyz").text == "ok"
        assert httpx2.get(f"{service.url}/v1/hello").status_code == 200
        assert service.stop(signal.SIGTERM) == 0
'''
