"""What can be set from outside, and the one line a wrong setting is answered with."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict


def _rate(rate: str | None) -> str | None:
    if rate is not None and not re.fullmatch(r"[1-9][0-9]{0,8}/(second|minute|hour|day)", rate):
        raise ValueError("a rate is a number of requests, / and second, minute, hour or day")
    return rate


def _networks(text: str) -> str:
    try:
        for network in text.split(",") if text else []:
            ip_network(network.strip())
    except ValueError as error:
        raise ValueError(f"a list of addresses or networks, as 10.0.0.1, 10.1.0.0/16: {error}") from None
    return text


def listed(text: str) -> list[str]:
    """The parts of a setting that may have several, with commas between."""
    return [part for part in (part.strip() for part in text.split(",")) if part]


def _claim(text: str) -> str:
    # A refusal names the claim in a header, so that it must not hold what ends a quoted string there.
    if not listed(text) or not re.fullmatch(r"[ !#-\[\]-~]+", text):
        raise ValueError("a claim's name is of ASCII, without quotes and backslashes")
    return text


def _origins(text: str) -> str:
    for origin in split_origins(text):
        written = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?", origin)
        if origin != "*" and not written:
            raise ValueError(
                "a list of origins as browsers send them, in lower case and without a path: "
                "https://app.example.com, http://localhost:5173; or * for every one"
            )
        if written and (written[1], written[3]) in (("https", ":443"), ("http", ":80")):
            raise ValueError(f"browsers leave out the port {written[3]} of {written[1]}: leave it out, too")
    return text


def split_origins(text: str) -> list[str]:
    """The origins of the setting `cors_origins`."""
    return [origin.strip() for origin in text.split(",")] if text else []


Seconds = Annotated[float, Field(gt=0, le=300)]


class Settings(BaseSettings):
    """Those of every service, read from the environment: a prefix, which the service's own class names, and the field's
    name in capitals."""

    model_config = SettingsConfigDict(
        frozen=True, validate_by_name=True, hide_input_in_errors=True
    )  # it may be a password

    host: str = Field(default="127.0.0.1", description="address to listen on; :: is every one, of IPv6 and IPv4")
    port: int = Field(default=8000, ge=0, le=65535, description="TCP port to listen on; 0 takes any free one")
    head_seconds: Seconds = Field(
        default=10, description="seconds from a request's first byte to the end of its headers"
    )
    body_seconds: Seconds = Field(default=20, description="seconds that a request's body may take to arrive")
    body_max_bytes: int = Field(
        default=1024 * 1024, ge=1024, le=2**30, description="number of bytes that a request's body may have"
    )
    write_seconds: Seconds = Field(
        default=20, description="seconds for which a client may read nothing of the answer that waits for it"
    )
    rate_limit: Annotated[str | None, AfterValidator(_rate)] = Field(
        default=None,
        description="requests that a caller may send to this process in a time, such as 100/minute; unset, any number",
    )
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = Field(
        default="",
        description="addresses or networks, with commas between, whose X-Forwarded-For names the real client",
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] = Field(
        default="",
        description="origins, with commas between, whose pages may call the API from a browser; * is every one",
    )
    root_path: str = Field(
        default="",
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path below which a proxy serves the API, such as /tasks",
    )
    drain_seconds: float = Field(
        default=0, ge=0, le=300, description="seconds to go on serving after SIGTERM, telling clients to go elsewhere"
    )
    graceful_seconds: Seconds = Field(
        default=3, description="seconds that requests in flight get to end, after the drain"
    )
    auth: Literal["none", "tokens", "oidc"] = Field(
        default="none",
        description="way to tell who calls: none, tokens (of the service's own) or oidc (JWTs of an issuer)",
    )
    auth_token_file: Path | None = Field(
        default=None, description="file with the hashes of the tokens: the lines that `token new` prints"
    )
    oidc_issuer: str | None = Field(default=None, description="URL of the OpenID Connect issuer")
    oidc_audience: str | None = Field(
        default=None, description="audience that JWTs must be made for; one of several with commas between"
    )
    oidc_audience_claim: Annotated[str, AfterValidator(_claim)] = Field(
        default="aud", description="claim of JWTs that names the audience, where it is not aud: client_id with Cognito"
    )
    oidc_subject_claim: Annotated[str, AfterValidator(_claim)] = Field(
        default="sub",
        description="claim of JWTs that names the caller; of several, with commas between, the first there",
    )
    oidc_claim: str = Field(
        default="scope,scp",
        description="claims of JWTs, with commas between, that hold names of scopes, roles or groups, such as "
        "realm_access.roles",
    )
    oidc_read: str | None = Field(
        default=None,
        description="names in those claims, with commas between, that mean the scope read; unset, its own name",
    )
    oidc_write: str | None = Field(
        default=None,
        description="names in those claims, with commas between, that mean the scope write; unset, its own name",
    )
    oidc_read_subjects: str = Field(
        default="",
        description="callers, with commas between, that have the scope read whatever the claims say; "
        "* is anything without a colon",
    )
    oidc_write_subjects: str = Field(
        default="",
        description="callers, with commas between, that have the scope write whatever the claims say; "
        "* is anything without a colon",
    )
    # Without the prefix: the Dockerfile, which is every service's, sets it.
    revision: str = Field(
        default="dev",
        validation_alias="SERVICE_REVISION",
        description="name of this build: a commit, or a hash of the sources",
    )

    @classmethod
    def variable(cls, field: str) -> str:
        """The environment's name of a field."""
        return f"{cls.model_config['env_prefix']}{field}".upper()


class InvalidSettings(Exception):
    """The environment holds a value that cannot be used; the message is one line per variable."""


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_settings(settings: type[AnySettings], **given: Any) -> AnySettings:
    """The settings of this process; `given` (command line flags) wins over the environment.

    Raises InvalidSettings. Its message names variables and rules but never repeats a value: one
    of them is a password.
    """
    try:
        return settings(**given)
    except ValidationError as error:
        lines = []
        for problem in error.errors(include_input=False, include_url=False):
            name = str(problem["loc"][0])
            said = problem["msg"].removeprefix("Value error, ")
            lines.append(f"{settings.variable(name)}: {said}. It is the {settings.model_fields[name].description}.")
        raise InvalidSettings("\n".join(lines)) from None
