#!/usr/bin/env bash
# Pushes one local image under several tags, without building anything again.
#
#   scripts/push.sh IMAGE REPOSITORY TAG...
set -euo pipefail

if (($# < 3)); then
  echo "Usage: $0 IMAGE REPOSITORY TAG...   for example: $0 task-api:latest you/task-api \$(git rev-parse HEAD) latest" >&2
  exit 2
fi
image=$1 repository=$2
shift 2

for tag in "$@"; do
  docker tag "$image" "$repository:$tag"
  docker push --quiet "$repository:$tag"
done
# Every tag leads to one image: the digests that the registry gave are the same.
digests=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$image" | sed -n "s|^\(docker.io/\)\{0,1\}$repository@||p" | sort -u)
if [[ $(wc -l <<< "$digests") -ne 1 || -z $digests ]]; then
  printf 'The tags %s of %s do not lead to one image:\n%s\n' "$*" "$repository" "$digests" >&2
  exit 1
fi
echo "Pushed $repository ($*) as $digests"
