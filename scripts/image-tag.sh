#!/usr/bin/env bash
# Prints the content tag of SERVICE's image: a hash of all files that go into it, as they are in the folder. Git is not
# used: the same content has the same tag in a clone and in an archive without .git, committed or not, ignored or not.
# Any changed line changes the tag.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

service=${SERVICE:-$(scripts/default-service.sh)}
base=${PYTHON_IMAGE:-$(sed -n 's/^PYTHON_IMAGE=//p' versions.env)}
if [[ ! -d services/$service/src ]]; then
  echo "There is no service $service: its code would be in services/$service/src" >&2
  exit 1
fi
# macOS has shasum, busybox has sha256sum.
sha256=(sha256sum)
if ! command -v sha256sum > /dev/null; then sha256=(shasum -a 256); fi

# Names that .dockerignore excludes anywhere (**/NAME) are skipped.
excluded=()
while read -r pattern; do excluded+=(-name "$pattern" -prune -o); done < <(sed -n 's|^\*\*/||p' .dockerignore)
files() { find packages/chassis/src "services/$service/src" ${excluded[@]+"${excluded[@]}"} "$@" -print | LC_ALL=C sort; }

{
  # Without DOCKER_DEFAULT_PLATFORM the image is for this machine; with it possibly for another.
  echo "$base${DOCKER_DEFAULT_PLATFORM:+ for $DOCKER_DEFAULT_PLATFORM}"
  { printf '%s\n' Dockerfile .dockerignore "services/$service/requirements.txt" && files -type f; } \
    | tr '\n' '\0' | xargs -0 "${sha256[@]}"
  files -type l | while IFS= read -r link; do echo "$link leads to $(readlink "$link")"; done
} | "${sha256[@]}" | sed 's/^\(.\{12\}\).*/content-\1/'
