"""Maps the claims of a JWT to its caller and scopes. Issuers differ in which claims they use."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chassis.auth.protocol import SCOPES, Caller, Scope


class MissingSubject(Exception):
    """The token has no subject; the message is the name of the claim that should have it."""


@dataclass(frozen=True)
class ClaimRules:
    """Which claims to read; the defaults are those of RFC 9068, Okta and Entra.

    audience: the claim with the name of this API. It is checked in addition to `aud`, which must match if present.
    subject: claims with the caller's name; the first that is present counts.
    scopes: claims with names of scopes, roles or groups, which are merged. A claim is looked up by its full name first,
    then as a path: at each dot, from the last to the first, as a member of an object: `realm_access.roles`,
    `https://example.com/roles`. `.*` at the end stands for the keys of an object.
    names: the names that grant each scope; a scope that is not listed is granted by its own name.
    subjects: patterns of subjects that have a scope regardless of the claims. `*` matches anything but a colon.
    """

    audience: str = "aud"
    subject: tuple[str, ...] = ("sub",)
    scopes: tuple[str, ...] = ("scope", "scp")
    names: Mapping[Scope, frozenset[str]] = field(default_factory=dict)
    subjects: Mapping[Scope, tuple[str, ...]] = field(default_factory=dict)


class CallerClaims:
    """Maps verified claims to callers.

    scope_prefix: an optional prefix of a scope's name, separated by a colon.
    """

    def __init__(self, rules: ClaimRules, scope_prefix: str) -> None:
        self._subject = rules.subject
        self._scopes = rules.scopes
        self._names = {scope: rules.names.get(scope, frozenset({scope, f"{scope_prefix}:{scope}"})) for scope in SCOPES}
        self._subjects = {
            scope: re.compile("|".join(_pattern_regex(pattern) for pattern in patterns))
            for scope, patterns in rules.subjects.items()
            if patterns
        }

    def caller(self, claims: dict[str, Any]) -> Caller:
        """Raises MissingSubject."""
        subject = self._find_subject(claims)
        values: set[str] = set()
        for claim in self._scopes:
            values.update(_claim_values(claims, claim))
        scopes = {scope for scope in SCOPES if values & self._names[scope]}
        scopes.update(scope for scope, pattern in self._subjects.items() if pattern.fullmatch(subject))
        return Caller(subject, frozenset(scopes))

    def _find_subject(self, claims: dict[str, Any]) -> str:
        for name in self._subject:
            subject = claims.get(name)
            if isinstance(subject, str) and subject:
                # Prefixed with the claim's name, or users who choose their name could impersonate another user's `sub`.
                return subject if name == "sub" else f"{name}:{subject}"
            if subject is not None:
                raise MissingSubject(name)
        raise MissingSubject(self._subject[0])


def _pattern_regex(pattern: str) -> str:
    return "[^:]+".join(re.escape(part) for part in pattern.split("*"))


def _claim_values(claims: dict[str, Any], claim: str) -> set[str]:
    if claim.endswith(".*"):
        value = _find(claims, claim[:-2])
        return set(value) if isinstance(value, dict) else set()
    value = _find(claims, claim)
    # A space-separated string is the standard (RFC 9068); `scp` is a list with Okta and a string with Entra.
    if isinstance(value, str):
        return set(value.split())
    return {item for item in value if isinstance(item, str)} if isinstance(value, list) else set()


def _find(claims: dict[str, Any], name: str) -> Any:
    if name in claims:
        return claims[name]
    path, dot, _ = name.rpartition(".")
    while dot:
        inner = claims.get(path)
        if isinstance(inner, dict):
            return _find(inner, name[len(path) + 1 :])
        path, dot, _ = path.rpartition(".")
    return None
