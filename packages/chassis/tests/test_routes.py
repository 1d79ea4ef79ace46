"""How an application uses the routes of a service's routers."""

from __future__ import annotations

from typing import Annotated

import pytest
from fastapi import Body, Depends, FastAPI
from fastapi.routing import APIRoute
from hello.service import Hello
from starlette.testclient import TestClient

from chassis.app import create_app
from chassis.routes import Router


def tenant() -> str:
    return "default"


plain, prefixed, limited = Router(), Router(), Router(max_body_size=10)


@plain.get("/v1/tenant")
async def get_tenant(tenant: Annotated[str, Depends(tenant)]) -> str:
    return tenant


@prefixed.get("/tenant")
async def get_other_tenant(tenant: Annotated[str, Depends(tenant)]) -> str:
    return tenant


@limited.post("/v1/tenants")
async def add_tenant(name: Annotated[str, Body()]) -> str:
    return name


class HelloWithTenants(Hello):
    def add_to(self, app: FastAPI) -> None:
        super().add_to(app)
        app.include_router(plain)
        app.include_router(limited)
        app.include_router(prefixed, prefix="/v2", tags=["tenants"])


@pytest.fixture
def app() -> FastAPI:
    return create_app(HelloWithTenants, Hello.settings())


def test_the_routes_of_a_router_are_built_once_for_all_applications(app: FastAPI) -> None:
    """FastAPI would rebuild each on the first request."""
    (built,) = (route for route in plain.routes if isinstance(route, APIRoute))
    (included,) = (route for route in app.routes if isinstance(route, APIRoute) and route.path == built.path)
    assert included.dependant is built.dependant


def test_a_dependency_override_affects_one_application_only(app: FastAPI) -> None:
    app.dependency_overrides[tenant] = lambda: "other"
    for path in ("/v1/tenant", "/v2/tenant"):
        with TestClient(app) as client:
            assert client.get(path).json() == "other"
        with TestClient(create_app(HelloWithTenants, Hello.settings())) as client:
            assert client.get(path).json() == "default"


def test_an_included_router_has_its_prefix_and_tags(app: FastAPI) -> None:
    assert app.openapi()["paths"]["/v2/tenant"]["get"]["tags"] == ["tenants"]


def test_the_body_limit_of_a_router_applies(app: FastAPI) -> None:
    with TestClient(app) as client:
        assert client.post("/v1/tenants", json="short").json() == "short"
        assert client.post("/v1/tenants", json="too long for it").status_code == 413


def test_the_operation_id_is_the_name_of_the_function(app: FastAPI) -> None:
    paths = app.openapi()["paths"]
    assert [paths[path]["get"]["operationId"] for path in ("/v1/tenant", "/health")] == ["get_tenant", "health"]
