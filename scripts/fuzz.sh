#!/usr/bin/env bash
# Runs the generated tests of each service, long: round after round with another seed each, until the time is over or a
# round fails. What it says then tries the same again.
#
#   scripts/fuzz.sh SERVICE...
#
#   MINUTES=10   for how long; the round that is under way then still ends
#   SEED=7       that round alone
#
# A service without generated tests has nothing to run. As in scripts/test.sh, what needs Docker or PostgreSQL is left
# out without, and with REQUIRE_ALL=1 that is a failure.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

minutes=${MINUTES:-10}
for name in SEED MINUTES; do
  if [[ ! ${!name:-1} =~ ^[0-9]{1,9}$ ]]; then
    echo "$name=${!name} is not a whole number: give one, make fuzz $name=5" >&2
    exit 2
  fi
done

seed=${SEED:-$((RANDOM * 32768 + RANDOM))}
end=$((SECONDS + 10#$minutes * 60))
while :; do
  echo "Seed $seed"
  if ! FUZZ_SEED=$seed scripts/test.sh --full "$@"; then
    # On GitHub it is in the summary of the step, too.
    echo "It fails with seed $seed. The same again: make fuzz SEED=$seed" | tee -a "${GITHUB_STEP_SUMMARY:-/dev/null}" >&2
    exit 1
  fi
  if [[ -n ${SEED:-} ]] || ((SECONDS >= end)); then break; fi
  seed=$((seed + 1))
done
