#!/usr/bin/env bash
# Prints the tag that the image of SERVICE gets from its content: a hash of all that goes into it, as it lies in the
# folder. Git is not asked: the same content has the same tag in a clone and in an archive without .git, committed or
# not, ignored or not. Another line, another tag.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

service=${SERVICE:-$(scripts/default-service.sh)}
base=${PYTHON_IMAGE:-$(sed -n 's/^PYTHON_IMAGE=//p' versions.env)}
if [[ ! -d services/$service/src ]]; then
  echo "There is no service $service: its code would be in services/$service/src" >&2
  exit 1
fi
# macOS has the one, busybox the other.
sha256=(sha256sum)
if ! command -v sha256sum > /dev/null; then sha256=(shasum -a 256); fi

# What .dockerignore leaves out by its name wherever it is (**/NAME) is not looked for.
left_out=()
while read -r pattern; do left_out+=(-name "$pattern" -prune -o); done < <(sed -n 's|^\*\*/||p' .dockerignore)
files() { find packages/chassis/src "services/$service/src" ${left_out[@]+"${left_out[@]}"} "$@" -print | LC_ALL=C sort; }

{
  # Without DOCKER_DEFAULT_PLATFORM it is an image for this machine; with it perhaps for another.
  echo "$base${DOCKER_DEFAULT_PLATFORM:+ for $DOCKER_DEFAULT_PLATFORM}"
  { printf '%s\n' Dockerfile .dockerignore "services/$service/requirements.txt" && files -type f; } \
    | tr '\n' '\0' | xargs -0 "${sha256[@]}"
  files -type l | while IFS= read -r link; do echo "$link leads to $(readlink "$link")"; done
} | "${sha256[@]}" | sed 's/^\(.\{12\}\).*/content-\1/'
