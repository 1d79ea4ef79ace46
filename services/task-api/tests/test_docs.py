"""The page on which people read and try the API."""

from __future__ import annotations

import re

from starlette.testclient import TestClient

from task_api.app import create_app
from task_api.settings import Settings


def test_the_page_and_all_its_files_come_from_the_service_itself() -> None:
    with TestClient(create_app(Settings())) as client:
        page = client.get("/docs")
        assert page.status_code == 200
        addresses = re.findall(r'(?:src|href|url)["\']?[=:] ?["\']([^"\']+)', page.text)
        assert len(addresses) >= 4
        for address in addresses:
            assert address.startswith("/"), f"{address} is not of this service"
            assert client.get(address).status_code == 200, address
