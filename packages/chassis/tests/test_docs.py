"""The page /docs."""

from __future__ import annotations

import re

import httpx2
import pytest
from hello.service import Hello, Settings
from running import serving
from starlette.testclient import TestClient

from chassis.app import create_app


def test_the_page_loads_all_its_files_from_the_service() -> None:
    with TestClient(create_app(Hello, Settings())) as client:
        page = client.get("/docs")
        assert page.status_code == 200
        addresses = re.findall(r'(?:src|href|url)["\']?[=:] ?["\']([^"\']+)', page.text)
        assert len(addresses) >= 4
        for address in addresses:
            assert address.startswith("/"), f"{address} is not of this service"
            assert client.get(address).status_code == 200, address
        metrics = client.get("/metrics").text
        for route in ("/docs", "/docs/assets/{path}", "/openapi.json"):
            assert f'route="{route}",status="200"' in metrics, "its requests are counted as unmatched"


@pytest.mark.parametrize("path", ["/hello", ""])
def test_behind_a_prefix_stripping_proxy_every_link_has_the_prefix(path: str) -> None:
    with serving(HELLO_ROOT_PATH=path) as service, httpx2.Client(base_url=service.url) as client:
        page = client.get("/docs").text
        links = re.findall(r"[\"'](/[^\"']+(?:css|js|png|json))[\"']", page)
        assert len(links) == 4
        assert all(link.startswith(f"{path}/") for link in links)
        assert {client.get(link.removeprefix(path)).status_code for link in links} == {200}
        assert client.get("/openapi.json").json()["servers"] == [{"url": path or "/"}]
