#!/usr/bin/env bash
# Runs the tests of the chassis, of the skeletons and of each service. Each has its own environment, except for the
# skeletons, which use the chassis'. Tests skipped for lack of a tool are listed at the end; with REQUIRE_ALL=1 that is
# a failure. FUZZ_SEED (scripts/fuzz.sh) runs only the generated tests, with more examples.
#
#   scripts/test.sh SERVICE...          without the slow ones, marked `full`
#   scripts/test.sh --full SERVICE...   all of them
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh
# Tests only connect to this machine, and a SOCKS proxy would require another package.
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY

selected='not full' exclusions='' skipped=()
skip() { # marker, requirement
  exclusions+="${exclusions:+ and }not $1"
  skipped+=("tests that need $2")
}
if ! docker info > /dev/null 2>&1; then
  skip docker 'Docker,  https://docs.docker.com/get-docker/'
  if ! command -v initdb > /dev/null && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' > /dev/null; then
    skip postgresql 'PostgreSQL: in Docker, or a local initdb'
  fi
fi
if [[ ${1:-} == --full ]]; then
  selected='' && shift
  if ! command -v go > /dev/null; then skip go 'Go,  https://go.dev/dl/'; fi
  if ! command -v npm > /dev/null; then skip node 'Node with npm,  https://nodejs.org'; fi
  if ! { command -v chromium || command -v chromium-browser || command -v google-chrome; } > /dev/null; then
    skip chromium 'Chromium or Chrome'
  fi
fi

seed_option=()
if [[ -n ${FUZZ_SEED:-} ]]; then
  selected="generated${selected:+ and $selected}"
  seed_option=(--hypothesis-seed "$FUZZ_SEED")
fi

failed=()
for folder in packages/chassis skeletons/*/service "${@/#/services/}"; do
  name=${folder#*/} python=.venv/bin/python
  if [[ $folder == skeletons/* ]]; then name=${folder%/service} python=../../../packages/chassis/.venv/bin/python; fi
  # Without Hypothesis pytest does not have its option.
  if [[ -n ${FUZZ_SEED:-} ]] && ! grep --quiet '^hypothesis==' "$folder/requirements-dev.txt"; then
    echo "$name has no generated tests"
    continue
  fi
  echo "Testing $name"
  markers=$selected status=0
  # Without testcontainers no test has these markers, and pytest rejects unknown ones.
  if grep --quiet '^testcontainers==' "$folder/requirements-dev.txt"; then markers+=${exclusions:+${markers:+ and }$exclusions}; fi
  (cd "$folder" && exec "$python" -m pytest --quiet --numprocesses auto --durations=10 \
    -m "$markers" ${seed_option[@]+"${seed_option[@]}"}) || status=$?
  if ((status == 5)) && [[ -n ${FUZZ_SEED:-} ]]; then
    echo "$name has no generated tests"
  elif ((status)); then
    failed+=("$name")
    single_test=${single_test:-"cd $folder && $python -m pytest -k NAME${seed_option[*]+ ${seed_option[*]}}"}
  fi
done
if ((${#failed[@]})); then
  echo "Failed: ${failed[*]}. Run a single test: $single_test" >&2
  exit 1
fi
# The ${x[@]+...} form is for bash 3.2, where an empty array counts as unset.
for tests in ${skipped[@]+"${skipped[@]}"}; do echo "Skipped: $tests"; done
if ((${#skipped[@]})) && [[ ${REQUIRE_ALL:-} == 1 ]]; then
  echo 'REQUIRE_ALL=1: skipping is a failure' >&2
  exit 1
fi
