#!/usr/bin/env bash
# Scans the image of an OCI layout as the pipeline does: the same Trivy with the same flags. A HIGH or CRITICAL finding
# that has a fix is exit code 1.
#
#   scripts/scan.sh LAYOUT
#
#   TRIVY   a Trivy on this machine, instead of the container; where it has its database, TRIVY_CACHE_DIR tells it
#
# The container sees the layout, read-only, and its database: no Docker socket, no credentials.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

if (($# != 1)) || [[ ! -f $1/index.json ]]; then
  echo "Usage: $0 LAYOUT   (a folder with an index.json; make one: make layout)" >&2
  exit 2
fi
layout=$(cd "$1" && pwd)

if [[ -n ${TRIVY:-} ]]; then
  if ! command -v "$TRIVY" > /dev/null; then
    echo "TRIVY is $TRIVY, and no such program is there, so nothing was scanned. Build one, .tools/trivy: scripts/go-tools.sh trivy" >&2
    exit 3
  fi
  trivy=("$TRIVY")
else
  if ! docker image inspect "$TRIVY_IMAGE" > /dev/null 2>&1 && ! docker pull --quiet "$TRIVY_IMAGE"; then
    echo "The scanner, $TRIVY_IMAGE, cannot be pulled, so nothing was scanned. Is its registry reachable?" >&2
    exit 3
  fi
  # The volume keeps the vulnerability database for the next scan.
  trivy=(docker run --rm --volume "$layout:/layout:ro" --volume trivy-database:/database "$TRIVY_IMAGE" --cache-dir /database)
  layout=/layout
fi
"${trivy[@]}" image --input "$layout" --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1
