#!/usr/bin/env bash
# Scans the image of an OCI layout as the pipeline does: the same Trivy with the same flags. A HIGH or CRITICAL finding
# that has a fix is exit code 1.
#
#   scripts/scan.sh LAYOUT
#
# The scanner sees the layout, read-only, and its database: no Docker socket, no credentials.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

if (($# != 1)) || [[ ! -f $1/index.json ]]; then
  echo "Usage: $0 LAYOUT   (a folder with an index.json; make one: make layout)" >&2
  exit 2
fi
layout=$(cd "$1" && pwd)

if ! docker image inspect "$TRIVY_IMAGE" > /dev/null 2>&1 && ! docker pull --quiet "$TRIVY_IMAGE"; then
  echo "The scanner, $TRIVY_IMAGE, cannot be pulled, so nothing was scanned. Is its registry reachable?" >&2
  exit 3
fi
# The volume keeps the vulnerability database for the next scan.
docker run --rm --volume "$layout:/layout:ro" --volume trivy-database:/database "$TRIVY_IMAGE" --cache-dir /database \
  image --input /layout --severity HIGH,CRITICAL --ignore-unfixed --exit-code 1
