#!/usr/bin/env bash
# Runs the tests of the chassis, of the skeletons and of each service. Each has an environment of its own, but for the
# skeletons: they have the chassis'.
# What is left out for want of a tool is said at the end; with REQUIRE_ALL=1 that is a failure.
# FUZZ_SEED (scripts/fuzz.sh) has the generated tests alone run, and long.
#
#   scripts/test.sh SERVICE...          without those marked `full`, which take long
#   scripts/test.sh --full SERVICE...   all of them
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh
# Tests ask this machine alone, and a proxy of SOCKS would need a package more.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

selected='not full' not_here='' left_out=()
leave_out() { # marker, what is needed
  not_here+="${not_here:+ and }not $1"
  left_out+=("what needs $2")
}
if ! docker info > /dev/null 2>&1; then
  leave_out docker 'Docker, https://docs.docker.com/get-docker/'
  if ! command -v initdb > /dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null; then
    leave_out postgresql 'PostgreSQL: by Docker, or by its own initdb'
  fi
fi
if [[ ${1:-} == --full ]]; then
  selected='' && shift
  if ! command -v go > /dev/null; then leave_out go 'Go, https://go.dev/dl/'; fi
  if ! command -v npm > /dev/null; then leave_out node 'Node with npm, https://nodejs.org'; fi
  if ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } > /dev/null; then
    leave_out chromium 'Chromium or Chrome'
  fi
fi

seeded=()
if [[ -n ${FUZZ_SEED:-} ]]; then
  selected="generated${selected:+ and $selected}"
  seeded=(--hypothesis-seed "$FUZZ_SEED")
fi

failed=()
for folder in packages/chassis skeletons/*/service "${@/#/services/}"; do
  name=${folder#*/} python=.venv/bin/python
  if [[ $folder == skeletons/* ]]; then name=${folder%/service} python=../../../packages/chassis/.venv/bin/python; fi
  # Without that library pytest does not know its option.
  if [[ -n ${FUZZ_SEED:-} ]] && ! grep --quiet '^hypothesis==' "$folder/requirements-dev.txt"; then
    echo "$name has no generated tests"
    continue
  fi
  echo "Testing $name"
  marks=$selected status=0
  # Without that library nothing is marked so, and pytest does not know the mark.
  if grep --quiet '^testcontainers==' "$folder/requirements-dev.txt"; then marks+=${not_here:+${marks:+ and }$not_here}; fi
  (cd "$folder" && exec "$python" -m pytest --quiet --numprocesses auto --maxschedchunk 1 --durations=10 \
    -m "$marks" ${seeded[@]+"${seeded[@]}"}) || status=$?
  if ((status == 5)) && [[ -n ${FUZZ_SEED:-} ]]; then
    echo "$name has no generated tests"
  elif ((status)); then
    failed+=("$name")
    alone=${alone:-"cd $folder && $python -m pytest -k NAME"}
  fi
done
if ((${#failed[@]})); then
  echo "Failed: ${failed[*]}. Run one alone: $alone" >&2
  exit 1
fi
# The form with + is for bash 3.2, where an empty array counts as unset.
for what in ${left_out[@]+"${left_out[@]}"}; do echo "Left out: $what"; done
if ((${#left_out[@]})) && [[ ${REQUIRE_ALL:-} == 1 ]]; then
  echo 'REQUIRE_ALL=1: nothing may be left out' >&2
  exit 1
fi
