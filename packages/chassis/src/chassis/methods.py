"""HEAD and OPTIONS for every path of a service (RFC 9110, sections 9.1 and 9.3.7)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from starlette.responses import Response
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from fastapi import FastAPI

METHODS = ("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT")
ACCEPT_HEADERS = {"PATCH": "Accept-Patch", "POST": "Accept-Post"}
"""The header that lists the media types a method accepts: RFC 5789, section 3.1, and
https://www.w3.org/TR/ldp/#header-accept-post."""


class _HeadSent(Exception):
    """The headers of a streaming response were sent; its content is not needed."""


class MethodsMiddleware:
    """Pure ASGI. Responds to HEAD as to a GET without its content, and to OPTIONS with the allowed methods.

    app: the application whose routes are used. inner: its ASGI stack behind EdgeMiddleware. Routes that declare one of
    the two methods handle it themselves.
    """

    def __init__(self, app: FastAPI, inner: ASGIApp) -> None:
        self._app = app
        self._inner = inner

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] in ("HEAD", "OPTIONS"):
            routes = _routes(self._app, scope)
            if routes and scope["method"] not in routes:
                if scope["method"] == "HEAD":
                    await self._head(scope, receive, send)
                else:
                    scope["route"] = next(iter(routes.values()))  # for metrics and access log
                    await Response(status_code=204, headers=_options(routes))(scope, receive, send)
                return
        await self._inner(scope, receive, send)

    async def _head(self, scope: Scope, receive: Receive, send: Send) -> None:
        get_scope = {**scope, "method": "GET"}

        async def send_head(message: Message) -> None:
            if message["type"] != "http.response.start":
                return
            await send(message)
            await send({"type": "http.response.body", "body": b"", "more_body": False})
            names = {name.lower() for name, _ in message["headers"]}
            if b"content-length" not in names and message["status"] not in (204, 304):
                raise _HeadSent  # before a stream starts: it might be endless

        try:
            await self._inner(get_scope, receive, send_head)
        except _HeadSent:
            pass
        finally:
            if "route" in get_scope:
                scope["route"] = get_scope["route"]


def allowed_methods(app: FastAPI, scope: Scope) -> list[str]:
    """The methods of the path, for the header Allow; empty if the path does not exist."""
    return _allow(_routes(app, scope))


def _routes(app: FastAPI, scope: Scope) -> dict[str, BaseRoute]:
    """The path's routes by method. Starlette reports only the methods of the first route; there may be more."""
    routes: dict[str, BaseRoute] = {}
    for method in METHODS:
        for route in app.routes:
            match, child_scope = route.matches({**scope, "method": method})
            if match is Match.FULL:
                routes[method] = child_scope.get("route", route)
                break
    return routes


def _allow(routes: Mapping[str, BaseRoute]) -> list[str]:
    methods = set(routes)
    if "GET" in methods:
        methods.add("HEAD")
    if methods:
        methods.add("OPTIONS")
    return sorted(methods)


def _options(routes: Mapping[str, BaseRoute]) -> dict[str, str]:
    headers = {"Allow": ", ".join(_allow(routes))}
    for method, name in ACCEPT_HEADERS.items():
        if media_types := getattr(routes.get(method), "media_types", ()):
            headers[name] = ", ".join(media_types)
    return headers
