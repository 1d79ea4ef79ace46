#!/usr/bin/env bash
# Guess: the `alg` of a JWK is optional: without it the caller's list of algorithms decides, and an RSA key verifies a token signed with
# PS256 or RS512 as well as one signed with RS256.
# What happens: PyJWT treats an RSA PyJWK without `alg` as RS256, and rejects tokens with any other algorithm, even if the list contains
# it. npm's jose and joserfc accept all three.
# Packages: PyJWT 2.15.1, cryptography 50.0.2, joserfc 1.8.0; npm jose 6.2.18
# Source: https://www.rfc-editor.org/rfc/rfc7517#section-4.4
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
console.log((await jwtVerify(token, createLocalJWKSet({ keys: [JSON.parse(key)] }))).payload.sub)
JS
v/bin/python << 'PYTHON'
import json
import subprocess
import sys

import jwt
from joserfc import jwt as joserfc_jwt
from joserfc.jwk import RSAKey

ALGORITHMS = ["RS256", "RS512", "PS256"]
key = RSAKey.generate_key(2048)
public = key.as_dict(private=False)
assert "alg" not in public
rejected = []
for algorithm in ALGORITHMS:
    token = joserfc_jwt.encode({"alg": algorithm}, {"sub": "ada"}, key, algorithms=ALGORITHMS)
    assert joserfc_jwt.decode(token, RSAKey.import_key(public), algorithms=ALGORITHMS).claims["sub"] == "ada"
    node = ["node", "verify.mjs", token, json.dumps(public)]
    assert subprocess.run(node, check=True, capture_output=True, text=True).stdout == "ada\n"
    try:
        print(algorithm, jwt.decode(token, jwt.PyJWK(public), algorithms=ALGORITHMS))
    except jwt.InvalidAlgorithmError as error:
        print(algorithm, error)
        rejected.append(algorithm)
if rejected != ["RS512", "PS256"]:
    sys.exit("Changed: expected PyJWT to reject RS512 and PS256")
PYTHON
