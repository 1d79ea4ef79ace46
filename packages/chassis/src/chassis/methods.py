"""HEAD and OPTIONS, which every path of a service has (RFC 9110, sections 9.1 and 9.3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from fastapi import FastAPI

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
ACCEPTS = {"PATCH": "Accept-Patch", "POST": "Accept-Post"}
"""The header that says what a method takes: RFC 5789, section 3.1, and https://www.w3.org/TR/ldp/#header-accept-post."""


class _HeadSent(Exception):
    """The head of an answer without end was sent, and nothing more is wanted of it."""


class Methods:
    """Pure ASGI. Answers HEAD as a GET without its content, and OPTIONS with what the path can be asked for.

    app: whose routes they are. rest: all of it behind its edge. A route with one of the two methods has its own answer.
    """

    def __init__(self, app: FastAPI, rest: ASGIApp) -> None:
        self._app = app
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("HEAD", "OPTIONS"):
            found = _routes(self._app, scope)
            if found and scope["method"] not in found:
                if scope["method"] == "HEAD":
                    await self._head(scope, receive, send)
                else:
                    scope["route"] = next(iter(found.values()))  # what metrics and log call it
                    await Response(status_code=204, headers=_options(found))(scope, receive, send)
                return
        await self._rest(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = {**scope, "method": "GET"}

        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.start":
                return
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            named = {name.lower() for name, _ in message["headers"]}
            if b"content-length" not in named and message["status"] not in (204, 304):
                raise _HeadSent  # before a stream begins: it might not end

        try:
            await self._rest(asked, receive, send_head)
        except _HeadSent:
            pass
        finally:
            if "route" in asked:
                scope["route"] = asked["route"]


def allowed(app: FastAPI, scope: Scope) -> list[str]:
    """What the path can be asked for, for the header Allow; empty where there is no such path."""
    return _allow(_routes(app, scope))


def _routes(app: FastAPI, scope: Scope) -> dict[str, BaseRoute]:
    """The path's routes by their method. Starlette names the methods of its first route alone; it may have more."""
    found: dict[str, BaseRoute] = {}
    for method in METHODS:
        for route in app.routes:
            match, child_scope = route.matches({**scope, "method": method})
            if match is Match.FULL:
                found[method] = child_scope.get("route", route)
                break
    return found


def _allow(found: Mapping[str, BaseRoute]) -> list[str]:
    methods = set(found)
    if "GET" in methods:
        methods.add("HEAD")
    if methods:
        methods.add("OPTIONS")
    return sorted(methods)


def _options(found: Mapping[str, BaseRoute]) -> dict[str, str]:
    headers = {"Allow": ", ".join(_allow(found))}
    for method, name in ACCEPTS.items():
        if media_types := getattr(found.get(method), "media_types", ()):
            headers[name] = ", ".join(media_types)
    return headers
