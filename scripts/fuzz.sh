#!/usr/bin/env bash
# Runs each service's generated tests in rounds, each with a different seed, until the time is over or a round fails;
# the printed command then reproduces the failure.
#
#   scripts/fuzz.sh SERVICE...
#
#   MINUTES=10   duration; the current round still completes
#   SEED=7       only the round with this seed
#
# A service without generated tests has nothing to run. As in scripts/test.sh, tests that need Docker or PostgreSQL are
# skipped without them, and with REQUIRE_ALL=1 that is a failure.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

minutes=${MINUTES:-10}
for name in SEED MINUTES; do
  if [[ ! ${!name:-1} =~ ^[0-9]{1,9}$ ]]; then
    echo "$name=${!name} is not an integer. For example: make fuzz $name=5" >&2
    exit 2
  fi
done

seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
end=$((SECONDS + 10#$minutes * 60))
while :; do
  echo "Seed $seed"
  if ! FUZZ_SEED=$seed scripts/test.sh --full "$@"; then
    # On GitHub it is also in the summary of the step.
    echo "Failed with seed $seed. Reproduce: make fuzz SEED=$seed" | tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}" >&2
    exit 1
  fi
  if [[ -n ${SEED:-} ]] || ((SECONDS >= end)); then break; fi
  seed=$((seed + 1))
done
