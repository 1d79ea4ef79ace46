#!/usr/bin/env bash
# Tests the built image and the deployed service; on failure shows what the cluster says.
# Arguments go to pytest: scripts/e2e.sh e2e/test_service.py -k certificate
#
#   IMAGE_COMMIT   the commit of which the image says that it is, where the pipeline built it
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
need_cluster

# Tests type commands as a person does: `make` in them is not a part of the one that calls this, and what they write is
# no output of a step on GitHub.
unset MAKEFLAGS MAKELEVEL MFLAGS GITHUB_ACTIONS GITHUB_OUTPUT GITHUB_STEP_SUMMARY

SERVICE=$(scripts/default-service.sh) # which the tests ask for, too (platform/tests/under_test.py)
IMAGE=$SERVICE:$(SERVICE=$SERVICE scripts/image-tag.sh)
if has_registry; then IMAGE=$(registry)/$IMAGE; fi # the name by which the nodes have it
HTTP_PORT=$(published_port 80)
HTTPS_PORT=$(published_port 443)
export IMAGE HTTP_PORT HTTPS_PORT
if ! docker image inspect "$IMAGE" > /dev/null 2>&1; then
  echo "The image of this content, $IMAGE, is not built and deployed. Do it: make up" >&2
  exit 1
fi

if ! .venv/bin/python -m pytest "$@"; then
  {
    printf '\nThe cluster, for whoever looks for the reason:\n\n'
    kubectl get nodes,pods,hpa,ingress --output wide
    printf '\nThe last events:\n'
    kubectl get events --sort-by=.lastTimestamp | tail -n 20
    printf '\nThe last lines of each pod:\n'
    for service in $(deployable_services); do kubectl logs --selector "app=$service" --prefix --tail 20 --all-containers; done
    kubectl logs --selector app.kubernetes.io/component=database --prefix --tail 20
  } || true
  printf '\nOne test alone: scripts/e2e.sh -k NAME\n' >&2
  exit 1
fi
