"""What every way of authentication answers, and how it refuses."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

Scope = Literal["read", "write"]
"""`write` does not imply `read`: what a credential may do is exactly what is written on it."""

SCOPES: tuple[Scope, ...] = get_args(Scope)


@dataclass(frozen=True)
class Caller:
    """Who sent a request. subject: a token's name or a JWT's `sub`; empty where nobody is asked."""

    subject: str
    scopes: frozenset[Scope]


ANYBODY = Caller("", frozenset(SCOPES))


class Unauthenticated(Exception):
    """The request carries no credential (`error` is None) or a bad one.

    detail: a sentence for the caller. It is sent in a header too, so it is plain ASCII without quotes and
    backslashes where there is an `error` (RFC 6750, section 3). It never repeats the credential.
    """

    def __init__(self, detail: str, error: Literal["invalid_token"] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.error = error

    def challenge(self, realm: str) -> str:
        """The value of WWW-Authenticate. Without a credential no error is named (RFC 6750, section 3.1).

        realm: the service's name.
        """
        challenge = f'Bearer realm="{realm}"'
        if self.error is not None:
            challenge += f', error="{self.error}", error_description="{self.detail}"'
        return challenge


class AuthUnavailable(Exception):
    """Whether the credential is good cannot be told at the moment; the message is for the caller."""


class Authenticator(Protocol):
    """Tells who sends a request."""

    async def authenticate(self, authorization: str | None, /) -> Caller:
        """authorization: the header of that name. Raises Unauthenticated or AuthUnavailable."""
        ...


class NoAuth:
    """Everybody may do everything: for a laptop, or behind a proxy that asks."""

    async def authenticate(self, _authorization: str | None, /) -> Caller:
        return ANYBODY


def bearer_token(authorization: str | None) -> str:
    """The token in an Authorization header. Raises Unauthenticated where there is none, as with another scheme."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("A credential is missing: send it in the header Authorization: Bearer.")
    return token


def bearer_of_basic(authorization: str | None) -> str | None:
    """The header as if the password of HTTP Basic (RFC 7617) had come as a bearer's token; any other as it is."""
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return authorization
    try:
        password = base64.b64decode(credentials.strip(), validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return None
    return f"Bearer {password}"
