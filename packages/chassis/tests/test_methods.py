"""HEAD wherever there is a GET, without content; OPTIONS with the allowed methods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import httpx2
import pytest
from bad_clients import connected
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRouter
from hello.service import Hello, Settings
from pydantic import BaseModel
from running import serving
from starlette.testclient import TestClient

from chassis.app import create_app

extra_routes = APIRouter()
started: list[str] = []


class Name(BaseModel):
    name: str


@extra_routes.get("/v1/stream")
async def stream() -> StreamingResponse:
    async def never_ending() -> AsyncIterator[str]:
        started.append("stream")
        while True:
            yield "x"

    return StreamingResponse(never_ending())


@extra_routes.head("/v1/own")
@extra_routes.options("/v1/own")
async def own(request: Request) -> dict[str, str]:
    return {"method": request.method}


@extra_routes.patch("/v1/own")
async def change_own(name: Name) -> str:
    return name.name


class HelloWithExtraRoutes(Hello):
    def add_to(self, app: FastAPI) -> None:
        super().add_to(app)
        app.include_router(extra_routes)


@pytest.fixture
def client() -> Iterator[TestClient]:
    with TestClient(create_app(HelloWithExtraRoutes, Settings())) as client:
        yield client


VARYING = {"x-request-id", "date"}


def headers(response: httpx2.Response) -> dict[str, str]:
    return {name: value for name, value in response.headers.items() if name not in VARYING}


@pytest.mark.parametrize(
    "path",
    [
        "/health",
        "/livez",
        "/readyz?verbose",
        "/docs",
        "/docs/assets/swagger-ui.css",
        "/openapi.json",
        "/v1/hello",
        "/v1/hello/often?times=3",
        "/v1/hello/often",
        "/nowhere",
    ],
)
def test_head_has_the_status_and_headers_of_get_without_content(client: TestClient, path: str) -> None:
    get, head = (client.request(method, path, headers={"Accept-Encoding": "identity"}) for method in ("GET", "HEAD"))
    assert (head.status_code, head.content) == (get.status_code, b"")
    lengths = {headers(response).pop("content-length") for response in (get, head)}
    assert len(lengths) == 1 or path == "/health"  # its numbers sometimes differ in length
    assert headers(head) | {"content-length": ""} == headers(get) | {"content-length": ""}


def test_head_omits_the_length_of_content_that_would_be_compressed(client: TestClient) -> None:
    get, head = client.get("/v1/hello/often?times=3"), client.head("/v1/hello/often?times=3")
    assert "content-encoding" in get.headers
    assert "content-length" not in head.headers
    assert head.headers["vary"] == get.headers["vary"]


def test_metrics_support_head_and_count_it_as_head(client: TestClient) -> None:
    assert client.head("/metrics").headers["content-type"].startswith("text/plain")
    client.head("/v1/hello")
    assert 'http_requests_total{method="HEAD",route="/v1/hello",status="200"}' in client.get("/metrics").text


def test_options_requests_are_counted_by_their_route(client: TestClient) -> None:
    client.options("/v1/hello/someone")
    assert 'http_requests_total{method="OPTIONS",route="/v1/hello/{name}",status="204"}' in client.get("/metrics").text


def test_head_of_a_stream_does_not_start_it(client: TestClient) -> None:
    started.clear()
    response = client.head("/v1/stream")
    assert (response.status_code, started) == (200, [])


def test_explicit_head_and_options_routes_take_precedence(client: TestClient) -> None:
    assert client.head("/v1/own").headers["content-length"] == str(len('{"method":"HEAD"}'))
    assert client.options("/v1/own").json() == {"method": "OPTIONS"}


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("/health", "GET, HEAD, OPTIONS"),
        ("/metrics", "GET, HEAD, OPTIONS"),
        ("/docs", "GET, HEAD, OPTIONS"),
        ("/openapi.json", "GET, HEAD, OPTIONS"),
        ("/v1/hello", "GET, HEAD, OPTIONS, POST"),
        ("/v1/hello/stream", "GET, HEAD, OPTIONS"),
    ],
)
def test_options_and_405_list_the_allowed_methods(client: TestClient, path: str, methods: str) -> None:
    options, rejected = client.options(path), client.delete(path)
    assert (options.status_code, options.content, options.headers["allow"]) == (204, b"", methods)
    assert (rejected.status_code, rejected.headers["allow"]) == (405, methods)


def test_a_path_without_get_does_not_support_head() -> None:
    app = create_app(Hello, Settings())
    app.patch("/v1/names")(change_own)
    with TestClient(app) as client:
        response = client.head("/v1/names")
        assert (response.status_code, response.headers["allow"]) == (405, "OPTIONS, PATCH")
        assert client.options("/v1/names").headers["accept-patch"] == "application/json"


def test_options_list_accepted_media_types_and_an_unknown_path_gets_404(client: TestClient) -> None:
    assert client.options("/v1/hello").headers["accept-post"] == "application/json"
    assert "accept-patch" not in client.options("/v1/hello").headers
    assert client.options("/nowhere").status_code == 404


async def test_a_head_response_has_no_content_on_the_wire() -> None:
    with serving() as service:
        async with connected(service) as client:
            for path in ("/v1/hello/stream", "/livez", "/v1/hello/stream"):
                await client.send(f"HEAD {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                head = await client.until(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 200")
            await client.send(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await client.response()).content == b"ok"  # not preceded by data of the streams
