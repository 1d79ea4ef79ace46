#!/usr/bin/env bash
# Prints the changes between a tag and the previous one, one line per commit.
#
#   scripts/release-notes.sh TAG
set -euo pipefail

tag=${1:?Usage: scripts/release-notes.sh TAG}
if ! git rev-parse --quiet --verify "$tag^{commit}" > /dev/null; then
  echo "The tag $tag does not exist in this clone. Fetch it: git fetch --tags" >&2
  exit 1
fi
if before=$(git describe --tags --abbrev=0 --match 'v*' "$tag^" 2> /dev/null); then
  printf 'Changes since %s:\n\n' "$before"
  git log --no-show-signature --no-merges --format='- %s (%h)' "$before..$tag"
else
  printf 'The first release.\n\n'
  git log --no-show-signature --no-merges --format='- %s (%h)' "$tag"
fi
