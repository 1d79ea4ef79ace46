#!/usr/bin/env bash
# Deploys one image to the cluster of KUBE_CONFIG and waits until it runs.
#
#   KUBE_CONFIG         the kubeconfig, base64 (or KUBECONFIG: a file)
#   IMAGE_REPOSITORY    where the image is
#   IMAGE_TAG           which one: a commit, never `latest`
#   DEPLOY_TIMEOUT      how long it may take (120s)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

: "${IMAGE_REPOSITORY:?is not set: name the repository of the image}"
: "${IMAGE_TAG:?is not set: name the commit to deploy}"
if [[ $IMAGE_TAG == latest ]]; then
  echo "IMAGE_TAG=latest is refused: the same tag again changes no pod. Name the commit." >&2
  exit 2
fi

if [[ -n ${KUBE_CONFIG:-} ]]; then
  umask 077
  folder=$(mktemp -d)
  trap 'rm -rf "$folder"' EXIT
  if ! printf %s "$KUBE_CONFIG" | base64 --decode > "$folder/config" 2> /dev/null; then
    echo "KUBE_CONFIG is not base64. Make it: base64 -w 0 kubeconfig (macOS: base64 -i kubeconfig)" >&2
    exit 2
  fi
  export KUBECONFIG=$folder/config
fi

# In the background, with signals passed on: a cancelled job ends helm by a signal that it can handle, and marks the release
# as failed; killed without that it would stay `pending-upgrade`, and refuse the next deploy.
helm upgrade --install task-api platform/helm/task-api \
  --set "image.repository=$IMAGE_REPOSITORY" --set-string "image.tag=$IMAGE_TAG" \
  --history-max 10 --wait --timeout "${DEPLOY_TIMEOUT:-120s}" &
helm=$!
trap 'kill -TERM "$helm"' INT TERM
# And then until the last pod is new: to Helm 3 a Deployment is ready when all but maxUnavailable of its pods are, which of
# the single pod of a first install is none.
if ! { { wait "$helm" || wait "$helm"; } && kubectl rollout status deployment/task-api --timeout "${DEPLOY_TIMEOUT:-120s}"; }; then
  echo "The deploy of $IMAGE_TAG failed. See why: kubectl get events,pods; go back: helm rollback task-api" >&2
  exit 1
fi
echo "Deployed $IMAGE_REPOSITORY:$IMAGE_TAG"
