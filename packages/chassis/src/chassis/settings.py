"""Settings from environment variables, and one-line errors for invalid ones."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


def _rate(rate: str | None) -> str | None:
    if rate is not None and not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", rate):
        raise ValueError("must be a number of requests, / and second, minute, hour or day, such as 100/minute")
    return rate


def _networks(text: str) -> str:
    try:
        for network in text.split(",") if text else []:
            ip_network(network.strip())
    except ValueError as error:
        raise ValueError(f"must be a list of addresses or networks, such as 10.0.0.1, 10.1.0.0/16: {error}") from None
    return text


def split_list(text: str) -> list[str]:
    """The items of a comma-separated setting."""
    return [part for part in (part.strip() for part in text.split(",")) if part]


def _claim(text: str) -> str:
    # Error responses name the claim in a quoted string of a header, which it must not terminate.
    if not split_list(text) or not re.fullmatch(r"[ !#-\[\]-~]+", text):
        raise ValueError("must be an ASCII claim name without quotes and backslashes")
    return text


def _origins(text: str) -> str:
    for origin in split_origins(text):
        written = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", origin)
        if origin != "*" and not written:
            raise ValueError(
                "must be a list of origins as browsers send them, in lower case and without a path: "
                "https://app.example.com, http://localhost:5173; or * for all"
            )
        if written and (written[1], written[3]) in (("https", ":443"), ("http", ":80")):
            raise ValueError(f"browsers omit the port {written[3]} of {written[1]}: omit it, too")
    return text


def split_origins(text: str) -> list[str]:
    """The origins of the setting `cors_origins`."""
    return [origin.strip() for origin in text.split(",")] if text else []


Seconds = Annotated[float, Field(gt=0, le=300)]


class Settings(BaseSettings):
    """The settings of every service, read from environment variables: a prefix, which the service's subclass sets, and
    the field's name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, validate_by_name=True, hide_input_in_errors=True
    )  # it may be a password

    host: str = Field(default="127.0.0.1", description="address to listen on; :: is all IPv6 and IPv4 addresses")
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port to listen on; 0 selects a free port")
    head_seconds: Seconds = Field(
        default=10, description="seconds from a request's first byte to the end of its headers (header timeout)"
    )
    body_seconds: Seconds = Field(
        default=20, description="seconds that a request body may take to arrive (body timeout)"
    )
    body_max_bytes: int = Field(
        default=1024 * 1024, ge=1024, le=2**30, description="maximum size of a request body in bytes"
    )
    write_seconds: Seconds = Field(
        default=20,
        description="seconds without progress before a connection with an unread response is aborted (write timeout)",
    )
    rate_limit: Annotated[str | None, AfterValidator(_rate)] = Field(
        default=None,
        description="rate limit per caller and process, such as 100/minute; unset: unlimited",
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        default="",
        description="addresses or networks, comma-separated, of proxies whose X-Forwarded-For is trusted",
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] = Field(
        default="",
        description="origins, comma-separated, whose pages may call the API from a browser (CORS); * is all",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path prefix under which a proxy serves the API, such as /tasks",
    )
    drain_seconds: float = Field(
        default=0,
        ge=0,
        le=300,
        description="seconds to keep serving after SIGTERM while telling clients to reconnect elsewhere (drain)",
    )
    graceful_seconds: Seconds = Field(
        default=3,
        description="seconds that requests in flight may take to complete after the drain (graceful shutdown)",
    )
    auth: Literal["none", "tokens", "oidc"] = Field(
        default="none",
        description="authentication mode: none, tokens (the service's own) or oidc (JWTs of an issuer)",
    )
    auth_token_file: Path | None = Field(
        default=None, description="file with the token hashes: the lines that `token new` prints"
    )
    oidc_issuer: str | None = Field(default=None, description="URL of the OpenID Connect issuer")
    oidc_audience: str | None = Field(
        default=None, description="required audience of JWTs; comma-separated: one of them"
    )
    oidc_audience_claim: Annotated[str, AfterValidator(_claim)] = Field(
        default="aud", description="JWT claim with the audience, if it is not aud: client_id with Cognito"
    )
    oidc_subject_claim: Annotated[str, AfterValidator(_claim)] = Field(
        default="sub",
        description="JWT claim that names the caller; comma-separated: the first one present",
    )
    oidc_claim: str = Field(
        default="scope,scp",
        description="JWT claims, comma-separated, with names of scopes, roles or groups, such as realm_access.roles",
    )
    oidc_read: str | None = Field(
        default=None,
        description="names in those claims, comma-separated, that grant the scope read; unset: read",
    )
    oidc_write: str | None = Field(
        default=None,
        description="names in those claims, comma-separated, that grant the scope write; unset: write",
    )
    oidc_read_subjects: str = Field(
        default="",
        description="callers, comma-separated, that have the scope read regardless of their claims; "
        "* matches anything without a colon",
    )
    oidc_write_subjects: str = Field(
        default="",
        description="callers, comma-separated, that have the scope write regardless of their claims; "
        "* matches anything without a colon",
    )
    # Without the prefix: set by the Dockerfile, which all services share.
    revision: str = Field(
        default="dev",
        validation_alias="SERVICE_REVISION",
        description="revision of this build: a commit, or a hash of the sources",
    )

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment variable of a field."""
        return f"{cls.model_config['env_prefix']}{field}".upper()


class InvalidSettings(Exception):
    """The environment contains invalid values; the message is one line per variable."""


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(settings: type[AnySettings], **overrides: Any) -> AnySettings:
    """The settings of this process; `overrides` (command-line flags) take precedence over the environment.

    Raises InvalidSettings. Its message names variables and rules but never repeats a value: one
    of them is a password.
    """
    try:
        return settings(**overrides)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = str(problem["loc"][0])
            message = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{settings.variable(name)}: {message}. Meaning: {settings.model_fields[name].description}.")
        raise InvalidSettings("\n".join(lines)) from None
