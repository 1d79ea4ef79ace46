#!/usr/bin/env bash
# Prints the tag that the image of SERVICE gets from its content: a hash of all that goes into it.
# The same content has the same tag on every machine, committed or not; another line, another tag.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

service=${SERVICE:-task-api}
base=${PYTHON_IMAGE:-$(sed -n 's/^PYTHON_IMAGE=//p' versions.env)}
{
  echo "$base"
  # In the order of their bytes, whatever the language of the machine is. Files known to git and new ones that it does not ignore; one that was deleted without a commit is left out.
  git ls-files --cached --others --exclude-standard -- \
    Dockerfile .dockerignore "services/$service/requirements.txt" "services/$service/src" \
    | LC_ALL=C sort | while read -r file; do
      if [[ -f $file ]]; then echo "$(git hash-object -- "$file") $file"; fi
    done
} | git hash-object --stdin | sed 's/^\(.\{12\}\).*/content-\1/'
