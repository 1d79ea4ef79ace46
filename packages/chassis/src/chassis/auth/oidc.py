"""JWTs of an OpenID Connect issuer, verified with the keys that it publishes."""

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

from chassis.auth.claims import CallerClaims, ClaimRules, MissingSubject
from chassis.auth.protocol import AuthUnavailable, Caller, Unauthenticated, bearer_token

# Asymmetric only: a public key must never be accepted as the shared secret of HS256, nor `none` as a signature.
ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519", "Ed448"}
)
LEEWAY_SECONDS = 30
"""The allowed clock skew between the issuer and this machine."""
KEYS_MAX_AGE_SECONDS = 15 * 60.0
FETCH_PAUSE_SECONDS = 10.0
"""The minimum time between two fetches, however many forged tokens name unknown keys. It may delay a new key."""
FIRST_FETCH_PAUSE_SECONDS = 1.0
"""The same while no keys are known and every request is rejected."""
FETCH_TIMEOUT_SECONDS = 5.0

log = logging.getLogger(__name__)


class OIDCAuth:
    """Authenticates by the JWTs of an issuer.

    issuer: its URL, exactly as in `iss` and in its discovery document. audience: `aud` must contain one of these.
    scope_prefix: an optional prefix of scopes, separated by a colon: with `tasks`, `tasks:read` also means `read`.
    rules: which claims to read. clock: monotonic, in seconds. now: Unix time in seconds.
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
        """The caller of the JWT.

        Raises Unauthenticated, and AuthUnavailable until the issuer's keys have been fetched.
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
            raise _invalid(f"The token is not for this API or not valid now: check its claim {error.claim}.") from None
        except MissingSubject as error:
            raise _invalid(f"The token has no subject: check its claim {error}.") from None


class _Registry(JWSRegistry):
    """The allowed algorithms. Unknown header parameters are ignored, as RFC 7515, section 4 requires."""

    def __init__(self) -> None:
        super().__init__(strict_check_header=False)

    def get_alg(self, name: str) -> Any:  # joserfc does not export its JWSAlgModel
        if name not in ALGORITHMS:
            raise UnsupportedAlgorithmError
        # Not super(): that warns for every token that EdDSA was renamed, and issuers still use the old name.
        return self.algorithms[name]


_REGISTRY = _Registry()


class _IssuerKeys:
    """A cache of the issuer's public keys, refreshed when they are old or the requested key is missing.

    While the issuer is down, the last known keys stay in use, however old they are.
    """

    def __init__(self, issuer: str, clock: Callable[[], float]) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys: list[Key] = []
        self._fetched_at: float | None = None
        self._attempted_at: float | None = None
        self._fetch_lock = asyncio.Lock()

    async def find(self, *, kid: str | None, alg: str) -> Key | None:
        """The key with this id for the algorithm. Raises AuthUnavailable while no keys are known."""
        key = self._cached(kid, alg)
        # While another request is refreshing the keys, a cached one is good enough: the issuer may be slow or down.
        if key is not None and (self._is_fresh() or self._fetch_lock.locked()):
            return key
        await self._fetch_once()
        if not self._keys:
            raise AuthUnavailable("Cannot verify tokens: their issuer is not responding. Retry later.")
        return self._cached(kid, alg)

    def _is_fresh(self) -> bool:
        return self._fetched_at is not None and self._clock() - self._fetched_at < KEYS_MAX_AGE_SECONDS

    def _cached(self, kid: str | None, alg: str) -> Key | None:
        matches = [key for key in self._keys if kid in (None, key.kid) and _supports(key, alg)]
        # A token may omit its key id only if there is just one key (OpenID Connect Core, section 10.1).
        return matches[0] if len(matches) == 1 or (matches and kid is not None) else None

    async def _fetch_once(self) -> None:
        """Concurrent requests share one fetch, and its outcome holds until the pause is over."""
        async with self._fetch_lock:
            pause = FETCH_PAUSE_SECONDS if self._keys else FIRST_FETCH_PAUSE_SECONDS
            if self._attempted_at is not None and self._clock() - self._attempted_at < pause:
                return
            try:
                async with asyncio.timeout(FETCH_TIMEOUT_SECONDS):  # the client's own timeout restarts with each read
                    self._keys = await _fetch_keys(self._issuer)
                self._fetched_at = self._clock()
            except (httpx2.HTTPError, httpx2.InvalidURL, TimeoutError, ValueError) as error:
                reason = (str(error) or "timed out").splitlines()[0]
                log.warning(
                    "Fetching the keys of the issuer %s failed (%s: %s); %s.",
                    self._issuer,
                    type(error).__name__,
                    reason,
                    "the last known keys stay in use" if self._keys else "no token can be verified",
                )
            self._attempted_at = self._clock()


async def _fetch_keys(issuer: str) -> list[Key]:
    """Raises httpx2.HTTPError, httpx2.InvalidURL or ValueError."""
    async with httpx2.AsyncClient(timeout=FETCH_TIMEOUT_SECONDS) as client:
        discovery = await _get(client, issuer.rstrip("/") + "/.well-known/openid-configuration")
        if discovery.get("issuer") != issuer:
            raise ValueError(
                f"the issuer in its discovery document is {discovery.get('issuer')!r}, which must be the same"
            )
        published = (await _get(client, str(discovery.get("jwks_uri")))).get("keys")
    keys = []
    for jwk in published if isinstance(published, list) else []:
        try:
            keys.append(JWKRegistry.import_key(jwk))
        except (JoseError, KeyError, TypeError, ValueError):
            # Unknown key types are ignored (RFC 7517, section 5): a new one must not cause an outage.
            log.info("Ignoring a key of unknown type from the issuer %s", issuer)
    if not keys:
        raise ValueError("it publishes no usable key")
    return keys


async def _get(client: httpx2.AsyncClient, url: str) -> dict[str, Any]:
    response = await client.get(url)
    response.raise_for_status()
    document = response.json()
    if isinstance(document, dict):
        return document
    raise ValueError(f"{url} is not a JSON object")


def _parse(token: str) -> tuple[CompactSignature, str, str | None]:
    """The token's parts, its algorithm and its key id, all unverified."""
    try:
        signed = extract_compact(token.encode(), registry=_REGISTRY)
        header = signed.headers()
        _REGISTRY.check_header(header)
        _REGISTRY.get_alg(header["alg"])
    except UnsupportedAlgorithmError:
        raise _invalid("The token is not signed with an allowed algorithm.") from None
    except (JoseError, TypeError, ValueError):  # the last two: malformed headers
        raise _invalid("The token is not a signed JWT.") from None
    return signed, header["alg"], header.get("kid")


def _supports(key: Key, alg: str) -> bool:
    try:
        _REGISTRY.get_alg(alg).check_key(key)
    except JoseError:
        return False
    return True


def _verify(signed: CompactSignature, key: Key) -> dict[str, Any]:
    """The claims, after verifying the signature."""
    try:
        valid = validate_compact(signed, key, registry=_REGISTRY)
    except (JoseError, ValueError):
        valid = False
    if not valid:
        raise _invalid("The token's signature is invalid.")
    with suppress(ValueError):
        claims = json.loads(signed.payload)
        if isinstance(claims, dict):
            return claims
    raise _invalid("The token is signed, but its payload is not a JSON object.")


def _invalid(detail: str) -> Unauthenticated:
    return Unauthenticated(detail, "invalid_token")
