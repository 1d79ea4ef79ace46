#!/usr/bin/env bash
# Diagnoses a failed step of `make up`: numbered checks, each ok or failed, with the command that inspects or fixes it.
# It changes nothing.
#
# shellcheck disable=SC2016 # single-quoted text is printed, or is for kubectl
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

service=${SERVICE:-$(scripts/default-service.sh)}
number=0

ok() { number=$((number + 1)) && printf '%3d  ok     %s\n' "$number" "$1"; }

fail() { # problem, command
  number=$((number + 1))
  printf '%3d  FAIL   %s\n            %s\n' "$number" "$1" "$2"
}

# Each line of $1 is a failure, with the command $2, in which NAME is the line's first word; without lines $3 is ok.
report_each() {
  local line
  if [[ -z $1 ]]; then ok "$3"; fi
  while read -r line; do
    if [[ -n $line ]]; then fail "$line" "${2//NAME/${line%% *}}"; fi
  done <<< "$1"
}

kget() { kubectl --request-timeout 5s get "$@" 2> /dev/null; }

printf '\nPossible causes (kubectl in this shell: export KUBECONFIG=$PWD/.kube/config):\n\n'

if ! docker version > /dev/null 2>&1; then
  fail 'The Docker daemon is not responding' 'make doctor'
  exit
fi
ok 'The Docker daemon is responding'

containers=$(docker ps --all --filter "label=io.x-k8s.kind.cluster=$CLUSTER" --format '{{.Names}} {{.State}}')
if [[ -z $containers ]]; then
  fail 'There is no cluster' 'make up'
  exit
fi
report_each "$(sed -n '/ running$/!s/ / is /p' <<< "$containers")" 'docker start NAME' 'The containers of all nodes are running'

if ! nodes=$(kget nodes --no-headers); then
  fail 'The API server is not responding' "docker logs --tail 20 $CLUSTER-control-plane"
  exit
fi
report_each "$(awk '$2 !~ /^Ready/ { print $1, "is", $2 }' <<< "$nodes")" 'kubectl describe node NAME' 'All nodes are Ready'

pressure='{{range .items}}{{$node := .metadata.name}}{{range .status.conditions}}{{if ne .type "Ready"}}{{if eq .status "True"}}{{$node}} has {{.type}}
{{end}}{{end}}{{end}}{{end}}'
report_each "$(kget nodes --output "go-template=$pressure")" 'docker system df   # and: make doctor' 'No node has disk or memory pressure'

image=$service:$(scripts/image-tag.sh)
if has_registry; then
  ok "Nodes pull from the registry $(registry)"
else
  missing=$(while read -r node _; do
    if [[ -z $(docker exec "$node" ctr --namespace k8s.io images list --quiet "name==docker.io/library/$image" 2> /dev/null) ]]; then
      echo "$node does not have the image $image"
    fi
  done <<< "$containers")
  report_each "$missing" "kind load docker-image $image --name $CLUSTER" "All nodes have the image $image"
fi

# A pod with waiting containers has a reason; an unscheduled pod has no containers yet.
waiting='{{range .items}}{{$pod := .metadata.name}}{{$phase := .status.phase}}{{range .status.containerStatuses}}{{with .state.waiting}}{{$pod}} is {{.reason}}
{{end}}{{else}}{{if eq $phase "Pending"}}{{$pod}} is Pending
{{end}}{{end}}{{end}}'
pods=$(kget pods --output "go-template=$waiting") || pods=''
report_each "$(grep -v CrashLoopBackOff <<< "$pods" || true)" 'kubectl describe pod NAME' 'No pod is waiting for an image or a node'
report_each "$(grep CrashLoopBackOff <<< "$pods" || true)" 'kubectl logs NAME --previous' 'No pod is in CrashLoopBackOff'

report_each "$(kget hpa --no-headers | sed -n '/<unknown>/s/ .*/ (HPA) has no CPU metrics; after a start this takes a minute/p')" \
  'kubectl logs --namespace kube-system deployment/metrics-server' 'The HPA has CPU metrics'

pending=$(kget secrets --selector 'owner=helm,status in (pending-install,pending-upgrade,pending-rollback)' \
  --output 'go-template={{range .items}}{{.metadata.labels.name}} has a revision in {{.metadata.labels.status}}
{{end}}') || pending=''
report_each "$pending" 'make up   # removes it; or another make up is still running' 'No Helm release is pending'

port=$(published_port 443)
if curl --silent --insecure --max-time 5 --output /dev/null "https://127.0.0.1:$port/"; then
  ok "The ingress controller is responding on port $port"
else
  fail "The ingress controller is not responding on port $port" 'kubectl logs --namespace ingress-nginx deployment/ingress-nginx-controller'
fi
