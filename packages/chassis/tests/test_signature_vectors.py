"""Signature verification, tested with the public vectors of C2SP/wycheproof."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from issuers import Issuer

from chassis.auth import AuthUnavailable, Unauthenticated
from chassis.auth.oidc import OIDCAuth

REPOSITORY = Path(__file__).parents[3]
VERSIONS = dict(
    line.split("=", 1) for line in (REPOSITORY / "versions.env").read_text().splitlines() if line[:1].isupper()
)

OTHER_ALGORITHM = {346, 347, 350, 351}
"""Listed as valid, but the `alg` of the key is not the header's: a key must not be used for another algorithm (RFC
7517, section 4.4)."""


@pytest.fixture(scope="module")
def groups() -> list[dict[str, Any]]:
    """Keys with signatures, from the Go module cache or the module proxy."""
    module = f"github.com/c2sp/wycheproof@{VERSIONS['WYCHEPROOF_VERSION']}"
    done = subprocess.run(["go", "mod", "download", "-json", module], capture_output=True, text=True, check=False)
    downloaded = json.loads(done.stdout)
    assert downloaded.get("Sum") == VERSIONS["WYCHEPROOF_SUM"], done.stdout + done.stderr
    vectors = json.loads((Path(downloaded["Dir"]) / "testvectors_v1/json_web_signature_test.json").read_text())
    groups: list[dict[str, Any]] = vectors["testGroups"]
    assert sum(len(group["tests"]) for group in groups) == vectors["numberOfTests"] > 400
    return groups


async def is_accepted(auth: OIDCAuth, token: str) -> bool:
    """Whether the signature is valid. The payloads are not claims, but those are checked later."""
    with pytest.raises((Unauthenticated, AuthUnavailable)) as raised:
        await auth.authenticate(f"Bearer {token}")
    return "is signed, but" in str(raised.value)


@pytest.mark.full
@pytest.mark.go  # the vectors are a Go module
async def test_valid_vectors_are_accepted_and_invalid_ones_rejected(groups: list[dict[str, Any]]) -> None:
    errors, accepted = [], 0
    for group in groups:
        issuer = Issuer()
        try:
            # A symmetric key has no public part: issuers must not publish it, and the service must not use it.
            issuer.foreign_keys = [group.get("public") or group["private"]]
            auth = OIDCAuth(issuer.url, "api", scope_prefix="tasks")
            for vector in group["tests"]:
                expected = (
                    vector["result"] == "valid"
                    and group.get("public") is not None
                    and vector["tcId"] not in OTHER_ALGORITHM
                )
                verified = await is_accepted(auth, vector["jws"])
                accepted += verified
                if verified != expected:
                    errors.append((vector["tcId"], vector["comment"], vector["result"], str(group.get("public"))[:90]))
        finally:
            issuer.close()
    assert errors == []
    assert accepted > 20
