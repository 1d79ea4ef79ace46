"""Which way of authentication the settings mean."""

from __future__ import annotations

import logging

from task_api.auth.protocol import Authenticator, NoAuth
from task_api.auth.tokens import TokenAuth
from task_api.settings import InvalidSettings, Settings

log = logging.getLogger(__name__)


def from_settings(settings: Settings) -> Authenticator:
    """What TASKS_AUTH names.

    Reads the token file, but asks no issuer: one that is down does not keep pods down.
    Raises InvalidSettings with one sentence: a variable that is missing, or what is wrong with the token file.
    """
    issuer, audience = settings.oidc_issuer, settings.oidc_audience
    match settings.auth:
        case "none":
            return NoAuth()
        case "tokens":
            if settings.auth_token_file is None:
                raise _missing("tokens", "AUTH_TOKEN_FILE", "the file with the tokens' hashes")
            try:
                return TokenAuth(settings.auth_token_file)
            except ValueError as error:
                raise InvalidSettings(str(error)) from error
        case "oidc":
            if not issuer:
                raise _missing("oidc", "OIDC_ISSUER", "the URL that tokens name in `iss`")
            if not issuer.startswith(("https://", "http://")):
                raise InvalidSettings(
                    "TASKS_OIDC_ISSUER must begin with https:// (http:// is for an issuer in a test)."
                )
            if not audience:
                raise _missing("oidc", "OIDC_AUDIENCE", "this API's name in the tokens' `aud`")
            if issuer.startswith("http://"):
                log.warning("TASKS_OIDC_ISSUER is not https: whoever is on the way to it can forge its keys.")
            # Here, because its HTTP client and cryptography weigh 11 MB that the other two do without.
            from task_api.auth.oidc import OIDCAuth

            return OIDCAuth(issuer, audience)


def _missing(auth: str, variable: str, what: str) -> InvalidSettings:
    return InvalidSettings(f"TASKS_AUTH={auth} needs TASKS_{variable}, {what}.")
