#!/usr/bin/env bash
# Guess: RFC 9864 gave EdDSA with the curve Ed25519 a second name, `Ed25519`. Signing is identical to the byte, so 2026 libraries that
# support the curve verify tokens with either name, whichever of the two the issuer's key has as its `alg`.
# What happens: PyJWT does not support `Ed25519` at all. joserfc and npm's jose support both names, but reject a token with one name if
# the key has the other, so an issuer that renames one before the other locks out every client.
# Packages: PyJWT 2.15.1, cryptography 50.0.2, joserfc 1.8.0; npm jose 6.2.18
# Source: https://www.rfc-editor.org/rfc/rfc9864#section-2.2
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check pyjwt==2.15.1 joserfc==1.8.0 cryptography==50.0.2
npm install --silent --no-fund --no-audit --prefix . jose@6.2.18 > /dev/null

cat > verify.mjs << 'JS'
import { createLocalJWKSet, jwtVerify } from "jose"
const [token, key] = process.argv.slice(2)
const verified = await jwtVerify(token, createLocalJWKSet({ keys: [JSON.parse(key)] })).then(() => "yes", (error) => error.code)
console.log(verified)
JS
v/bin/python -W ignore << 'PYTHON'
import json
import subprocess
import sys

import jwt
from joserfc import jwt as joserfc_jwt
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

NAMES = ["EdDSA", "Ed25519"]
key = OKPKey.generate_key("Ed25519")
actual = {}
for of_token in NAMES:
    token = joserfc_jwt.encode({"alg": of_token}, {"sub": "ada"}, key, algorithms=NAMES)
    for of_key in NAMES:
        public = key.as_dict(private=False) | {"alg": of_key}
        node = ["node", "verify.mjs", token, json.dumps(public)]
        by = {"jose": subprocess.run(node, check=True, capture_output=True, text=True).stdout.strip()}
        try:
            joserfc_jwt.decode(token, OKPKey.import_key(public), algorithms=NAMES)
            by["joserfc"] = "yes"
        except JoseError as error:
            by["joserfc"] = error.error
        try:
            jwt.decode(token, jwt.PyJWK(public), algorithms=NAMES)
            by["PyJWT"] = "yes"
        except (jwt.PyJWTError, NotImplementedError) as error:
            by["PyJWT"] = type(error).__name__
        print(f"token with {of_token}, key with {of_key}: {by}")
        actual[of_token, of_key] = {library for library, verified in by.items() if verified == "yes"}
expected = {
    ("EdDSA", "EdDSA"): {"jose", "joserfc", "PyJWT"},
    ("EdDSA", "Ed25519"): set(),
    ("Ed25519", "EdDSA"): set(),
    ("Ed25519", "Ed25519"): {"jose", "joserfc"},
}
if actual != expected:
    sys.exit("Changed: expected all three with EdDSA, all but PyJWT with Ed25519, and none with mixed names")
PYTHON
