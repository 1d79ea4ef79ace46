"""JWTs of an OpenID Connect issuer, checked against the keys that it publishes."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx2
from joserfc.errors import ClaimError, ExpiredTokenError, JoseError, UnsupportedAlgorithmError
from joserfc.jwk import JWKRegistry, Key
from joserfc.jws import CompactSignature, JWSRegistry, extract_compact, validate_compact
from joserfc.jwt import ClaimsOption, JWTClaimsRegistry

from chassis.auth.claims import CallerClaims, ClaimRules, NoSubject
from chassis.auth.protocol import AuthUnavailable, Caller, Unauthenticated, bearer_token

# Only with a key pair: a public key must never be taken for the shared secret of HS256, nor `none` for a signature.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"}
)
LEEWAY_SECONDS = 30
"""How far the issuer's clock and this one may differ."""
KEYS_MAX_AGE_SECONDS = 15 * 60.0
FETCH_PAUSE_SECONDS = 10.0
"""Between two fetches, however many forged tokens name unknown keys. A new key may have to wait for it."""
FIRST_FETCH_PAUSE_SECONDS = 1.0
"""The same while no keys are known and every request is refused."""
FETCH_TIMEOUT_SECONDS = 5.0

log = logging.getLogger(__name__)


class OIDCAuth:
    """Knows the callers that an issuer vouches for.

    issuer: its URL, letter by letter as in `iss` and in its discovery document. audience: what `aud` must name one of.
    scope_prefix: what may stand before a scope, with a colon between: with `tasks`, `tasks:read` is `read`, too.
    rules: where its tokens say what. clock: seconds, never going back. now: seconds since 1970.
    """

    def __init__(
        self,
        issuer: str,
        *audience: str,
        scope_prefix: str,
        rules: ClaimRules | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        rules = rules or ClaimRules()
        self._keys = _IssuerKeys(issuer, clock)
        self._callers = CallerClaims(rules, scope_prefix)
        audiences: dict[str, ClaimsOption] = {"aud": {"values": list(audience)}}  # RFC 7519, section 4.1.3
        audiences[rules.audience] = {"essential": True, "values": list(audience)}
        self._claims = JWTClaimsRegistry(
            now=lambda: int(now()),
            leeway=LEEWAY_SECONDS,
            iss={"essential": True, "value": issuer},
            exp={"essential": True},
            **audiences,
        )

    async def authenticate(self, authorization: str | None) -> Caller:
        """The caller that the JWT names, or Unauthenticated.

        Raises AuthUnavailable while the issuer never gave its keys.
        """
        signed, alg, kid = _parse(bearer_token(authorization))
        key = await self._keys.find(kid=kid, alg=alg)
        if key is None:
            raise _invalid("The token is signed with a key that the issuer does not publish.")
        claims = _verify(signed, key)
        try:
            self._claims.validate(claims)
            return self._callers.caller(claims)
        except ExpiredTokenError:
            raise _invalid("The token has expired.") from None
        except ClaimError as error:
            raise _invalid(f"The token is not for this API or not valid now: see its claim {error.claim}.") from None
        except NoSubject as error:
            raise _invalid(f"The token does not say whose it is: see its claim {error}.") from None


class _Registry(JWSRegistry):
    """The algorithms allowed here. Unknown header parameters are ignored, as RFC 7515, section 4 says."""

    def __init__(self) -> None:
        super().__init__(strict_check_header=False)

    def get_alg(self, name: str) -> Any:  # joserfc does not export its JWSAlgModel
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        # Not super(): that warns with every token that EdDSA has a new name, and issuers still use the old one.
        return self.algorithms[name]


_REGISTRY = _Registry()


class _IssuerKeys:
    """An issuer's public keys: kept, fetched again when they are old or do not have the one that is asked for.

    While the issuer is down the last known keys stay in use, however old they are.
    """

    def __init__(self, issuer: str, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys: list[Key] = []
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching = asyncio.Lock()

    async def find(self, *, kid: str | None, alg: str) -> Key | None:
        """The key of this id that fits the algorithm. Raises AuthUnavailable while no keys are known."""
        key = self._known(kid, alg)
        # While another request is asking for newer ones, a known key is good enough: the issuer may be slow or down.
        if key is not None and (self._fresh() or self._fetching.locked()):
            return key
        await self._fetch_once()
        if not self._keys:
            raise AuthUnavailable("Tokens cannot be checked: their issuer does not answer. Try again in a moment.")
        return self._known(kid, alg)

    def _fresh(self) -> bool:
        return self._fetched_at is not None and self._clock() - self._fetched_at < KEYS_MAX_AGE_SECONDS

    def _known(self, kid: str | None, alg: str) -> Key | None:
        fitting = [key for key in self._keys if kid in (None, key.kid) and _fits(key, alg)]
        # A token need not name its key only where there is just one (OpenID Connect Core, section 10.1).
        return fitting[0] if len(fitting) == 1 or (fitting and kid is not None) else None

    async def _fetch_once(self) -> None:
        """Requests that come here together wait for one fetch, and its outcome stands for the pause."""
        async with self._fetching:
            pause = FETCH_PAUSE_SECONDS if self._keys else FIRST_FETCH_PAUSE_SECONDS
            if self._tried_at is not None and self._clock() - self._tried_at < pause:
                return
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):  # the client's own counts each read anew
                    self._keys = await _fetch_keys(self._issuer)
                self._fetched_at = self._clock()
            except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError) as error:
                reason = (str(error) or "no answer in time").splitlines()[0]
                log.warning(
                    "The keys of the issuer %s could not be fetched (%s: %s); %s.",
                    self._issuer,
                    type(error).__name__,
                    reason,
                    "the last known ones stay in use" if self._keys else "no token can be checked",
                )
            self._tried_at = self._clock()


async def _fetch_keys(issuer: str) -> list[Key]:
    """Raises httpx2.HTTPError, httpx2.InvalidURL or ValueError."""
    async with httpx2.AsyncClient(timeout=FETCH_TIMEOUT_SECONDS) as client:
        discovery = await _get(client, issuer.rstrip("/") + "/.well-known/openid-configuration")
        if discovery.get("issuer") != issuer:
            raise ValueError(f"its discovery document is that of {discovery.get('issuer')!r}, which must be the same")
        published = (await _get(client, str(discovery.get("jwks_uri")))).get("keys")
    keys = []
    for jwk in published if isinstance(published, list) else []:
        try:
            keys.append(JWKRegistry.import_key(jwk))
        except (JoseError, KeyError, TypeError, ValueError):
            # What is not understood is passed over (RFC 7517, section 5): the next kind of key is no outage.
            log.info("A key of the issuer %s is of an unknown kind and passed over", issuer)
    if not keys:
        raise ValueError("it publishes no key that can be used")
    return keys


async def _get(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    response = await client.get(url)
    response.raise_for_status()
    document = response.json()
    if isinstance(document, dict):
        return document
    raise ValueError(f"{url} is not a JSON object")


def _parse(token: str) -> tuple[CompactSignature, str, str | None]:
    """The token's parts, its algorithm and the id of its key; nothing of it is to be believed yet."""
    try:
        signed = extract_compact(token.encode(), registry=_REGISTRY)
        header = signed.headers()
        _REGISTRY.check_header(header)
        _REGISTRY.get_alg(header["alg"])
    except UnsupportedAlgorithmError:
        raise _invalid("The token is not signed with an algorithm that is allowed here.") from None
    except (JoseError, TypeError, ValueError):  # the last two: headers of the wrong shape
        raise _invalid("The token is not a signed JWT.") from None
    return signed, header["alg"], header.get("kid")


def _fits(key: Key, alg: str) -> bool:
    try:
        _REGISTRY.get_alg(alg).check_key(key)
    except JoseError:
        return False
    return True


def _verify(signed: CompactSignature, key: Key) -> dict[str, Any]:
    """The claims, once the signature is proved."""
    try:
        proved = validate_compact(signed, key, registry=_REGISTRY)
    except (JoseError, ValueError):
        proved = False
    if not proved:
        raise _invalid("The token's signature is wrong.")
    with suppress(ValueError):
        claims = json.loads(signed.payload)
        if isinstance(claims, dict):
            return claims
    raise _invalid("The token is signed, but what it says is no JSON object.")


def _invalid(detail: str) -> Unauthenticated:
    return Unauthenticated(detail, "invalid_token")
