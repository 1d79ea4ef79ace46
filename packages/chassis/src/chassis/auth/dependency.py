"""What a route needs, as a FastAPI dependency."""

# Annotations are not postponed here: FastAPI cannot resolve those of an object's __call__.

from collections.abc import Awaitable, Callable
from contextlib import suppress
from ipaddress import IPv6Network

from fastapi import Request
from fastapi.openapi.models import HTTPBase, HTTPBearer
from fastapi.security.base import SecurityBase

from chassis.auth.protocol import (
    ANYBODY,
    Authenticator,
    AuthUnavailable,
    Caller,
    NoAuth,
    Scope,
    Unauthenticated,
    bearer_of_basic,
)
from chassis.problems import Problem
from chassis.rate_limit import RateLimit


def requires(scope: Scope, *, basic: bool = False) -> Callable[[Request], Awaitable[Caller]]:
    """A dependency that lets only callers with this scope in, and says who they are.

    basic: the token may come as the password of HTTP Basic (RFC 7617), too, with any name, for programs that know
    nothing else. Only for what reads: browsers send it along with whatever another site has them ask for.
    `app.state.authenticator` decides who they are, `app.state.realm` is the service's name. Raises Problem 401, 403,
    429 or 503.

        @router.get("", dependencies=[Depends(requires("read"))])
    """
    return _Requires(scope, basic)


class Basic(SecurityBase):
    """Says in OpenAPI that a route takes HTTP Basic, too; `requires` looks at it."""

    def __init__(self) -> None:
        self.scheme_name = "basic"
        self.model = HTTPBase(scheme="basic", description="Any name, and the token as the password")

    async def __call__(self) -> None: ...


class _Requires(SecurityBase):
    """The security scheme itself: that saves a call for each request, and OpenAPI shows the padlock."""

    def __init__(self, scope: Scope, basic: bool) -> None:
        self.scheme_name = "bearer"
        self.model = HTTPBearer(
            description="A token of the service's own or a JWT of the OpenID Connect issuer, "
            "with the scope `read` or `write`"
        )
        self._scope = scope
        self._basic = basic

    async def __call__(self, request: Request) -> Caller:
        authenticator: Authenticator = request.app.state.authenticator
        rate_limit: RateLimit | None = request.app.state.rate_limit
        if isinstance(authenticator, NoAuth):  # nobody is asked: not even the header is looked for
            if rate_limit is not None:
                await rate_limit.acquire(request, _address(request))
            return ANYBODY
        authorization = request.headers.get("Authorization")
        if self._basic:
            authorization = bearer_of_basic(authorization)
        try:
            caller = await authenticator.authenticate(authorization)
        except Unauthenticated as error:
            if rate_limit is not None:  # who guesses gets no further than who knows
                await rate_limit.acquire(request, _address(request))
            challenge = error.challenge(request.app.state.realm)
            if self._basic:  # first: programs that know nothing else look no further
                challenge = f'Basic realm="{request.app.state.realm}", charset="UTF-8", {challenge}'
            raise Problem(401, error.detail, headers={"WWW-Authenticate": challenge}) from None
        except AuthUnavailable as error:
            raise Problem(503, str(error), headers={"Retry-After": "1"}) from None
        request.state.subject = caller.subject
        if rate_limit is not None:
            await rate_limit.acquire(request, f"subject {caller.subject}")
        if self._scope not in caller.scopes:
            raise Problem(
                403,
                f"This needs the scope {self._scope}, which the credential does not have.",
                headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{self._scope}"'},
            )
        return caller


def _address(request: Request) -> str:
    address = request.client.host if request.client else ""
    if ":" in address:
        # One subscriber has a /64 at least (RFC 6177), and would be 2**64 callers. Behind a proxy that is trusted it is
        # that proxy's word, which may be no address.
        with suppress(ValueError):
            address = str(IPv6Network((address.partition("%")[0], 64), strict=False))
    return f"address {address}"
