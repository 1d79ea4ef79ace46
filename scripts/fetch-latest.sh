#!/usr/bin/env bash
# Fetches what `latest` of a repository leads to, as an OCI layout. Where the registry says that there is no such tag or
# no such repository, nothing was published yet: that is said, and is no failure. Everything else is one: a registry
# that cannot be reached, a login that is refused.
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
if ! said=$("$crane" manifest "$repository:latest" 2>&1 > /dev/null); then
  # The codes of the registry's protocol. A registry that hides what it has answers UNAUTHORIZED or DENIED instead.
  if ! grep -qE '(MANIFEST|NAME)_UNKNOWN' <<< "$said"; then
    echo "$said" >&2
    echo "$repository:latest cannot be asked for. Is the registry reachable, and are you logged in there (docker login)?" >&2
    exit 1
  fi
  published=false
  text="Nothing is published yet: $repository has no \`latest\`. It has one after the first push to main."
  echo "$text"
  if [[ -n ${GITHUB_STEP_SUMMARY:-} ]]; then echo "$text" >> "$GITHUB_STEP_SUMMARY"; fi
else
  "$crane" pull --format=oci "$repository:latest" "$folder"
fi
if [[ -n ${GITHUB_OUTPUT:-} ]]; then echo "published=$published" >> "$GITHUB_OUTPUT"; fi
