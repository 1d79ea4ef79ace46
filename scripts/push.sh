#!/usr/bin/env bash
# Pushes the image of an OCI layout, byte by byte as it is, and compares the digest on both sides.
#
#   scripts/push.sh LAYOUT REPOSITORY TAG...
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if (($# < 3)); then
  echo "Usage: $0 LAYOUT REPOSITORY TAG...   for example: $0 .image/task-api docker.io/you/task-api \$(git rev-parse HEAD)" >&2
  exit 2
fi
layout=$1 repository=$2
shift 2

digest=$("${PYTHON:-python3}" "$root/scripts/layout.py" digest "$layout")
"$root/scripts/go-tools.sh" crane
crane=$root/.tools/crane

# --index is for a layout of several images, but crane pushes an index that is the only one without it, too.
for tag in "$@"; do
  "$crane" push "$layout" "$repository:$tag" > /dev/null
  pushed=$("$crane" digest "$repository:$tag")
  if [[ $pushed != "$digest" ]]; then
    echo "$repository:$tag is $pushed, and what was scanned is $digest. Do not deploy it; push again, and see who else pushes there." >&2
    exit 1
  fi
done
echo "Pushed $repository ($*) as $digest"
# For the steps and jobs after this one.
if [[ -n ${GITHUB_OUTPUT:-} ]]; then echo "digest=$digest" >> "$GITHUB_OUTPUT"; fi
