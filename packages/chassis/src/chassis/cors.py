"""Which pages of other origins may call the API (https://fetch.spec.whatwg.org/#http-cors-protocol).

No cookies: callers prove who they are by a token that the page itself sends, so there are no credentials to allow.
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
"""What a page may read of a response's headers, beside those of `Service.exposed_headers`."""
PREFLIGHT_SECONDS = 7200
"""For so long a browser need not ask again; Chromium keeps it no longer."""


def allowing(
    origins: Sequence[str], exposed: Sequence[str], app: ASGIApp, around: Callable[[ASGIApp], ASGIApp]
) -> ASGIApp:
    """`around(app)` for these origins.

    Preflights are answered within `around`, which counts and logs them; its own responses have the headers, too: a page
    could not tell a 429, a 503 or a 500 from a lost network otherwise.
    """

    def policy(behind: ASGIApp, kind: type[CORSMiddleware]) -> CORSMiddleware:
        return kind(
            behind,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=["*"],
            expose_headers=[*EXPOSED, *exposed],
            max_age=PREFLIGHT_SECONDS,
        )

    preflights = policy(app, CORSMiddleware)

    async def inside(scope: Scope, receive: Receive, send: Send) -> None:
        await (preflights if scope["type"] == "http" and scope["method"] == "OPTIONS" else app)(scope, receive, send)

    return policy(around(inside), _Responses)


class _Responses(CORSMiddleware):
    """The headers of responses alone. Without an Origin, too, one says that it varies by it: a browser that keeps it
    would give it to a page otherwise (https://fetch.spec.whatwg.org/#cors-protocol-and-http-caches)."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self.simple_response(scope, receive, send, request_headers=Headers(scope=scope))
        else:
            await self.app(scope, receive, send)
