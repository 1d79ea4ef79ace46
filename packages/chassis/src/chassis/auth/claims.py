"""What the claims of an issuer's token say: who calls, and with which scopes. Issuers differ in where they write it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chassis.auth.protocol import SCOPES, Caller, Scope


class NoSubject(Exception):
    """The token does not say whose it is; the message is the claim that should."""


@dataclass(frozen=True)
class ClaimRules:
    """Where an issuer's tokens say what; the defaults are those of RFC 9068, Okta and Entra.

    audience: the claim that names this API. It is asked beside `aud`, which has to fit wherever it is there.
    subject: claims that name the caller, the first that is there.
    scopes: claims with names of scopes, roles or groups, all of them together. A name is looked for as it is written
    first, and then before each dot, the last one first, as an object that holds the rest: `realm_access.roles`,
    `https://example.com/roles`. `.*` at the end is the names of an object's members.
    names: of these names, those that stand for a scope; where a scope is missing, its own name.
    subjects: patterns of subjects that have a scope whatever the claims say. `*` is anything but a colon.
    """

    audience: str = "aud"
    subject: tuple[str, ...] = ("sub",)
    scopes: tuple[str, ...] = ("scope", "scp")
    names: Mapping[Scope, frozenset[str]] = field(default_factory=dict)
    subjects: Mapping[Scope, tuple[str, ...]] = field(default_factory=dict)


class CallerClaims:
    """Reads callers out of claims that are proved already.

    scope_prefix: what may stand before a scope's own name, with a colon between.
    """

    def __init__(self, rules: ClaimRules, scope_prefix: str) -> None:
        self._subject = rules.subject
        self._scopes = rules.scopes
        self._names = {scope: rules.names.get(scope, frozenset({scope, f"{scope_prefix}:{scope}"})) for scope in SCOPES}
        self._subjects = {
            scope: re.compile("|".join(_expression(pattern) for pattern in patterns))
            for scope, patterns in rules.subjects.items()
            if patterns
        }

    def caller(self, claims: dict[str, Any]) -> Caller:
        """Raises NoSubject."""
        subject = self._find_subject(claims)
        named: set[str] = set()
        for claim in self._scopes:
            named.update(_words(claims, claim))
        scopes = {scope for scope in SCOPES if named & self._names[scope]}
        scopes.update(scope for scope, pattern in self._subjects.items() if pattern.fullmatch(subject))
        return Caller(subject, frozenset(scopes))

    def _find_subject(self, claims: dict[str, Any]) -> str:
        for name in self._subject:
            subject = claims.get(name)
            if isinstance(subject, str) and subject:
                # The claim's name before it, or who chooses a user name could choose the `sub` of somebody else.
                return subject if name == "sub" else f"{name}:{subject}"
            if subject is not None:
                raise NoSubject(name)
        raise NoSubject(self._subject[0])


def _expression(pattern: str) -> str:
    return "[^:]+".join(re.escape(part) for part in pattern.split("*"))


def _words(claims: dict[str, Any], claim: str) -> set[str]:
    if claim.endswith(".*"):
        value = _find(claims, claim[:-2])
        return set(value) if isinstance(value, dict) else set()
    value = _find(claims, claim)
    # A string of words is the standard (RFC 9068); `scp` is a list with Okta and a string with Entra.
    if isinstance(value, str):
        return set(value.split())
    return {word for word in value if isinstance(word, str)} if isinstance(value, list) else set()


def _find(claims: dict[str, Any], name: str) -> Any:
    if name in claims:
        return claims[name]
    dot = name.rfind(".")
    while dot > 0:
        inner = claims.get(name[:dot])
        if isinstance(inner, dict):
            return _find(inner, name[dot + 1 :])
        dot = name.rfind(".", 0, dot)
    return None
