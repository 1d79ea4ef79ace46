"""The authenticator for the configured authentication mode."""

from __future__ import annotations

import logging

from chassis.auth.claims import ClaimRules
from chassis.auth.protocol import Authenticator, NoAuth, Scope
from chassis.auth.tokens import TokenAuth
from chassis.settings import InvalidSettings, Settings, split_list

log = logging.getLogger(__name__)


def create_authenticator(settings: Settings, *, scope_prefix: str) -> Authenticator:
    """The authenticator for the setting `auth`.

    scope_prefix: as in OIDCAuth. Reads the token file, but does not contact the issuer: pods start even if it is down.
    Raises InvalidSettings, with the missing variable or the error in the token file.
    """
    issuer, audience = settings.oidc_issuer, split_list(settings.oidc_audience or "")
    match settings.auth:
        case "none":
            return NoAuth()
        case "tokens":
            if settings.auth_token_file is None:
                raise _missing(settings, "auth_token_file", "the file with the hashes of the tokens")
            try:
                return TokenAuth(settings.auth_token_file)
            except ValueError as error:
                raise InvalidSettings(str(error)) from error
        case "oidc":
            if not issuer:
                raise _missing(settings, "oidc_issuer", "the value of `iss` in the tokens, a URL")
            if not issuer.startswith(("https://", "http://")):
                variable = settings.variable("oidc_issuer")
                raise InvalidSettings(f"{variable} must begin with https:// (http:// is only for issuers in tests).")
            if not audience:
                raise _missing(settings, "oidc_audience", "the name of this API in the tokens' `aud`")
            if issuer.startswith("http://"):
                log.warning(
                    "%s is not https: its keys can be forged by a man-in-the-middle attack.",
                    settings.variable("oidc_issuer"),
                )
            # Imported here, because its HTTP client and cryptography take 11 MB that the other two modes do not need.
            from chassis.auth.oidc import OIDCAuth

            return OIDCAuth(issuer, *audience, scope_prefix=scope_prefix, rules=_claim_rules(settings))


def _claim_rules(settings: Settings) -> ClaimRules:
    names: dict[Scope, str | None] = {"read": settings.oidc_read, "write": settings.oidc_write}
    return ClaimRules(
        audience=settings.oidc_audience_claim,
        subject=tuple(split_list(settings.oidc_subject_claim)),
        scopes=tuple(split_list(settings.oidc_claim)),
        names={scope: frozenset(split_list(value)) for scope, value in names.items() if value is not None},
        subjects={
            "read": tuple(split_list(settings.oidc_read_subjects)),
            "write": tuple(split_list(settings.oidc_write_subjects)),
        },
    )


def _missing(settings: Settings, field: str, meaning: str) -> InvalidSettings:
    return InvalidSettings(
        f"{settings.variable('auth')}={settings.auth} requires {settings.variable(field)}, {meaning}."
    )
