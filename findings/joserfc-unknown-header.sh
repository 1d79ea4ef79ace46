#!/usr/bin/env bash
# Guess: a JWT library ignores unknown header parameters, as RFC 7515 requires: only those named in `crit` must be understood. A token of
# an issuer that adds a `nonce` to the header is as valid as one without.
# What happens: joserfc rejects such a token, unless it is given a registry with strict checks disabled. PyJWT and npm's jose accept it.
# Packages: joserfc 1.8.0, PyJWT 2.15.1; npm jose 6.2.18
# Source: https://www.rfc-editor.org/rfc/rfc7515#section-4
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check joserfc==1.8.0 pyjwt==2.15.1
npm install --silent --no-fund --no-audit --prefix . jose@6.2.18 > /dev/null

cat > verify.mjs << 'JS'
import { jwtVerify } from "jose"
const [token, key] = process.argv.slice(2)
console.log((await jwtVerify(token, new TextEncoder().encode(key))).payload.sub)
JS
v/bin/python << 'PYTHON'
import subprocess
import sys

import jwt
from joserfc import jws
from joserfc import jwt as joserfc_jwt
from joserfc.errors import UnsupportedHeaderError
from joserfc.jwk import OctKey

SECRET = "not-a-secret-but-long-enough-for-sha-256"
token = jwt.encode({"sub": "ada"}, SECRET, algorithm="HS256", headers={"nonce": "x"})
key = OctKey.import_key(SECRET)
print("PyJWT:", jwt.decode(token, SECRET, algorithms=["HS256"])["sub"])
print("jose:", subprocess.run(["node", "verify.mjs", token, SECRET], check=True, capture_output=True, text=True).stdout.strip())
lenient = jws.JWSRegistry(algorithms=["HS256"], strict_check_header=False)
print("joserfc without strict checks:", joserfc_jwt.decode(token, key, registry=lenient).claims["sub"])
try:
    joserfc_jwt.decode(token, key)
except UnsupportedHeaderError as error:
    print("joserfc:", error)
else:
    sys.exit("Changed: expected joserfc to reject the header")
PYTHON
