"""CORS."""

from __future__ import annotations

from collections.abc import Iterator

import httpx2
import pytest
from hello.service import Hello, Settings
from programs import Service
from running import expect_error, serving
from starlette.testclient import TestClient

from chassis.app import create_app

PAGE = "https://app.example.com"
ALLOWED = {"HELLO_CORS_ORIGINS": f"{PAGE}, http://localhost:5173"}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A service that allows these two origins, and each caller one request a day."""
    with serving(**ALLOWED, HELLO_RATE_LIMIT="1/day") as running:
        yield running


def preflight(service: Service, origin: str) -> httpx2.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization, content-type, if-match",
    }
    return httpx2.options(f"{service.url}/v1/hello", headers=headers)


def test_a_preflight_from_an_allowed_origin_succeeds(service: Service) -> None:
    response = preflight(service, PAGE)
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == PAGE
    assert "PATCH" in response.headers["Access-Control-Allow-Methods"]
    assert "if-match" in response.headers["Access-Control-Allow-Headers"]
    assert response.headers["Access-Control-Max-Age"] == "7200"
    assert "Origin" in response.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in response.headers
    assert response.headers["X-Request-ID"]  # it is logged like other requests


def test_a_preflight_from_another_origin_is_rejected(service: Service) -> None:
    response = preflight(service, "https://app.example.com.evil.test")
    assert response.status_code == 400
    assert "Access-Control-Allow-Origin" not in response.headers


def test_a_page_can_read_every_response_and_its_headers(service: Service) -> None:
    """With a limit of one: the second request gets a 429, and a large one a 413 from the edge."""
    page = {"Origin": PAGE}
    responses = [httpx2.post(f"{service.url}/v1/hello", json={"name": "you"}, headers=page) for _ in range(2)]
    responses.append(httpx2.post(f"{service.url}/v1/hello", content=b"x" * 2_000_000, headers=page))
    responses.append(httpx2.get(f"{service.url}/nowhere", headers=page))
    assert responses[0].status_code < 300
    assert [response.status_code for response in responses[1:]] == [429, 413, 404]
    for response in responses:
        assert response.headers["Access-Control-Allow-Origin"] == PAGE
        exposed = response.headers["Access-Control-Expose-Headers"].split(", ")
        assert {"ETag", "Link", "Location", "Retry-After", "RateLimit", "X-Request-ID"} <= set(exposed)


def test_responses_vary_by_origin_even_if_the_request_has_none(service: Service) -> None:
    response = httpx2.get(f"{service.url}/livez")
    assert (response.status_code, response.headers["Vary"]) == (200, "Origin")
    assert not [name for name in response.headers if name.startswith("access-control-")]


def test_a_page_can_read_an_internal_server_error() -> None:
    app = create_app(Hello, Settings(cors_origins="*"))

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError

    with TestClient(app) as client:
        response = client.get("/broken", headers={"Origin": PAGE})
    assert response.status_code == 500
    assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_cors_is_disabled_by_default() -> None:
    with TestClient(create_app(Hello, Settings())) as client:
        response = client.get("/v1/hello", headers={"Origin": PAGE})
    assert not [name for name in response.headers if name.startswith("access-control-")]


@pytest.mark.parametrize(
    ("origins", "rule"),
    [
        (f"{PAGE}/", "without a path"),
        ("app.example.com", "as browsers send them"),
        ("https://App.example.com", "in lower case"),
        (f"{PAGE},", "as browsers send them"),
        (f"{PAGE}:443", "omit it"),
        ("null", "as browsers send them"),
    ],
)
def test_origins_that_no_browser_sends_are_rejected(origins: str, rule: str) -> None:
    line = expect_error("serve", HELLO_CORS_ORIGINS=origins)
    assert line.startswith("HELLO_CORS_ORIGINS: ")
    assert rule in line
