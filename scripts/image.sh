#!/usr/bin/env bash
# Builds the image of SERVICE as SERVICE:content-<hash> and SERVICE:latest, unless it exists.
#
#   REVISION   if it equals HEAD, SERVICE:latest is SERVICE:REVISION instead, an image that reports this commit
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh docker

service=${SERVICE:-$(scripts/default-service.sh)}
tag=$(scripts/image-tag.sh) commit=''
# A deploy verifies on every pod the commit that its image was pushed as.
if [[ -n ${REVISION:-} && $REVISION == "$(git rev-parse HEAD 2> /dev/null)" ]]; then
  if [[ -n $(git status --porcelain --untracked-files=normal) ]]; then
    echo "Uncommitted changes (git status): the image would not match commit $REVISION. Commit them, or omit IMAGE_TAG." >&2
    exit 1
  fi
  tag=$REVISION commit=$REVISION
fi
if docker image inspect "$service:$tag" > /dev/null 2>&1; then
  echo "$service:$tag already exists"
else
  metadata=$(scripts/image-metadata.sh options "$service" ${commit:+"$commit"})
  options=()
  while read -r option; do options+=("$option"); done <<< "$metadata"
  # With a builder in a separate container (docker buildx use), images reach Docker only with --load.
  if [[ $(docker build --help 2> /dev/null) == *--load* ]]; then options+=(--load); fi
  # pip in the build uses this machine's proxies; no image keeps these, and one at 127.0.0.1 is unreachable there.
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    case ${!name:-} in '' | *//127.0.0.1* | *//localhost*) ;; *) options+=("--build-arg=$name") ;; esac
  done
  docker build "${options[@]}" --tag "$service:$tag" .
fi
docker tag "$service:$tag" "$service:latest"
