#!/usr/bin/env bash
# Scans the image of an OCI layout like the pipeline: the same Trivy with the same flags. A fixable HIGH or CRITICAL
# vulnerability is exit code 1.
#
#   scripts/scan.sh LAYOUT
#
#   TRIVY   path of a local Trivy, used instead of the container; TRIVY_CACHE_DIR is the path of its database
#
# The container gets the layout, read-only, and its database: no Docker socket, no credentials.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

if (($# != 1)) || [[ ! -f $1/index.json ]]; then
  echo "Usage: $0 LAYOUT   (a folder with an index.json; create one: make layout)" >&2
  exit 2
fi
layout=$(cd "$1" && pwd)

if [[ -n ${TRIVY:-} ]]; then
  if ! command -v "$TRIVY" > /dev/null; then
    echo "TRIVY is $TRIVY, which does not exist, so nothing was scanned. Build .tools/trivy: scripts/go-tools.sh trivy" >&2
    exit 3
  fi
  trivy=("$TRIVY")
else
  if ! docker image inspect "$TRIVY_IMAGE" > /dev/null 2>&1 && ! docker pull --quiet "$TRIVY_IMAGE"; then
    echo "Cannot pull the scanner $TRIVY_IMAGE, so nothing was scanned. Is its registry reachable?" >&2
    exit 3
  fi
  # The volume caches the vulnerability database for the next scan.
  trivy=(docker run --rm --volume "$layout:/layout:ro" --volume trivy-database:/database "$TRIVY_IMAGE" --cache-dir /database)
  layout=/layout
fi
"${trivy[@]}" image --input "$layout" --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1
