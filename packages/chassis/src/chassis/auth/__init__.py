"""Who calls, and what they may do: nobody is asked, tokens in a file, or the JWTs of an OpenID Connect issuer."""

from chassis.auth.dependency import Basic, requires
from chassis.auth.protocol import (
    ANYBODY,
    SCOPES,
    Authenticator,
    AuthUnavailable,
    Caller,
    NoAuth,
    Scope,
    Unauthenticated,
)
from chassis.auth.tokens import TokenAuth, new_token

__all__ = [
    "ANYBODY",
    "SCOPES",
    "AuthUnavailable",
    "Authenticator",
    "Basic",
    "Caller",
    "NoAuth",
    "Scope",
    "TokenAuth",
    "Unauthenticated",
    "new_token",
    "requires",
]
