#!/usr/bin/env bash
# Build arguments and labels of an image, for every way to build one.
#
#   scripts/image-metadata.sh options SERVICE [COMMIT]   options of `docker build`, one per line
#   scripts/image-metadata.sh outputs SERVICE COMMIT     the same as step outputs, for docker/build-push-action
#
# Without COMMIT it is a local image, whose revision is its content tag. With COMMIT the revision is the commit, and
# labels contain the commit's time and, in a workflow, the source repository.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

form=${1:-} service=${2:-} commit=${3:-}

usage() {
  echo "Usage: $0 options SERVICE [COMMIT], or $0 outputs SERVICE COMMIT; for example: $0 options task-api" >&2
  exit 2
}

if [[ -z $service ]]; then usage; fi
revision=$commit
if [[ -z $commit ]]; then revision=$(SERVICE=$service scripts/image-tag.sh); fi
build_args=("PYTHON_IMAGE=$PYTHON_IMAGE" "SERVICE=$service" "REVISION=$revision")
labels=() label=org.opencontainers.image
if [[ -n $commit ]]; then
  created=$(TZ=UTC0 git show --no-show-signature --no-patch --date=format-local:%Y-%m-%dT%H:%M:%SZ --format=%cd "$commit")
  epoch=$(git show --no-show-signature --no-patch --format=%ct "$commit")
  labels=("$label.created=$created")
  if [[ -n ${GITHUB_REPOSITORY:-} ]]; then
    labels+=("$label.source=${GITHUB_SERVER_URL:-https://github.com}/$GITHUB_REPOSITORY")
  fi
fi

case $form in
  options)
    printf -- '--build-arg=%s\n' "${build_args[@]}"
    if [[ -n $commit ]]; then printf -- '--label=%s\n' "${labels[@]}"; fi
    ;;
  outputs)
    if [[ -z $commit ]]; then usage; fi
    echo "epoch=$epoch" # SOURCE_DATE_EPOCH: BuildKit sets the files' times to it
    echo 'build-args<<END' && printf '%s\n' "${build_args[@]}" END
    echo 'labels<<END' && printf '%s\n' "${labels[@]}" END
    ;;
  *) usage ;;
esac
