"""Authentication and authorization, and the errors for callers without a valid credential."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from issuers import Issuer
from joserfc import jws, jwt
from joserfc.jwk import ECKey, Key, OctKey, OKPKey, RSAKey
from joserfc.jws import JWSRegistry
from pydantic_settings import SettingsConfigDict
from starlette.testclient import TestClient

from chassis import settings
from chassis.auth import (
    ANONYMOUS,
    Authenticator,
    AuthUnavailable,
    Basic,
    Caller,
    NoAuth,
    Scope,
    TokenAuth,
    Unauthenticated,
    new_token,
    requires,
)
from chassis.auth.factory import create_authenticator
from chassis.auth.oidc import OIDCAuth
from chassis.problems import Problem
from chassis.rate_limit import RateLimit
from chassis.settings import InvalidSettings

AUDIENCE = "tasks"


class Settings(settings.Settings):
    model_config = SettingsConfigDict(env_prefix="ORDERS_")


NOW = 1_800_000_000


class Clock:
    """A clock that the test advances, in seconds."""

    def __init__(self) -> None:
        self.seconds = 1000.0  # a monotonic clock starts anywhere

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    server = Issuer()
    server.keys = [KEYS["ES256"]]
    yield server
    server.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def oidc(issuer: Issuer, clock: Clock) -> OIDCAuth:
    return OIDCAuth(issuer.url, AUDIENCE, clock=clock, now=lambda: NOW, scope_prefix="tasks")


def elliptic_key(kid: str) -> ECKey:
    return ECKey.generate_key("P-256", {"kid": kid})


KEYS: dict[str, Key] = {
    "RS256": RSAKey.generate_key(2048, {"kid": "rsa"}),
    "PS256": RSAKey.generate_key(2048, {"kid": "pss"}),
    "ES256": elliptic_key("elliptic"),
    "ES384": ECKey.generate_key("P-384", {"kid": "elliptic 384"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "edwards"}),
    "Ed25519": OKPKey.generate_key("Ed25519", {"kid": "edwards, under its new name"}),
}


def base64url(part: object) -> str:
    text = part if isinstance(part, bytes) else json.dumps(part).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def claims_of(issuer: Issuer, **changed: object) -> dict[str, object]:
    """The claims of a valid token, with changes; None omits a claim."""
    claims = {"iss": issuer.url, "aud": AUDIENCE, "sub": "ada", "exp": NOW + 300, "scope": "tasks:read", **changed}
    return {name: value for name, value in claims.items() if value is not None}


def bearer_jwt(
    issuer: Issuer,
    key: Key = KEYS["ES256"],
    *,
    alg: str = "ES256",
    header: dict[str, Any] | None = None,
    **changed: object,
) -> str:
    """The Authorization header with a JWT; `changed` claims differ from those of a valid one."""
    return "Bearer " + jwt.encode(
        {"alg": alg, "kid": key.kid, **(header or {})},
        claims_of(issuer, **changed),
        key,
        registry=JWSRegistry(algorithms=[alg], strict_check_header=False),
    )


async def rejection(authenticator: Authenticator, authorization: str | None) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as raised:
        await authenticator.authenticate(authorization)
    return raised.value


def write_tokens(path: Path, *lines: str) -> None:
    """Like Kubernetes: a new file, and a symlink that is replaced atomically."""
    version = path.parent / f"version-{time.monotonic_ns()}"
    version.write_text("\n".join(lines))
    link = path.parent / "next"
    link.symlink_to(version)
    link.replace(path)


# --- without authentication -------------------------------------------------------------------------------------------


async def test_without_authentication_callers_are_anonymous_and_may_write() -> None:
    assert await NoAuth().authenticate(None) is ANONYMOUS
    assert ANONYMOUS.scopes == {"read", "write"}


# --- tokens -----------------------------------------------------------------------------------------------------------


def test_a_token_is_long_and_only_its_hash_is_stored() -> None:
    token, line = new_token("ci of the shop", ["write", "read"], prefix="tsk_")
    assert token.startswith("tsk_")
    assert len(base64.urlsafe_b64decode(token.removeprefix("tsk_") + "=")) == 32
    assert line == f"{hashlib.sha256(token.encode()).hexdigest()} read,write ci of the shop"
    assert new_token("ci", ["read"])[0] != new_token("ci", ["read"])[0]


@pytest.mark.parametrize("name", ["", "  ", "two\nlines", "bell\a"])
def test_a_token_name_must_be_one_printable_line(name: str) -> None:
    with pytest.raises(ValueError, match="name of printable characters"):
        new_token(name, ["read"])


@pytest.mark.parametrize("scopes", [[], ["admin"], ["read", "admin"]])
def test_a_token_needs_valid_scopes(scopes: list[Scope]) -> None:
    with pytest.raises(ValueError, match="read, write or both"):
        new_token("ci", scopes)


async def test_a_token_determines_subject_and_scopes(tmp_path: Path) -> None:
    reader, read_line = new_token("dashboard", ["read"])
    writer, write_line = new_token("import job", ["write"])
    write_tokens(tmp_path / "tokens", "# made in March", "", read_line, f"  {write_line}\r", "")
    auth = TokenAuth(tmp_path / "tokens")
    assert await auth.authenticate(f"Bearer {reader}") == Caller("dashboard", frozenset({"read"}))
    assert await auth.authenticate(f"bearer  {writer}") == Caller("import job", frozenset({"write"}))


async def test_a_request_without_a_bearer_token_gets_a_challenge_without_an_error(tmp_path: Path) -> None:
    write_tokens(tmp_path / "tokens", new_token("ci", ["read"])[1])
    for authorization in (None, "", "Bearer", "Bearer ", "Basic YTpi", "tsk_alone"):
        error = await rejection(TokenAuth(tmp_path / "tokens"), authorization)
        assert error.challenge("orders") == 'Bearer realm="orders"'
        assert "Authorization: Bearer" in error.detail


async def test_an_unknown_token_is_rejected_without_being_echoed(tmp_path: Path) -> None:
    token, line = new_token("ci", ["read"])
    write_tokens(tmp_path / "tokens", line)
    auth = TokenAuth(tmp_path / "tokens")
    for invalid in (new_token("ci", ["read"])[0], token[:-1], token + "A", line.split()[0], "\xff\xfe", "a b"):
        error = await rejection(auth, f"Bearer {invalid}")
        assert error.challenge("orders") == (
            'Bearer realm="orders", error="invalid_token", '
            'error_description="Unknown token: it was mistyped or revoked."'
        )
        assert str(error) == error.detail
        assert invalid not in error.challenge("orders") + repr(error)


async def test_each_change_of_the_token_file_is_loaded_within_a_second(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "tokens"
    old, line = new_token("ci", ["read"])
    write_tokens(path, line)
    auth = TokenAuth(path, clock=clock)
    for _ in range(2):
        new, line = new_token("ci", ["read"])
        write_tokens(path, line)
        clock.seconds += 0.75
        assert (await auth.authenticate(f"Bearer {old}")).subject == "ci"  # not checked again yet
        clock.seconds += 0.25
        assert (await auth.authenticate(f"Bearer {new}")).subject == "ci"
        await rejection(auth, f"Bearer {old}")
        old = new


async def test_a_token_file_is_loaded_once_per_change(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    token, line = new_token("ci", ["read"])
    write_tokens(tmp_path / "tokens", line)
    auth = TokenAuth(tmp_path / "tokens", clock=clock)
    for loaded in (1, 2):
        for _ in range(3):
            clock.seconds += 1
            await auth.authenticate(f"Bearer {token}")
        assert caplog.text.count("Loaded 1 tokens from") == loaded
        write_tokens(tmp_path / "tokens", line)


async def test_an_emptied_token_file_revokes_every_token(tmp_path: Path, clock: Clock) -> None:
    token, line = new_token("ci", ["read"])
    write_tokens(tmp_path / "tokens", line)
    auth = TokenAuth(tmp_path / "tokens", clock=clock)
    write_tokens(tmp_path / "tokens", "# empty")
    clock.seconds += 1
    await rejection(auth, f"Bearer {token}")


@pytest.mark.parametrize("damage", ["invalid", "missing"])
async def test_tokens_stay_valid_while_the_new_file_is_unusable_and_the_error_is_logged_once(
    damage: Literal["invalid", "missing"], tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens"
    token, line = new_token("ci", ["read"])
    write_tokens(path, line)
    auth = TokenAuth(path, clock=clock)
    if damage == "invalid":
        write_tokens(path, line, token)  # the token instead of its hash
    else:
        path.unlink()
    for _ in range(3):
        clock.seconds += 1
        assert (await auth.authenticate(f"Bearer {token}")).subject == "ci"

    added, added_line = new_token("ops", ["write"])
    write_tokens(path, line, added_line)
    clock.seconds += 1
    assert (await auth.authenticate(f"Bearer {added}")).subject == "ops"
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert str(path) in errors[0]
    assert token not in caplog.text


@pytest.mark.parametrize(
    "invalid",
    [
        "tsk_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U read ci",
        f"{'a' * 63} read ci",
        f"{'a' * 64} read",
        f"{'a' * 64} admin ci",
        f"{'a' * 64} read, write ci",
        f"{'a' * 64}",
    ],
)
def test_an_invalid_line_prevents_startup_and_only_its_number_is_shown(invalid: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    write_tokens(path, "# a comment", "", invalid)
    with pytest.raises(ValueError, match="Line 3 of the token file") as raised:
        TokenAuth(path)
    assert str(path) in str(raised.value)
    assert invalid not in str(raised.value)
    assert invalid.split()[0] not in str(raised.value)


def test_a_token_file_that_is_a_directory_is_reported(tmp_path: Path) -> None:
    """As it is if a Secret is mounted at the path of the file."""
    with pytest.raises(ValueError, match=f"Cannot read the token file {tmp_path}: Is a directory"):
        TokenAuth(tmp_path)


def test_a_binary_file_is_reported_as_an_invalid_line(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="Line 1 of the token file"):
        TokenAuth(tmp_path / "tokens")


# --- OpenID Connect ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alg", KEYS)
async def test_a_jwt_of_the_issuer_is_accepted_with_every_asymmetric_algorithm(
    alg: str, issuer: Issuer, oidc: OIDCAuth
) -> None:
    if alg == "EdDSA":  # joserfc warns about the name when it signs; the service must accept it without a warning
        with pytest.warns(UserWarning, match="RFC 9864"):
            authorization = bearer_jwt(issuer, KEYS[alg], alg=alg)
    else:
        authorization = bearer_jwt(issuer, KEYS[alg], alg=alg)
    issuer.keys = list(KEYS.values())
    assert await oidc.authenticate(authorization) == Caller("ada", frozenset({"read"}))


@pytest.mark.parametrize(
    ("claims", "expected"),
    [
        ({"scope": "openid tasks:read tasks:write"}, {"read", "write"}),
        ({"scope": "write"}, {"write"}),
        ({"scope": None, "scp": ["read", "tasks:write", 7]}, {"read", "write"}),
        ({"scope": None, "scp": "tasks:write"}, {"write"}),
        ({"scope": "tasks:readwrite other:read"}, set()),
        ({"scope": {"read": True}}, set()),
        ({"scope": None}, set()),
    ],
)
async def test_scopes_are_read_from_the_claims_scope_and_scp(
    claims: dict[str, Any], expected: set[str], issuer: Issuer, oidc: OIDCAuth
) -> None:
    assert (await oidc.authenticate(bearer_jwt(issuer, **claims))).scopes == expected


@pytest.mark.parametrize(
    "accepted",
    [
        {"aud": ["other", AUDIENCE]},
        {"exp": NOW - 29},
        {"exp": NOW + 0.5},
        {"nbf": NOW + 30},
        {"header": {"nonce": "of an issuer's own"}},
    ],
)
async def test_a_token_is_accepted_within_the_leeway_and_with_several_audiences(
    accepted: dict[str, Any], issuer: Issuer, oidc: OIDCAuth
) -> None:
    assert (await oidc.authenticate(bearer_jwt(issuer, **accepted))).subject == "ada"


@pytest.mark.parametrize(
    ("invalid", "expected"),
    [
        ({"iss": "https://elsewhere.example"}, "iss"),
        ({"iss": None}, "iss"),
        ({"aud": "other"}, "aud"),
        ({"aud": ["other"]}, "aud"),
        ({"aud": None}, "aud"),
        ({"exp": NOW - 30}, "expired"),
        ({"exp": None}, "exp"),
        ({"exp": "tomorrow"}, "exp"),
        ({"exp": float("nan")}, "exp"),
        ({"exp": True}, "exp"),
        ({"nbf": NOW + 31}, "nbf"),
        ({"sub": None}, "sub"),
        ({"sub": ""}, "sub"),
        ({"sub": 7}, "sub"),
    ],
)
async def test_a_token_with_invalid_claims_is_rejected(
    invalid: dict[str, Any], expected: str, issuer: Issuer, oidc: OIDCAuth
) -> None:
    error = await rejection(oidc, bearer_jwt(issuer, **invalid))
    assert error.error == "invalid_token"
    assert expected in error.detail


@pytest.mark.parametrize("alg", ["none", "NONE", "HS256", "HS384", "HS512", "ES256K", ["RS256"], None, 7])
async def test_an_unsupported_algorithm_is_rejected_without_fetching_keys(
    alg: object, issuer: Issuer, oidc: OIDCAuth
) -> None:
    token = f"{base64url({'alg': alg, 'kid': 'elliptic'})}.{base64url(claims_of(issuer))}."
    assert (await rejection(oidc, f"Bearer {token}")).error == "invalid_token"
    assert issuer.fetches == 0


async def test_the_public_key_is_not_accepted_as_an_hmac_secret(issuer: Issuer, oidc: OIDCAuth) -> None:
    key = KEYS["RS256"]
    assert isinstance(key, RSAKey)
    issuer.keys = [key]
    assert await oidc.authenticate(bearer_jwt(issuer, key, alg="RS256"))
    # Signed by hand: joserfc refuses to create this well-known forgery.
    unsigned = f"{base64url({'alg': 'HS256', 'kid': 'rsa'})}.{base64url(claims_of(issuer))}"
    forged = hmac.digest(key.as_pem(private=False), unsigned.encode(), "sha256")
    assert "algorithm" in (await rejection(oidc, f"Bearer {unsigned}.{base64url(forged)}")).detail


async def test_a_published_symmetric_key_is_ignored(issuer: Issuer, oidc: OIDCAuth) -> None:
    secret = OctKey.generate_key(256, {"kid": "secret"})
    issuer.foreign_keys = [secret.as_dict(private=True)]
    await rejection(oidc, bearer_jwt(issuer, secret, alg="HS256"))


async def test_a_published_encryption_key_verifies_no_signature(issuer: Issuer, oidc: OIDCAuth) -> None:
    encrypting = ECKey.generate_key("P-256", {"kid": "encrypting"})
    issuer.keys = [KEYS["ES256"]]
    issuer.foreign_keys = [{**encrypting.as_dict(private=False), "use": "enc"}]
    await rejection(oidc, bearer_jwt(issuer, encrypting))


@pytest.mark.filterwarnings("ignore:Key size should be:joserfc.errors.SecurityWarning")
@pytest.mark.parametrize(
    ("alg", "key"),
    [
        ("EdDSA", {"kty": "OKP", "crv": "X25519", "x": base64url(b"\1" * 32)}),  # for key agreement
        ("PS512", {"kty": "RSA", "n": base64url(b"\xff" * 64), "e": "AQAB"}),  # too short for the digest
        ("ES256", {**elliptic_key("odd").as_dict(private=False), "key_ops": ["sign"]}),
    ],
    ids=["other use", "too short", "other operation"],
)
async def test_a_published_key_that_cannot_verify_signatures_rejects_the_token(
    alg: str, key: dict[str, Any], issuer: Issuer, oidc: OIDCAuth
) -> None:
    issuer.foreign_keys = [{**key, "kid": "odd"}]
    parts = ({"alg": alg, "kid": "odd"}, claims_of(issuer), b"\0" * 64)
    token = ".".join(base64url(part) for part in parts)
    assert "signature" in (await rejection(oidc, f"Bearer {token}")).detail


async def test_a_tampered_token_is_rejected(issuer: Issuer, oidc: OIDCAuth) -> None:
    header, _, signature = bearer_jwt(issuer).split(".")
    claims = claims_of(issuer, scope="tasks:read tasks:write")
    assert "signature" in (await rejection(oidc, f"{header}.{base64url(claims)}.{signature}")).detail


async def test_a_foreign_key_with_a_known_kid_is_rejected(issuer: Issuer, oidc: OIDCAuth) -> None:
    assert "signature" in (await rejection(oidc, bearer_jwt(issuer, elliptic_key("elliptic")))).detail


@pytest.mark.parametrize(
    "garbage",
    [
        "x",
        "..",
        "a.b.c",
        "\xff.\xff.\xff",
        "." * 100_000,
        "a" * 1_000_000,
        f"{base64url(['alg', 'b64'])}.e30.x",
        f"{base64url(['alg'])}.e30.x",
        f"{base64url('alg')}.e30.x",
        f"{base64url({'alg': 'ES256', 'crit': 7})}.e30.x",
        f"{base64url({'alg': 'ES256', 'crit': [[]]})}.e30.x",
        f"{base64url({'alg': 'ES256', 'crit': ['exp'], 'exp': 1})}.e30.x",
        f"{base64url({'alg': 'ES256', 'kid': 7})}.e30.x",
        f"{base64url({'alg': 'ES256', 'kid': 'elliptic'})}.e30.x",
        f"{base64url({'alg': 'ES256', 'kid': 'elliptic'})}.e30.",
        f"{base64url({'alg': 'ES256', 'kid': 'elliptic'})}.%%.AAAA",
        f"{base64url(b'[' * 380)}.e30.x",
        "tsk_c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U",
    ],
    ids=range(18),
)
async def test_a_malformed_token_is_rejected_and_never_echoed(
    garbage: str, oidc: OIDCAuth, caplog: pytest.LogCaptureFixture
) -> None:
    error = await rejection(oidc, f"Bearer {garbage}")
    assert error.error == "invalid_token"
    error.challenge("orders").encode("ascii")
    assert '"' not in error.detail
    if len(garbage) > 3:
        assert garbage not in error.detail + caplog.text


async def test_a_signed_payload_that_is_not_an_object_is_rejected(issuer: Issuer, oidc: OIDCAuth) -> None:
    for payload in (b"[]", b"x", b"\xff"):
        token = jws.serialize_compact({"alg": "ES256", "kid": "elliptic"}, payload, KEYS["ES256"])
        await rejection(oidc, f"Bearer {token}")
    assert issuer.fetches == 1


async def test_keys_are_cached_for_15_minutes(issuer: Issuer, oidc: OIDCAuth, clock: Clock) -> None:
    for _ in range(20):
        clock.seconds += 40
        await oidc.authenticate(bearer_jwt(issuer))
    assert issuer.fetches == 1
    clock.seconds += 140
    await oidc.authenticate(bearer_jwt(issuer))
    assert issuer.fetches == 2


async def test_concurrent_requests_share_one_fetch_of_the_keys(issuer: Issuer, oidc: OIDCAuth) -> None:
    callers = await asyncio.gather(*(oidc.authenticate(bearer_jwt(issuer)) for _ in range(30)))
    assert {caller.subject for caller in callers} == {"ada"}
    assert issuer.fetches == 1


async def test_a_rotated_key_is_fetched_when_a_token_uses_it(issuer: Issuer, oidc: OIDCAuth, clock: Clock) -> None:
    old, new = KEYS["ES256"], elliptic_key("next")
    await oidc.authenticate(bearer_jwt(issuer, old))
    issuer.keys = [old, new]
    clock.seconds += 10
    await oidc.authenticate(bearer_jwt(issuer, new))
    await oidc.authenticate(bearer_jwt(issuer, old))
    assert issuer.fetches == 2


async def test_a_withdrawn_key_is_rejected_after_15_minutes(issuer: Issuer, oidc: OIDCAuth, clock: Clock) -> None:
    await oidc.authenticate(bearer_jwt(issuer))
    issuer.keys = [elliptic_key("next")]
    clock.seconds += 15 * 60
    assert "does not publish" in (await rejection(oidc, bearer_jwt(issuer))).detail


async def test_unknown_kids_trigger_at_most_one_fetch_every_ten_seconds(
    issuer: Issuer, oidc: OIDCAuth, clock: Clock
) -> None:
    await oidc.authenticate(bearer_jwt(issuer))
    for number in range(200):
        clock.seconds += 0.1
        await rejection(oidc, bearer_jwt(issuer, header={"kid": f"forged {number}"}))
    assert 2 <= issuer.fetches <= 3


async def test_a_token_without_a_kid_is_accepted_while_only_one_key_for_its_algorithm_is_published(
    issuer: Issuer, oidc: OIDCAuth, clock: Clock
) -> None:
    nameless = ECKey.generate_key("P-256", {"kid": "elliptic"})
    token = "Bearer " + jwt.encode({"alg": "ES256"}, claims_of(issuer), nameless)
    issuer.keys = [nameless, KEYS["RS256"], KEYS["ES384"]]
    assert (await oidc.authenticate(token)).subject == "ada"
    issuer.keys = [nameless, elliptic_key("another")]
    clock.seconds += 15 * 60
    await rejection(oidc, token)


async def test_the_last_known_keys_are_used_while_the_issuer_is_down(
    issuer: Issuer, oidc: OIDCAuth, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await oidc.authenticate(bearer_jwt(issuer))
    issuer.broken = True
    for _ in range(5):
        clock.seconds += 3600
        assert (await oidc.authenticate(bearer_jwt(issuer))).subject == "ada"
    assert "the last known keys stay in use" in caplog.text
    assert "For more information" not in caplog.text  # the second line of the HTTP client's message
    assert "Bearer" not in caplog.text


async def test_the_last_known_keys_are_used_while_the_issuer_publishes_no_usable_one(
    issuer: Issuer, oidc: OIDCAuth, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    await oidc.authenticate(bearer_jwt(issuer))
    issuer.keys = []
    clock.seconds += 15 * 60
    assert (await oidc.authenticate(bearer_jwt(issuer))).subject == "ada"
    assert "no usable key" in caplog.text


async def test_a_known_key_does_not_wait_for_a_slow_issuer(issuer: Issuer, clock: Clock) -> None:
    """Only one request refreshes expired keys."""
    auth = OIDCAuth(issuer.url, AUDIENCE, clock=clock, now=lambda: NOW, scope_prefix="tasks")
    await auth.authenticate(bearer_jwt(issuer))
    clock.seconds += 3600
    finished: list[str] = []

    async def call(name: str) -> None:
        await auth.authenticate(bearer_jwt(issuer))
        finished.append(name)

    await asyncio.gather(call("refreshes"), call("does not wait"))
    assert finished == ["does not wait", "refreshes"]
    assert issuer.fetches == 2


async def test_tokens_cannot_be_verified_until_the_issuers_keys_are_fetched(
    issuer: Issuer, oidc: OIDCAuth, clock: Clock
) -> None:
    issuer.broken = True
    with pytest.raises(AuthUnavailable, match="issuer is not responding"):
        await oidc.authenticate(bearer_jwt(issuer))
    issuer.broken = False
    with pytest.raises(AuthUnavailable):  # not fetched again yet
        await oidc.authenticate(bearer_jwt(issuer))
    clock.seconds += 1
    assert (await oidc.authenticate(bearer_jwt(issuer))).subject == "ada"


async def test_an_unreachable_issuer_makes_authentication_unavailable(issuer: Issuer) -> None:
    authorization = bearer_jwt(issuer)
    issuer.close()
    with pytest.raises(AuthUnavailable):
        await OIDCAuth(issuer.url, AUDIENCE, scope_prefix="tasks").authenticate(authorization)


async def test_a_discovery_document_of_another_issuer_is_rejected(
    issuer: Issuer, oidc: OIDCAuth, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.claimed_url = issuer.url + "/"
    with pytest.raises(AuthUnavailable):
        await oidc.authenticate(bearer_jwt(issuer))
    assert "discovery document" in caplog.text


async def test_documents_with_an_error_status_are_not_used(
    issuer: Issuer, oidc: OIDCAuth, monkeypatch: pytest.MonkeyPatch
) -> None:
    respond = issuer.respond
    monkeypatch.setattr(issuer, "respond", lambda path: (503, respond(path)[1]))
    with pytest.raises(AuthUnavailable):
        await oidc.authenticate(bearer_jwt(issuer))


async def test_a_document_of_the_issuer_that_is_no_object_makes_authentication_unavailable(
    issuer: Issuer, oidc: OIDCAuth, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(issuer, "respond", lambda _path: (200, ["an error message"]))
    with pytest.raises(AuthUnavailable):
        await oidc.authenticate(bearer_jwt(issuer))
    assert "openid-configuration is not a JSON object" in caplog.text


async def test_unsupported_and_malformed_keys_are_skipped(issuer: Issuer, oidc: OIDCAuth) -> None:
    issuer.foreign_keys = [
        "no key",
        {},
        {"kty": ["RSA"]},
        {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"},
        {"kty": "EC", "crv": "P-0", "x": "AA", "y": "AA", "kid": "elliptic"},
        {"kty": "RSA", "n": "", "e": "AQAB", "kid": "elliptic"},
        {"kty": "RSA", "kid": "elliptic"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA"},
    ]
    assert (await oidc.authenticate(bearer_jwt(issuer))).subject == "ada"


# --- settings ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "issuer_url", "audience", "missing"),
    [
        ("tokens", None, None, "ORDERS_AUTH_TOKEN_FILE"),
        ("oidc", None, "tasks", "ORDERS_OIDC_ISSUER"),
        ("oidc", "login.example", "tasks", "ORDERS_OIDC_ISSUER"),
        ("oidc", "https://login.example", None, "ORDERS_OIDC_AUDIENCE"),
    ],
)
def test_a_missing_or_invalid_setting_is_named(
    auth: Literal["tokens", "oidc"], issuer_url: str | None, audience: str | None, missing: str
) -> None:
    with pytest.raises(InvalidSettings, match=missing):
        create_authenticator(Settings(auth=auth, oidc_issuer=issuer_url, oidc_audience=audience), scope_prefix="tasks")


def test_a_missing_token_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match=f"Cannot read the token file {tmp_path}/none: No such file"):
        create_authenticator(Settings(auth="tokens", auth_token_file=tmp_path / "none"), scope_prefix="tasks")


def test_every_authentication_mode_can_be_configured(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tokens").touch()
    issuer_url = "https://login.example"
    assert isinstance(create_authenticator(Settings(auth="none"), scope_prefix="tasks"), NoAuth)
    assert isinstance(
        create_authenticator(Settings(auth="tokens", auth_token_file=tmp_path / "tokens"), scope_prefix="tasks"),
        TokenAuth,
    )
    assert isinstance(
        create_authenticator(
            Settings(auth="oidc", oidc_issuer=issuer_url, oidc_audience="tasks"), scope_prefix="tasks"
        ),
        OIDCAuth,
    )
    assert not caplog.records
    create_authenticator(
        Settings(auth="oidc", oidc_issuer="http://login.example", oidc_audience="tasks"), scope_prefix="tasks"
    )
    assert "not https" in caplog.text


# --- routes -----------------------------------------------------------------------------------------------------------


@contextmanager
def app_client(authenticator: Authenticator) -> Iterator[TestClient]:
    app = FastAPI()
    app.state.authenticator = authenticator
    app.state.realm = "orders"
    app.state.rate_limit = None

    @app.exception_handler(Problem)
    async def problem(_request: Request, problem: Problem) -> JSONResponse:
        return JSONResponse({"detail": problem.detail}, problem.status, headers=problem.headers)

    @app.get("/tasks")
    async def read(caller: Annotated[Caller, Depends(requires("read"))]) -> str:
        return caller.subject

    @app.get("/tasks.ics", dependencies=[Depends(Basic())])
    async def export(caller: Annotated[Caller, Depends(requires("read", basic=True))]) -> str:
        return caller.subject

    @app.post("/tasks", dependencies=[Depends(requires("write"))])
    async def write() -> str:
        return "written"

    @app.get("/health")
    async def health() -> str:
        return "ok"

    with TestClient(app) as client:
        yield client


def test_a_route_returns_401_403_or_the_caller(tmp_path: Path) -> None:
    token, line = new_token("dashboard", ["read"])
    write_tokens(tmp_path / "tokens", line)
    with app_client(TokenAuth(tmp_path / "tokens")) as client:
        missing = client.get("/tasks")
        assert missing.status_code == 401
        assert missing.headers["www-authenticate"] == 'Bearer realm="orders"'

        invalid = client.get("/tasks", headers={"Authorization": "Bearer tsk_wrong"})
        assert invalid.status_code == 401
        assert 'error="invalid_token"' in invalid.headers["www-authenticate"]

        valid = {"Authorization": f"Bearer {token}"}
        assert client.get("/tasks", headers=valid).json() == "dashboard"
        forbidden = client.post("/tasks", headers=valid)
        assert forbidden.status_code == 403
        assert forbidden.headers["www-authenticate"] == 'Bearer error="insufficient_scope", scope="write"'
        assert forbidden.json()["detail"] == "This needs the scope write, which the credential does not have."

        assert client.get("/health").json() == "ok"


def basic(text: bytes) -> dict[str, str]:
    return {"Authorization": f"Basic {base64.b64encode(text).decode()}"}


def test_a_route_may_accept_the_token_as_basic_auth_password(tmp_path: Path) -> None:
    token, line = new_token("calendar", ["read"])
    write_tokens(tmp_path / "tokens", line)
    with app_client(TokenAuth(tmp_path / "tokens")) as client:
        for name in ("", "calendar", "gr\u00fcn"):
            assert client.get("/tasks.ics", headers=basic(f"{name}:{token}".encode())).json() == "calendar"
        assert client.get("/tasks.ics", headers={"Authorization": f"Bearer {token}"}).json() == "calendar"
        for invalid in (
            b"calendar",
            b"calendar:",
            b"calendar:tsk_wrong",
            token.encode() + b":",
            b"\xff:" + token.encode(),
        ):
            response = client.get("/tasks.ics", headers=basic(invalid))
            assert response.status_code == 401
            assert token not in response.text + str(response.headers)
        damaged = basic(b":" + token.encode())["Authorization"].replace("Basic ", "Basic ?")
        for authorization in ("Basic ???", damaged):
            assert client.get("/tasks.ics", headers={"Authorization": authorization}).status_code == 401
        missing = client.get("/tasks.ics").headers["www-authenticate"]
        assert missing == 'Basic realm="orders", charset="UTF-8", Bearer realm="orders"'


def test_other_routes_reject_basic_auth(tmp_path: Path) -> None:
    token, line = new_token("calendar", ["read", "write"])
    write_tokens(tmp_path / "tokens", line)
    with app_client(TokenAuth(tmp_path / "tokens")) as client:
        password = basic(b":" + token.encode())
        for response in (client.get("/tasks", headers=password), client.post("/tasks", headers=password)):
            assert response.status_code == 401
            assert response.headers["www-authenticate"] == 'Bearer realm="orders"'


def test_a_route_returns_503_while_tokens_cannot_be_verified(issuer: Issuer, oidc: OIDCAuth) -> None:
    issuer.broken = True
    with app_client(oidc) as client:
        response = client.get("/tasks", headers={"Authorization": bearer_jwt(issuer)})
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"


def test_without_authentication_a_route_ignores_credentials() -> None:
    with app_client(NoAuth()) as client:
        assert client.get("/tasks", headers={"Authorization": "Basic nonsense"}).status_code == 200
        assert client.post("/tasks").json() == "written"


def test_the_openapi_document_declares_the_security_schemes_of_each_route() -> None:
    with app_client(NoAuth()) as client:
        document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["bearer"]["scheme"] == "bearer"
    assert document["paths"]["/tasks"]["get"]["security"] == [{"bearer": []}]
    assert document["paths"]["/tasks"]["post"]["security"] == [{"bearer": []}]
    assert document["components"]["securitySchemes"]["basic"]["scheme"] == "basic"
    assert document["paths"]["/tasks.ics"]["get"]["security"] == [{"basic": []}, {"bearer": []}]
    assert "security" not in document["paths"]["/health"]["get"]


class RecordedCallers(RateLimit):
    """A rate limit that nobody exceeds, with the callers that it counted."""

    def __init__(self) -> None:
        super().__init__("1/day")
        self.callers: list[str] = []

    async def acquire(self, request: Request, caller: str) -> None:
        self.callers.append(caller)


def request_to(
    authenticator: Authenticator, rate_limit: RateLimit, address: str | None, authorization: str = ""
) -> Request:
    app = FastAPI()
    app.state.authenticator, app.state.realm, app.state.rate_limit = authenticator, "orders", rate_limit
    headers = [(b"authorization", authorization.encode())]
    client = None if address is None else (address, 50_000)
    return Request({"type": "http", "app": app, "headers": headers, "client": client, "state": {}})


@pytest.mark.parametrize(
    ("address", "caller"),
    [
        ("10.0.0.1", "address 10.0.0.1"),
        ("2001:db8:0:1:ffff::7", "address 2001:db8:0:1::/64"),  # the subscriber's network
        ("fe80::7%eth0", "address fe80::/64"),
        ("not:an:address", "address not:an:address"),
        (None, "address "),  # a Unix domain socket
    ],
)
async def test_the_rate_limit_counts_by_address_without_a_valid_credential(
    address: str | None, caller: str, tmp_path: Path
) -> None:
    (tmp_path / "tokens").touch()
    limit = RecordedCallers()
    assert await requires("read")(request_to(NoAuth(), limit, address)) is ANONYMOUS
    with pytest.raises(Problem):
        await requires("read")(request_to(TokenAuth(tmp_path / "tokens"), limit, address, "Bearer guess"))
    assert limit.callers == [caller, caller]


async def test_the_rate_limit_counts_by_subject_with_a_valid_credential(tmp_path: Path) -> None:
    token, line = new_token("dashboard", ["read"])
    write_tokens(tmp_path / "tokens", line)
    limit = RecordedCallers()
    request = request_to(TokenAuth(tmp_path / "tokens"), limit, "10.0.0.1", f"Bearer {token}")
    assert (await requires("read")(request)).subject == "dashboard"
    assert request.state.subject == "dashboard"  # which is logged
    with pytest.raises(Problem):
        await requires("write")(request)
    assert limit.callers == ["subject dashboard"] * 2


@pytest.mark.parametrize(
    ("now", "allowed"),
    [
        (Caller("dashboard", frozenset({"read"})), True),
        (Caller("dashboard", frozenset({"write"})), False),
        (Unauthenticated("The token has expired.", "invalid_token"), False),
        (AuthUnavailable("Their issuer is not responding."), True),
    ],
)
async def test_a_credential_is_checked_again_during_a_stream(now: Caller | Exception, allowed: bool) -> None:
    class Changed:
        async def authenticate(self, authorization: str | None) -> Caller:
            assert authorization == "Bearer token"
            if isinstance(now, Exception):
                raise now
            return now

    limit = RecordedCallers()
    for basic, credential in ((False, "Bearer token"), (True, "Basic OnRva2Vu")):
        request = request_to(Changed(), limit, None, credential)
        assert await requires("read", basic=basic).still_allows(request) is allowed
    assert limit.callers == []  # it is one request
