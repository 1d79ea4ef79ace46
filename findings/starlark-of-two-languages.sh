#!/usr/bin/env bash
# Guess: Starlark is one language with a specification, so a Tiltfile that starlark-pyo3 (in Rust) evaluates also works in Tilt (in Go);
# both reject recursion, as the specification requires.
# What happens: the Rust implementation allows recursion, and counts the characters of a string; the Go implementation rejects recursion,
# when the function is called, and counts bytes. So a test with the former misses both.
# Packages: starlark-pyo3 2026.1.3; go.starlark.net v0.0.0-20260908191801-89a6a09411d5
# Source: https://github.com/bazelbuild/starlark/blob/master/spec.md#functions
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check starlark-pyo3==2026.1.3
GOBIN=$folder go install go.starlark.net/cmd/starlark@v0.0.0-20260908191801-89a6a09411d5 > log 2>&1 || { cat log && exit 1; }

cat > half.star << 'STARLARK'
def half(n):
    return 0 if n < 2 else 1 + half(n // 2)

STARLARK

in_rust() { # expression
  v/bin/python - "$1" << 'PYTHON'
import sys

import starlark

source = starlark.parse("half.star", open("half.star").read() + sys.argv[1])
print(starlark.eval(starlark.Module(), source, starlark.Globals.standard()))
PYTHON
}
in_go() { # expression
  { cat half.star && echo "print($1)"; } > all.star
  if ./starlark all.star > output 2>&1; then cat output; else grep -o 'called recursively' output; fi
}

actual="$(in_rust 'half(8)'), $(in_rust 'len("café")'), $(in_go 'half(8)'), $(in_go 'len("café")')"
echo "Recursion and length, in Rust and in Go: $actual"
if [[ $actual != "3, 4, called recursively, 5" ]]; then
  echo "Changed: expected 3, 4, called recursively, 5" >&2
  exit 1
fi
