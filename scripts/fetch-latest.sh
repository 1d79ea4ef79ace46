#!/usr/bin/env bash
# Pulls a repository's `latest` as an OCI layout. If the registry reports that the tag or the repository does not exist,
# nothing was published yet: that is reported, and is not a failure. Anything else is: an unreachable registry, a
# rejected login.
#
#   scripts/fetch-latest.sh REPOSITORY FOLDER
set -euo pipefail
root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/isolate.sh
. "$root/scripts/isolate.sh"

if (($# != 2)); then
  echo "Usage: $0 REPOSITORY FOLDER   for example: $0 docker.io/you/task-api image" >&2
  exit 2
fi
repository=$1 folder=$2

"$root/scripts/go-tools.sh" crane
crane=$root/.tools/crane

published=true
if ! error=$("$crane" manifest "$repository:latest" 2>&1 > /dev/null); then
  # Error codes of the registry protocol. A registry that hides its repositories returns UNAUTHORIZED or DENIED instead.
  if ! grep -qE '(MANIFEST|NAME)_UNKNOWN' <<< "$error"; then
    echo "$error" >&2
    echo "$repository:latest cannot be read. Is the registry reachable, and are you logged in (docker login)?" >&2
    exit 1
  fi
  published=false
  text="Nothing is published yet: $repository has no \`latest\`. The first push to main creates it."
  echo "$text"
  if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then echo "$text" >> "$GITHUB_STEP_SUMMARY"; fi
else
  "$crane" pull --format=oci "$repository:latest" "$folder"
fi
if [[ -n ${GITHUB_OUTPUT:-} ]]; then echo "published=$published" >> "$GITHUB_OUTPUT"; fi
