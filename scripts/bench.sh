#!/usr/bin/env bash
# Measures how close to the limit the service is: bench/README.md. Writes bench/RESULTS.md.
#
#   scripts/bench.sh            every part that needs no cluster
#   scripts/bench.sh PART...    these; the figures of the others stay as they are
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

if [[ $(uname) != Linux ]]; then
  echo 'make bench reads /proc and keeps processes on cores: it runs on Linux.' >&2
  exit 1
fi
scripts/doctor.sh docker wrk python

# With Go there is a rung more, and load at a fixed rate; without it both are left out, and the results say so.
if command -v go > /dev/null; then
  go -C bench/rungs/go build -o ../../../.tools/bench-go/server .
  go -C bench/rungs/go build -o ../../../.tools/bench-go/vegeta github.com/tsenart/vegeta/v12
else
  echo 'Go is not installed: the rung of Go and the latency at a fixed rate are left out (https://go.dev/dl/)'
fi
exec "$(scripts/find-python.sh)" -m bench "$@"
