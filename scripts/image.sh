#!/usr/bin/env bash
# Builds the image of SERVICE as SERVICE:content-<hash> and SERVICE:latest, unless it is there.
#
#   REVISION   where it is HEAD, SERVICE:latest is SERVICE:REVISION instead, an image that says of itself that it is it
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh docker git

service=${SERVICE:-task-api}
tag=$(scripts/image-tag.sh) commit=''
# A deploy asks every pod for the commit under which the image was pushed.
if [[ -n ${REVISION:-} && $REVISION == "$(git rev-parse HEAD 2> /dev/null)" ]]; then
  if [[ -n $(git status --porcelain) ]]; then
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
  docker build "${options[@]}" --tag "$service:$tag" .
fi
docker tag "$service:$tag" "$service:latest"
