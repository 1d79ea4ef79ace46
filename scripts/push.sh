#!/usr/bin/env bash
# Pushes the image of an OCI layout unchanged, by its digest, and tags it once it is in the registry.
#
#   scripts/push.sh LAYOUT REPOSITORY TAG...
set -euo pipefail
root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/isolate.sh
. "$root/scripts/isolate.sh"

if (($# < 3)); then
  echo "Usage: $0 LAYOUT REPOSITORY TAG...   for example: $0 .image/task-api docker.io/you/task-api \$(git rev-parse HEAD)" >&2
  exit 2
fi
layout=$1 repository=$2
shift 2

python=${PYTHON:-$("$root/scripts/find-python.sh" || echo python3)}
digest=$("$python" "$root/scripts/layout.py" digest "$layout")
"$root/scripts/go-tools.sh" crane
crane=$root/.tools/crane

# A registry verifies the content against the digest. --index is meant for a layout of several images, but crane also
# pushes an index that is the only entry without it.
"$crane" push "$layout" "$repository@$digest" > /dev/null
for tag in "$@"; do
  "$crane" tag "$repository@$digest" "$tag" > /dev/null
  remote_digest=$("$crane" digest "$repository:$tag")
  if [[ $remote_digest != "$digest" ]]; then
    echo "$repository:$tag is $remote_digest, but the scanned image is $digest. Do not deploy it; push again, and find out who else pushes there." >&2
    exit 1
  fi
done
echo "Pushed $repository ($*) as $digest"
# For later steps and jobs.
if [[ -n ${GITHUB_OUTPUT:-} ]]; then echo "digest=$digest" >> "$GITHUB_OUTPUT"; fi
