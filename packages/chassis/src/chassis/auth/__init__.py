"""Authentication and authorization: none, tokens in a file, or JWTs of an OpenID Connect issuer."""

from chassis.auth.dependency import Basic, requires
from chassis.auth.protocol import (
    ANONYMOUS,
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
    "ANONYMOUS",
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
