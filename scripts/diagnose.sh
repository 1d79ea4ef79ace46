#!/usr/bin/env bash
# Says what may be wrong after a failed step of `make up`: numbered, each ok or wrong, with the command that shows or
# repairs it. It changes nothing.
#
# shellcheck disable=SC2016 # what stands in single quotes is for whoever reads it, or for kubectl
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

service=${SERVICE:-$(scripts/default-service.sh)}
number=0

ok() { number=$((number + 1)) && printf '%3d  ok     %s\n' "$number" "$1"; }

wrong() { # what is the case, command
  number=$((number + 1))
  printf '%3d  WRONG  %s\n            %s\n' "$number" "$1" "$2"
}

# Each line of $1 is wrong, with the command $2, in which NAME is the line's first word; without lines $3 is ok.
each() {
  local line
  if [[ -z $1 ]]; then ok "$3"; fi
  while read -r line; do
    if [[ -n $line ]]; then wrong "$line" "${2//NAME/${line%% *}}"; fi
  done <<< "$1"
}

ask() { kubectl --request-timeout 5s get "$@" 2> /dev/null; }

printf '\nWhat may be the reason (kubectl in this shell: export KUBECONFIG=$PWD/.kube/config):\n\n'

if ! docker version > /dev/null 2>&1; then
  wrong "Docker's daemon does not answer" 'make doctor'
  exit
fi
ok "Docker's daemon answers"

containers=$(docker ps --all --filter "label=io.x-k8s.kind.cluster=$CLUSTER" --format '{{.Names}} {{.State}}')
if [[ -z $containers ]]; then
  wrong 'There is no cluster' 'make up'
  exit
fi
each "$(sed -n '/ running$/!s/ / is /p' <<< "$containers")" 'docker start NAME' 'The containers of all nodes run'

if ! nodes=$(ask nodes --no-headers); then
  wrong "The cluster's API does not answer" "docker logs --tail 20 $CLUSTER-control-plane"
  exit
fi
each "$(awk '$2 !~ /^Ready/ { print $1, "is", $2 }' <<< "$nodes")" 'kubectl describe node NAME' 'All nodes are Ready'

short='{{range .items}}{{$node := .metadata.name}}{{range .status.conditions}}{{if ne .type "Ready"}}{{if eq .status "True"}}{{$node}} says {{.type}}
{{end}}{{end}}{{end}}{{end}}'
each "$(ask nodes --output "go-template=$short")" 'docker system df   # and: make doctor' 'No node is short of disk or memory'

image=$service:$(scripts/image-tag.sh)
if has_registry; then
  ok "Nodes pull from the registry $(registry)"
else
  without=$(while read -r node _; do
    if [[ -z $(docker exec "$node" ctr --namespace k8s.io images list --quiet "name==docker.io/library/$image" 2> /dev/null) ]]; then
      echo "$node does not have the image $image"
    fi
  done <<< "$containers")
  each "$without" "kind load docker-image $image --name $CLUSTER" "All nodes have the image $image"
fi

# A pod with containers that wait says why; a pod that no node takes has none yet.
waiting='{{range .items}}{{$pod := .metadata.name}}{{$phase := .status.phase}}{{range .status.containerStatuses}}{{with .state.waiting}}{{$pod}} is {{.reason}}
{{end}}{{else}}{{if eq $phase "Pending"}}{{$pod}} is Pending
{{end}}{{end}}{{end}}'
pods=$(ask pods --output "go-template=$waiting") || pods=''
each "$(grep -v CrashLoopBackOff <<< "$pods" || true)" 'kubectl describe pod NAME' 'No pod waits for an image or a node'
each "$(grep CrashLoopBackOff <<< "$pods" || true)" 'kubectl logs NAME --previous' 'No pod ends again and again'

each "$(ask hpa --no-headers | sed -n '/<unknown>/s/ .*/ (HPA) does not know the CPU; after a start this takes a minute/p')" \
  'kubectl logs --namespace kube-system deployment/metrics-server' 'The HPA knows the CPU'

pending=$(ask secrets --selector 'owner=helm,status in (pending-install,pending-upgrade,pending-rollback)' \
  --output 'go-template={{range .items}}{{.metadata.labels.name}} has a revision that is {{.metadata.labels.status}}
{{end}}') || pending=''
each "$pending" 'make up   # takes it away; or a make up of another terminal is at work' 'No Helm release is pending'

port=$(published_port 443)
if curl --silent --insecure --max-time 5 --output /dev/null "https://127.0.0.1:$port/"; then
  ok "The ingress controller answers on port $port"
else
  wrong "The ingress controller does not answer on port $port" 'kubectl logs --namespace ingress-nginx deployment/ingress-nginx-controller'
fi
