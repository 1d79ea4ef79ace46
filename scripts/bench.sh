#!/usr/bin/env bash
# Benchmarks the service: bench/README.md. Writes bench/RESULTS.md.
#
#   scripts/bench.sh            every part that needs no cluster
#   scripts/bench.sh PART...    only these; the results of the others are kept
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

if [[ $(uname) != Linux ]]; then
  echo 'make bench reads /proc and pins processes to cores: it requires Linux.' >&2
  exit 1
fi
scripts/doctor.sh docker wrk python

# Go adds one rung and constant-rate load; without it both are skipped, and the results say so.
if command -v go > /dev/null; then
  go -C bench/rungs/go build -o ../../../.tools/bench-go/server .
  go -C bench/rungs/go build -o ../../../.tools/bench-go/vegeta github.com/tsenart/vegeta/v12
else
  echo 'Skipped: the Go rung and latency at a constant rate; Go is not installed (https://go.dev/dl/)'
fi
exec "$(scripts/find-python.sh)" -m bench "$@"
