#!/usr/bin/env bash
# Prints what changed between a tag and the one before it, a line for each commit.
#
#   scripts/release-notes.sh TAG
set -euo pipefail

tag=${1:?Usage: scripts/release-notes.sh TAG}
if ! git rev-parse --quiet --verify "$tag^{commit}" > /dev/null; then
  echo "There is no tag $tag here. Fetch it: git fetch --tags" >&2
  exit 1
fi
if before=$(git describe --tags --abbrev=0 --match 'v*' "$tag^" 2> /dev/null); then
  printf 'Since %s:\n\n' "$before"
  git log --no-show-signature --no-merges --format='- %s (%h)' "$before..$tag"
else
  printf 'The first release.\n\n'
  git log --no-show-signature --no-merges --format='- %s (%h)' "$tag"
fi
