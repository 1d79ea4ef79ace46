"""FastAPI dependencies that authenticate and authorize requests."""

# No `from __future__ import annotations` here: FastAPI cannot resolve postponed annotations of an object's __call__.

from contextlib import suppress
from ipaddress import IPv6Network

from fastapi import Request
from fastapi.openapi.models import HTTPBase, HTTPBearer
from fastapi.security.base import SecurityBase

from chassis.auth.protocol import (
    ANONYMOUS,
    Authenticator,
    AuthUnavailable,
    Caller,
    NoAuth,
    Scope,
    Unauthenticated,
    basic_to_bearer,
)
from chassis.problems import Problem
from chassis.rate_limit import RateLimit


def requires(scope: Scope, *, basic: bool = False) -> "Requires":
    """A dependency that requires this scope, and returns the caller.

    basic: also accept the token as the password of HTTP Basic (RFC 7617), with any user name, for clients that support
    nothing else. Only for reads: browsers also send Basic credentials with cross-site requests.
    `app.state.authenticator` authenticates the caller, `app.state.realm` is the service's name. Raises Problem 401,
    403, 429 or 503.

        @router.get("", dependencies=[Depends(requires("read"))])
    """
    return Requires(scope, basic)


class Basic(SecurityBase):
    """Documents in OpenAPI that a route also accepts HTTP Basic; `requires` does the check."""

    def __init__(self) -> None:
        self.scheme_name = "basic"
        self.model = HTTPBase(scheme="basic", description="Any user name, with the token as the password")

    async def __call__(self) -> None: ...


class Requires(SecurityBase):
    """Also the security scheme: that saves a call per request, and OpenAPI shows the padlock."""

    def __init__(self, scope: Scope, basic: bool) -> None:
        self.scheme_name = "bearer"
        self.model = HTTPBearer(
            description="A token issued by this service or a JWT of the OpenID Connect issuer, "
            "with the scope `read` or `write`"
        )
        self._scope = scope
        self._basic = basic

    async def __call__(self, request: Request) -> Caller:
        state = request.app.state
        authenticator: Authenticator = state.authenticator
        rate_limit: RateLimit | None = state.rate_limit
        if isinstance(authenticator, NoAuth):  # the header is not even read
            if rate_limit is not None:
                await rate_limit.acquire(request, _address(request))
            return ANONYMOUS
        try:
            caller = await authenticator.authenticate(self._authorization(request))
        except Unauthenticated as error:
            if rate_limit is not None:  # guesses count as well
                await rate_limit.acquire(request, _address(request))
            challenge = error.challenge(request.app.state.realm)
            if self._basic:  # first: clients that support only Basic read no further
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

    async def still_allows(self, request: Request) -> bool:
        """Whether the credential of an accepted request is still valid: a stream may outlive a token that expires or is
        revoked. While it cannot be verified, it is."""
        authenticator: Authenticator = request.app.state.authenticator
        try:
            caller = await authenticator.authenticate(self._authorization(request))
        except Unauthenticated:
            return False
        except AuthUnavailable:
            return True
        return self._scope in caller.scopes

    def _authorization(self, request: Request) -> str | None:
        authorization = request.headers.get("Authorization")
        return basic_to_bearer(authorization) if self._basic else authorization


def _address(request: Request) -> str:
    address = request.client.host if request.client else ""
    if ":" in address:
        # A subscriber has at least a /64 (RFC 6177), and would count as 2**64 callers. Behind a trusted proxy the value
        # comes from the proxy, and may not be an address.
        with suppress(ValueError):
            address = str(IPv6Network((address.partition("%")[0], 64), strict=False))
    return f"address {address}"
