"""Each row of the table in docs/auth.md: its settings, with a token as documented by the issuer."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from issuers import Issuer
from joserfc import jwt
from joserfc.jwk import RSAKey
from pydantic_settings import SettingsConfigDict
from tls import Authority

from chassis import settings
from chassis.auth import Authenticator, AuthUnavailable, Caller, Unauthenticated, oidc
from chassis.auth.factory import create_authenticator

PAGE = Path(__file__).parents[3] / "docs/auth.md"
KEY = RSAKey.generate_key(2048, {"kid": "2026-11"})
"""RS256, the default of all of them."""


class Settings(settings.Settings):
    model_config = SettingsConfigDict(env_prefix="TASKS_")


@dataclass(frozen=True)
class Shape:
    """claims: of a token with both scopes, in addition to iss, iat and exp. subject: of its caller.

    without: changed claims of a caller without scopes. foreign: changed claims of a token for another API.
    """

    claims: dict[str, Any]
    subject: str
    without: dict[str, Any]
    foreign: dict[str, Any] = field(default_factory=lambda: {"aud": "another-api"})
    header: dict[str, Any] = field(default_factory=lambda: {"typ": "JWT"})


CLIENT = "6731de76-14a6-49ae-97bc-6eba6914391e"
PERSON = "0d2f9f1c-7f43-4a44-8f7e-0c8a3f1f7b11"

KEYCLOAK = {
    "jti": "onrtac:5b0bd1e2",
    "aud": ["tasks", "account"],
    "sub": PERSON,
    "typ": "Bearer",
    "azp": "web-shop",
    "sid": "f4a2d8",
    "acr": "1",
    "allowed-origins": ["https://shop.example.com"],
    "realm_access": {"roles": ["offline_access", "uma_authorization", "tasks-reader", "tasks-writer"]},
    "resource_access": {
        "tasks.api": {"roles": ["reader", "writer"]},
        "account": {"roles": ["manage-account", "view-profile"]},
    },
    "scope": "openid email profile",
    "email_verified": True,
    "preferred_username": "ada",
}
ENTRA = {
    "aud": CLIENT,
    "nbf": 0,
    "aio": "AXQAi/8IAAAA",
    "azp": "f0a0c3c6-2ab4-4c8c-9f5f-0b8f6e8c6a10",
    "azpacr": "1",
    "oid": PERSON,
    "rh": "0.AAAA",
    "sub": "AAAAAAAAAAAAAAAAAAAAAIkzqFVrSaSaFHy782bbtaQ",
    "tid": "aaaabbbb-0000-cccc-1111-dddd2222eeee",
    "uti": "fqiBqXLPj0eQa82S-IYFAA",
    "ver": "2.0",
}
COGNITO = {
    "sub": PERSON,
    "cognito:groups": ["task-readers", "task-writers"],
    "client_id": "1example23456789",
    "origin_jti": "aaaa-bbbb",
    "event_id": "cccc-dddd",
    "token_use": "access",
    "version": 2,
    "scope": "openid tasks/read tasks/write",
    "auth_time": 1_700_000_000,
    "jti": "eeee-ffff",
    "username": "ada",
}
ZITADEL = {
    "aud": ["249103022141702148@shop", "249102883712860172"],
    "client_id": "249103022141702148@shop",
    "jti": "V2_2498",
    "nbf": 0,
    "sub": "248102883712860155",
    "urn:zitadel:iam:org:project:roles": {
        "reader": {"247101": "shop.zitadel.cloud"},
        "writer": {"247101": "shop.zitadel.cloud"},
    },
}
AUTHENTIK = {
    "sub": "3c2f0a6d9c1b4f7b8a5e",
    "aud": "tasks",
    "auth_time": 1_700_000_000,
    "acr": "goauthentik.io/providers/oauth2/default",
    "azp": "tasks",
    "uid": "x8Yz",
    "email": "ada@example.com",
    "email_verified": False,
    "name": "Ada",
    "preferred_username": "ada",
    "groups": ["task readers", "task writers"],
}
DEX = {
    "sub": "CgNhZGESBGxkYXA",
    "aud": "tasks",
    "at_hash": "hAsh",
    "email": "ada@example.com",
    "email_verified": True,
    "groups": ["task-readers", "task-writers"],
    "name": "ada",
}
GITHUB = {
    "jti": "example-id",
    "sub": "repo:octo-org/octo-repo:ref:refs/heads/main",
    "aud": "https://tasks.example.com",
    "ref": "refs/heads/main",
    "sha": "example-sha",
    "repository": "octo-org/octo-repo",
    "repository_id": "74",
    "repository_owner": "octo-org",
    "repository_owner_id": "65",
    "repository_visibility": "private",
    "run_id": "example-run-id",
    "actor": "octocat",
    "workflow": "example-workflow",
    "event_name": "push",
    "ref_type": "branch",
    "job_workflow_ref": "octo-org/octo-repo/.github/workflows/deploy.yml@refs/heads/main",
    "runner_environment": "github-hosted",
    "nbf": 0,
}
GITLAB = {
    "namespace_id": "72",
    "namespace_path": "my-group",
    "project_id": "20",
    "project_path": "my-group/my-project",
    "user_login": "sample-user",
    "pipeline_id": "574",
    "job_id": "302",
    "ref": "main",
    "ref_type": "branch",
    "ref_protected": "true",
    "runner_environment": "gitlab-hosted",
    "jti": "235b3a54",
    "nbf": 0,
    "sub": "project_path:my-group/my-project:ref_type:branch:ref:main",
    "aud": "https://tasks.example.com",
}
KUBERNETES = {
    "aud": ["https://tasks.example.com"],
    "jti": "e51f1fbc",
    "kubernetes.io": {
        "namespace": "shop",
        "node": {"name": "worker-1", "uid": "517eb86e"},
        "pod": {"name": "importer-0", "uid": "0d8b260e"},
        "serviceaccount": {"name": "importer", "uid": "e6a8680e"},
    },
    "nbf": 0,
    "sub": "system:serviceaccount:shop:importer",
}
GOOGLE = {
    "azp": "407408718192.apps.googleusercontent.com",
    "aud": "407408718192.apps.googleusercontent.com",
    "sub": "110169484474386276334",
    "hd": "example.com",
    "email": "ada@example.com",
    "email_verified": True,
    "at_hash": "HK6E",
}

SHAPES = {
    "Keycloak": Shape(
        KEYCLOAK, PERSON, without={"realm_access": {"roles": ["offline_access", "tasks-reader-of-another"]}}
    ),
    "Keycloak, roles of a client": Shape(
        KEYCLOAK, PERSON, without={"resource_access": {"account": {"roles": ["reader", "writer"]}}}
    ),
    "Keycloak, a client without the scope `basic`": Shape(
        {name: value for name, value in KEYCLOAK.items() if name != "sub"},
        "azp:web-shop",
        without={"realm_access": {"roles": []}},
    ),
    "Auth0": Shape(
        {
            "sub": "auth0|123456",
            "aud": ["https://tasks.example.com", "https://ours.eu.auth0.com/userinfo"],
            "scope": "openid profile",
            "azp": "my_client_id",
            "permissions": ["read:tasks", "write:tasks"],
        },
        "auth0|123456",
        without={"permissions": []},
    ),
    "Auth0, roles by an Action": Shape(
        {
            "https://example.com/roles": ["Task reader", "Task writer"],
            "sub": "auth0|123456",
            "aud": ["https://tasks.example.com", "https://ours.eu.auth0.com/userinfo"],
            "scope": "openid profile",
            "azp": "my_client_id",
        },
        "auth0|123456",
        without={"https://example.com/roles": ["Task", "reader", "writer"]},
    ),
    "Entra ID, delegated": Shape(
        {**ENTRA, "name": "Ada", "preferred_username": "ada@example.com", "scp": "Tasks.Read Tasks.Write"},
        str(ENTRA["sub"]),
        without={"scp": "User.Read"},
        header={"typ": "JWT", "x5t": "H9nj5AOSswMphg1SFx7jaV-lB9w"},
    ),
    "Entra ID, app-only": Shape(
        {**ENTRA, "idtyp": "app", "sub": PERSON, "roles": ["Tasks.Read.All", "Tasks.Write.All"]},
        PERSON,
        without={"roles": ["User.Read.All"]},
        header={"typ": "JWT", "x5t": "H9nj5AOSswMphg1SFx7jaV-lB9w"},
    ),
    "Okta": Shape(
        {
            "ver": 1,
            "jti": "AT.0mP4JKAZX1iACIT4vbEDF7LpvDVjxypPMf0D7uX39RE",
            "aud": "api://tasks",
            "cid": "0oabskvc6442nkvQO0h7",
            "uid": "00u5t60iloOHN9pBi0h7",
            "scp": ["openid", "tasks:read", "tasks:write"],
            "auth_time": 1_700_000_000,
            "sub": "ada@example.com",
        },
        "ada@example.com",
        without={"scp": ["openid"]},
    ),
    "Cognito": Shape(
        COGNITO, PERSON, without={"scope": "aws.cognito.signin.user.admin"}, foreign={"client_id": "another-client"}
    ),
    "Cognito, groups": Shape(
        COGNITO, PERSON, without={"cognito:groups": ["admins"]}, foreign={"aud": "1example23456789", "client_id": None}
    ),
    "Google, people of one Workspace": Shape(GOOGLE, str(GOOGLE["sub"]), without={"hd": "example.org"}),
    "Google, service accounts": Shape(
        {
            "aud": "https://tasks.example.com",
            "azp": "104029292853099978293",
            "email": "importer@project.iam.gserviceaccount.com",
            "email_verified": True,
            "sub": "104029292853099978293",
        },
        "104029292853099978293",
        without={"sub": "1040292928530999782930"},
    ),
    "Zitadel": Shape(
        ZITADEL,
        str(ZITADEL["sub"]),
        without={"urn:zitadel:iam:org:project:roles": {"readers": {"reader": "writer"}}},
    ),
    "Authentik": Shape(AUTHENTIK, str(AUTHENTIK["sub"]), without={"groups": ["task"]}),
    "Dex": Shape(DEX, str(DEX["sub"]), without={"groups": []}),
    "GitHub Actions": Shape(GITHUB, str(GITHUB["sub"]), without={"sub": "repo:octo-org/octo-repo:pull_request"}),
    "GitHub Actions, repositories made since July 2026": Shape(
        {**GITHUB, "sub": "repo:octo-org@65/octo-repo@74:environment:production"},
        "repo:octo-org@65/octo-repo@74:environment:production",
        without={"sub": "repo:octo-org@65/octo-repo@74:pull_request"},
    ),
    "GitLab CI": Shape(
        GITLAB, str(GITLAB["sub"]), without={"sub": "project_path:my-group/my-project:ref_type:tag:ref:main"}
    ),
    "Kubernetes": Shape(KUBERNETES, str(KUBERNETES["sub"]), without={"sub": "system:serviceaccount:other:importer"}),
    "Kubernetes, by namespace": Shape(
        KUBERNETES, str(KUBERNETES["sub"]), without={"kubernetes.io": {"namespace": "other", "shop": "shop"}}
    ),
}


def rows() -> dict[str, dict[str, str]]:
    """The settings of each row of the page, by field name."""
    lines = [
        line for line in PAGE.read_text().splitlines() if line.startswith("| ") and "`TASKS_OIDC_AUDIENCE=" in line
    ]
    settings_of = {name: text for name, text, _token in (line.strip("| ").split(" | ") for line in lines)}
    return {
        name: {field.lower(): value for field, value in re.findall(r"`TASKS_(OIDC_\w+)=([^`]+)`", text)}
        for name, text in settings_of.items()
    }


ROWS = rows()


def test_every_documented_issuer_has_a_token_shape() -> None:
    assert ROWS.keys() == SHAPES.keys()


@pytest.fixture(autouse=True)
def long_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests must not depend on how busy the machine is."""
    monkeypatch.setattr(oidc, "FETCH_TIMEOUT_SECONDS", 60.0)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    server = Issuer()
    server.keys = [KEY]
    yield server
    server.close()


def token(issuer: Issuer, shape: Shape, **changed: object) -> str:
    now = int(time.time())
    claims = {**shape.claims, "iss": issuer.url, "iat": now, "exp": now + 300, **changed}
    present = {name: value for name, value in claims.items() if value is not None}
    return "Bearer " + jwt.encode({**shape.header, "alg": "RS256", "kid": KEY.kid}, present, KEY)


def authenticator(issuer: Issuer, row: dict[str, str]) -> Authenticator:
    settings = Settings.model_validate({"auth": "oidc", **row, "oidc_issuer": issuer.url})
    return create_authenticator(settings, scope_prefix="tasks")


@pytest.mark.parametrize("name", SHAPES)
async def test_a_token_is_verified_with_the_documented_settings_of_its_issuer(name: str, issuer: Issuer) -> None:
    shape = SHAPES[name]
    auth = authenticator(issuer, ROWS[name])
    assert await auth.authenticate(token(issuer, shape)) == Caller(shape.subject, frozenset({"read", "write"}))
    assert (await auth.authenticate(token(issuer, shape, **shape.without))).scopes == frozenset()
    with pytest.raises(Unauthenticated, match="not for this API"):
        await auth.authenticate(token(issuer, shape, **shape.foreign))


# --- rules that no row shows ------------------------------------------------------------------------------------------

PLAIN = Shape({"sub": "ada", "aud": "tasks", "scope": "tasks:read"}, "ada", without={})


async def test_custom_scope_names_replace_the_defaults(issuer: Issuer) -> None:
    auth = authenticator(issuer, {"oidc_audience": "tasks", "oidc_read": "viewer, editor", "oidc_write": ""})
    assert (await auth.authenticate(token(issuer, PLAIN, scope="read write tasks:read"))).scopes == frozenset()
    assert (await auth.authenticate(token(issuer, PLAIN, scope="editor write"))).scopes == {"read"}


async def test_all_claims_are_combined_and_a_literal_name_takes_precedence_over_a_path(issuer: Issuer) -> None:
    auth = authenticator(issuer, {"oidc_audience": "tasks", "oidc_claim": "a.b, a.b.c, none.such, scope.*"})
    cases: list[tuple[dict[str, object], set[str]]] = [
        ({"a.b": "read", "a": {"b": "write"}}, {"read"}),
        ({"a": {"b": "write"}}, {"write"}),
        ({"a.b": {"c": "read"}, "a": {"b.c": "write"}}, {"read"}),
        ({"a": {"b": {"c": ["read", "write"]}}}, {"read", "write"}),
        ({"a": {"b": {"read": True}}}, set()),
        ({"a": ["read"], "none": {"such": None}}, set()),
        ({"scope": "read write"}, set()),
        ({"scope": {"read": {}, "write": None}}, {"read", "write"}),
    ]
    for claims, scopes in cases:
        assert (await auth.authenticate(token(issuer, PLAIN, **{"scope": None, **claims}))).scopes == scopes, claims


async def test_one_matching_audience_is_required(issuer: Issuer) -> None:
    auth = authenticator(issuer, {"oidc_audience": "web, phone"})
    assert (await auth.authenticate(token(issuer, PLAIN, aud=["phone", "other"]))).subject == "ada"
    for audience in ("web, phone", "", [], None, {"web": 1}, [["web"]]):
        with pytest.raises(Unauthenticated, match="aud"):
            await auth.authenticate(token(issuer, PLAIN, aud=audience))


async def test_with_another_audience_claim_aud_must_match_if_present(issuer: Issuer) -> None:
    auth = authenticator(issuer, {"oidc_audience": "tasks", "oidc_audience_claim": "client_id"})
    assert (await auth.authenticate(token(issuer, PLAIN, aud=None, client_id="tasks"))).subject == "ada"
    for claims in ({"client_id": "tasks", "aud": "other"}, {"aud": "tasks"}, {"client_id": "other", "aud": None}):
        with pytest.raises(Unauthenticated, match="not for this API"):
            await auth.authenticate(token(issuer, PLAIN, **claims))


async def test_the_next_subject_claim_is_used_only_if_the_first_is_missing(issuer: Issuer) -> None:
    auth = authenticator(issuer, {"oidc_audience": "tasks", "oidc_subject_claim": "sub, client_id"})
    assert (await auth.authenticate(token(issuer, PLAIN, client_id="job"))).subject == "ada"
    # Not just `job`: that may be the `sub` of another caller.
    assert (await auth.authenticate(token(issuer, PLAIN, sub=None, client_id="job"))).subject == "client_id:job"
    for claims in ({"sub": "", "client_id": "job"}, {"sub": 7, "client_id": "job"}, {"sub": None}):
        with pytest.raises(Unauthenticated, match="check its claim sub"):
            await auth.authenticate(token(issuer, PLAIN, **claims))


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("repo:o/r:ref:refs/heads/*", ["repo:o/r:ref:refs/heads/a/b"], ["repo:o/r:ref:refs/heads/", "repo:o/r:ref:x"]),
        ("repo:o/*:environment:live", ["repo:o/r:environment:live"], ["repo:o/r:ref:a:environment:live", "repo:o/r"]),
        ("system:serviceaccount:shop:*", ["system:serviceaccount:shop:a"], ["system:serviceaccount:shop:a:b"]),
        ("a.c, x", ["a.c", "x"], ["abc", "xx", "a.cx", "x\n"]),
    ],
)
async def test_a_star_in_a_subject_matches_anything_but_a_colon(
    pattern: str, matching: list[str], other: list[str], issuer: Issuer
) -> None:
    auth = authenticator(issuer, {"oidc_audience": "tasks", "oidc_write_subjects": pattern})
    for subject in matching:
        assert (await auth.authenticate(token(issuer, PLAIN, sub=subject, scope=None))).scopes == {"write"}
    for subject in other:
        assert (await auth.authenticate(token(issuer, PLAIN, sub=subject, scope=None))).scopes == frozenset()


# --- an issuer with a private CA --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
async def test_a_private_ca_is_trusted_only_through_ssl_cert_file(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    authority = Authority(tmp_path, "ours")
    issuer = Issuer(authority.sign("localhost"))
    issuer.keys = [KEY]
    monkeypatch.setenv(variable, str(authority.file))
    try:
        auth = authenticator(issuer, {"oidc_audience": "tasks"})
        if variable == "SSL_CERT_FILE":
            assert (await auth.authenticate(token(issuer, PLAIN))).subject == "ada"
        else:
            with pytest.raises(AuthUnavailable):
                await auth.authenticate(token(issuer, PLAIN))
            assert "CERTIFICATE_VERIFY_FAILED" in caplog.text
    finally:
        issuer.close()
