#!/usr/bin/env bash
# Builds the image of SERVICE as SERVICE:content-<hash> and SERVICE:latest, unless it is there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
scripts/doctor.sh docker git

service=${SERVICE:-task-api}
tag=$(scripts/image-tag.sh)
if docker image inspect "$service:$tag" > /dev/null 2>&1; then
  echo "$service:$tag is built already"
else
  docker build --build-arg "PYTHON_IMAGE=$PYTHON_IMAGE" --build-arg "SERVICE=$service" --build-arg "REVISION=$tag" \
    --tag "$service:$tag" .
fi
docker tag "$service:$tag" "$service:latest"
