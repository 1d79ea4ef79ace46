"""Which way of authentication the settings mean."""

from __future__ import annotations

import logging

from chassis.auth.claims import ClaimRules
from chassis.auth.protocol import Authenticator, NoAuth, Scope
from chassis.auth.tokens import TokenAuth
from chassis.settings import InvalidSettings, Settings, split_list

log = logging.getLogger(__name__)


def from_settings(settings: Settings, *, scope_prefix: str) -> Authenticator:
    """What the setting `auth` names.

    scope_prefix: as in OIDCAuth. Reads the token file, but asks no issuer: one that is down does not keep pods down.
    Raises InvalidSettings with one sentence: a variable that is missing, or what is wrong with the token file.
    """
    issuer, audience = settings.oidc_issuer, split_list(settings.oidc_audience or "")
    match settings.auth:
        case "none":
            return NoAuth()
        case "tokens":
            if settings.auth_token_file is None:
                raise _missing(settings, "auth_token_file", "the file with the tokens' hashes")
            try:
                return TokenAuth(settings.auth_token_file)
            except ValueError as error:
                raise InvalidSettings(str(error)) from error
        case "oidc":
            if not issuer:
                raise _missing(settings, "oidc_issuer", "the URL that tokens name in `iss`")
            if not issuer.startswith(("https://", "http://")):
                variable = settings.variable("oidc_issuer")
                raise InvalidSettings(f"{variable} must begin with https:// (http:// is for an issuer in a test).")
            if not audience:
                raise _missing(settings, "oidc_audience", "this API's name in the tokens' `aud`")
            if issuer.startswith("http://"):
                log.warning(
                    "%s is not https: whoever is on the way to it can forge its keys.", settings.variable("oidc_issuer")
                )
            # Here, because its HTTP client and cryptography weigh 11 MB that the other two do without.
            from chassis.auth.oidc import OIDCAuth

            return OIDCAuth(issuer, *audience, scope_prefix=scope_prefix, rules=_claim_rules(settings))


def _claim_rules(settings: Settings) -> ClaimRules:
    names: dict[Scope, str | None] = {"read": settings.oidc_read, "write": settings.oidc_write}
    return ClaimRules(
        audience=settings.oidc_audience_claim,
        subject=tuple(split_list(settings.oidc_subject_claim)),
        scopes=tuple(split_list(settings.oidc_claim)),
        names={scope: frozenset(split_list(of_scope)) for scope, of_scope in names.items() if of_scope is not None},
        subjects={
            "read": tuple(split_list(settings.oidc_read_subjects)),
            "write": tuple(split_list(settings.oidc_write_subjects)),
        },
    )


def _missing(settings: Settings, field: str, what: str) -> InvalidSettings:
    return InvalidSettings(f"{settings.variable('auth')}={settings.auth} needs {settings.variable(field)}, {what}.")
