"""Links in the API's responses when it is served below a path."""

from __future__ import annotations

import re

import httpx2
from e2e.namespace import Namespace


def test_links_are_correct_below_a_path(below_a_path: Namespace) -> None:
    with below_a_path.client() as client:
        written = client.post("/below/v1/tasks", json={"title": "below a path"})
        assert written.status_code == 201
        assert written.headers["location"].startswith("/below/v1/tasks/")
        assert client.get(written.headers["location"]).json() == written.json()
        assert client.post("/below/v1/tasks", json={"title": "on the next page"}).status_code == 201

        page = client.get("/below/v1/tasks?page_size=1")
        link = re.search(r'<([^>]*)>; rel="next"', page.headers["link"])
        assert link, page.headers["link"]
        assert httpx2.URL(link[1]).path == "/below/v1/tasks"
        following = client.get(httpx2.URL(link[1]).raw_path.decode())
        assert following.status_code == 200
        assert following.json() != page.json()
