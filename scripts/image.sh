#!/usr/bin/env bash
# Builds the image of SERVICE as SERVICE:content-<hash> and SERVICE:latest, unless it is there.
#
#   REVISION   where it is HEAD, SERVICE:latest is SERVICE:REVISION instead, an image that says of itself that it is it
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh docker

service=${SERVICE:-$(scripts/default-service.sh)}
tag=$(scripts/image-tag.sh) commit=''
# A deploy asks every pod for the commit under which the image was pushed.
if [[ -n ${REVISION:-} && $REVISION == "$(git rev-parse HEAD 2> /dev/null)" ]]; then
  if [[ -n $(git status --porcelain --untracked-files=normal) ]]; then
    echo "There are changes that are not in $REVISION (git status): the image would not be that commit. Commit them, or leave IMAGE_TAG out." >&2
    exit 1
  fi
  tag=$REVISION commit=$REVISION
fi
if docker image inspect "$service:$tag" > /dev/null 2>&1; then
  echo "$service:$tag is built already"
else
  metadata=$(scripts/image-metadata.sh options "$service" ${commit:+"$commit"})
  options=()
  while read -r option; do options+=("$option"); done <<< "$metadata"
  # Where the builder is a container of its own (docker buildx use), its images are Docker's only if it is told so.
  if [[ $(docker build --help 2> /dev/null) == *--load* ]]; then options+=(--load); fi
  # pip in the build reaches its index as this machine does; no image keeps these, and one at 127.0.0.1 is not there.
  for name in HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy; do
    case ${!name:-} in '' | *//127.0.0.1* | *//localhost*) ;; *) options+=("--build-arg=$name") ;; esac
  done
  docker build "${options[@]}" --tag "$service:$tag" .
fi
docker tag "$service:$tag" "$service:latest"
