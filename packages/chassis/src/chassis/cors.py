"""CORS: which origins may call the API from a browser (https://fetch.spec.whatwg.org/#http-cors-protocol).

No cookies: the page itself sends a token, so credentials need not be allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from chassis.methods import METHODS

EXPOSED = (
    *("Allow", "ETag", "Link", "Location", "RateLimit", "RateLimit-Policy", "Retry-After"),
    *("WWW-Authenticate", "X-Request-ID"),
)
"""The response headers that a page may read, in addition to `Service.exposed_headers`."""
PREFLIGHT_SECONDS = 7200
"""How long a browser may cache a preflight; Chromium's maximum."""


def with_cors(
    origins: Sequence[str], exposed: Sequence[str], app: ASGIApp, with_edge: Callable[[ASGIApp], ASGIApp]
) -> ASGIApp:
    """`with_edge(app)` with CORS for these origins.

    Preflights are handled inside the edge, which counts and logs them. The headers are added outside it, so that its
    own responses have them: otherwise a page could not tell a 429, a 503 or a 500 from a network error.
    """

    def middleware(kind: type[CORSMiddleware], wrapped: ASGIApp) -> CORSMiddleware:
        return kind(
            wrapped,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=[*EXPOSED, *exposed],
            max_age=PREFLIGHT_SECONDS,
        )

    preflights = middleware(CORSMiddleware, app)

    async def with_preflights(scope: Scope, receive: Receive, send: Send) -> None:
        await (preflights if scope["type"] == "http" and scope["method"] == "OPTIONS" else app)(scope, receive, send)

    return middleware(_ResponseHeaders, with_edge(with_preflights))


class _ResponseHeaders(CORSMiddleware):
    """Adds headers to responses only, without handling preflights.

    Every response has `Vary: Origin`, even if the request had no Origin: otherwise a browser would serve its cached
    copy to a page (https://fetch.spec.whatwg.org/#cors-protocol-and-http-caches).
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.simple_response(scope, receive, send, request_headers=Headers(scope=scope))
        else:
            await self.app(scope, receive, send)
