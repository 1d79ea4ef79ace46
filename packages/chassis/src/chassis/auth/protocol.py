"""The interface of all authentication modes, and their errors."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Scope = Literal["read", "write"]
"""`write` does not imply `read`: a credential grants exactly the scopes it lists."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Caller:
    """The sender of a request. subject: a token's name or a JWT's `sub`; empty without authentication."""

    subject: str
    scopes: frozenset[Scope]


ANONYMOUS = Caller("", frozenset(SCOPES))


class Unauthenticated(Exception):
    """The request has no credential (`error` is None) or an invalid one.

    detail: a message for the caller. With an `error` it is also sent in a header, and must be ASCII without quotes and
    backslashes (RFC 6750, section 3). It never contains the credential.
    """

    def __init__(self, detail: str, error: Literal["invalid_token"] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.error = error

    def challenge(self, realm: str) -> str:
        """The value of WWW-Authenticate. Without a credential it has no error (RFC 6750, section 3.1).

        realm: the service's name.
        """
        challenge = f'Bearer realm="{realm}"'
        if self.error is not None:
            challenge += f', error="{self.error}", error_description="{self.detail}"'
        return challenge


class AuthUnavailable(Exception):
    """The credential cannot be verified at the moment; the message is for the caller."""


class Authenticator(Protocol):
    """Authenticates requests."""

    async def authenticate(self, authorization: str | None, /) -> Caller:
        """authorization: the Authorization header. Raises Unauthenticated or AuthUnavailable."""
        ...


class NoAuth:
    """Every request is allowed: for a laptop, or behind a proxy that authenticates."""

    async def authenticate(self, _authorization: str | None, /) -> Caller:
        return ANONYMOUS


def bearer_token(authorization: str | None) -> str:
    """The token in an Authorization header. Raises Unauthenticated if there is none, or another scheme."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("No credential: send it in the header Authorization: Bearer.")
    return token


def basic_to_bearer(authorization: str | None) -> str | None:
    """Converts HTTP Basic (RFC 7617) to the password as a bearer token; other headers are unchanged."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None
    return f"Bearer {password}"
