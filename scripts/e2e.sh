#!/usr/bin/env bash
# Tests the built image and the deployed service; on failure prints the state of the cluster. Arguments go to pytest:
# scripts/e2e.sh e2e/test_service.py -k certificate
#
#   IMAGE_COMMIT   the commit that the image reports, if the pipeline built it
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
if [[ ! -x .venv/bin/python ]]; then
  echo "The tests' packages are not installed. Install them and run all tests: make e2e" >&2
  exit 1
fi
. scripts/cluster.sh
need_cluster

# Tests run commands like a user: `make` in them is not a sub-make of the calling one, and their output is not output of
# a GitHub step.
unset MAKEFLAGS MAKELEVEL MFLAGS GITHUB_ACTIONS GITHUB_OUTPUT GITHUB_STEP_SUMMARY

SERVICE=$(scripts/default-service.sh) # also used by the tests (platform/tests/under_test.py)
IMAGE=$SERVICE:$(SERVICE=$SERVICE scripts/image-tag.sh)
if has_registry; then IMAGE=$(registry)/$IMAGE; fi # the nodes' name for it
HTTP_PORT=$(published_port 80)
HTTPS_PORT=$(published_port 443)
export IMAGE HTTP_PORT HTTPS_PORT
if ! docker image inspect "$IMAGE" > /dev/null 2>&1; then
  echo "The image of the current sources, $IMAGE, is not built and deployed. Deploy it: make up" >&2
  exit 1
fi

if ! .venv/bin/python -m pytest "$@"; then
  {
    printf '\nState of the cluster:\n\n'
    kubectl get nodes,pods,hpa,ingress --output wide
    printf '\nLatest events:\n'
    kubectl get events --sort-by=.lastTimestamp | tail -n 20
    printf '\nLatest log lines of each pod:\n'
    for service in $(deployable_services); do kubectl logs --selector "app=$service" --prefix --tail 20 --all-containers; done
    kubectl logs --selector app.kubernetes.io/component=database --prefix --tail 20
  } || true
  printf '\nRun a single test: scripts/e2e.sh -k NAME\n' >&2
  exit 1
fi
