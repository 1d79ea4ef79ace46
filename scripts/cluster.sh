# shellcheck shell=bash
# What every script about the local cluster shares; sourced, with the repository as working directory.
# The cluster has a kubeconfig of its own, and kubectl and helm get its context by name: no other
# cluster that this machine knows can be touched.

CLUSTER=task-platform
CONTEXT=kind-$CLUSTER
# The container of the local registry, which REGISTRY=1 makes; `make up` goes by it from then on.
export REGISTRY_NAME=$CLUSTER-registry
export KUBECONFIG=$PWD/.kube/config

# shellcheck source=scripts/versions.sh
. scripts/versions.sh
# They would give the cluster another name, provider or network, and the release another namespace. kubectl's kuberc has
# defaults of a person's own.
for name in "${!KIND_EXPERIMENTAL_@}" "${!HELM_KUBE@}" KIND_CLUSTER_NAME HELM_NAMESPACE HELM_DRIVER; do
  if [[ -n ${!name:-} ]]; then ISOLATED+=" $name"; fi
  unset "$name"
done
export KUBECTL_KUBERC=false

kubectl() { command kubectl --context "$CONTEXT" "$@"; }
helm() { command helm --kube-context "$CONTEXT" "$@"; }

# Services that can be deployed: those with a chart that can be installed, and is no library.
deployable_services() {
  local chart
  for chart in platform/helm/*/Chart.yaml; do
    if grep --quiet '^type: application' "$chart"; then basename "$(dirname "$chart")"; fi
  done
}

# Where kind cannot say, that is no answer: taken for `no`, a cluster would be made where one is.
cluster_exists() {
  local clusters
  clusters=$(kind get clusters 2> /dev/null) || {
    echo 'kind does not say which clusters there are. See why: kind get clusters' >&2
    exit 1
  }
  grep -qx "$CLUSTER" <<< "$clusters"
}

need_cluster() {
  scripts/doctor.sh docker kind kubectl
  if ! cluster_exists; then
    echo "There is no cluster named $CLUSTER. Make it: make up" >&2
    exit 1
  fi
  mkdir -p .kube
  kind export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG" --quiet
}

# The port of 127.0.0.1 on which the cluster publishes its port $1.
published_port() { docker port "$CLUSTER-control-plane" "$1/tcp" | head -n 1 | sed 's/.*://'; }

has_registry() { [[ $(docker container inspect --format '{{ .State.Running }}' "$REGISTRY_NAME" 2> /dev/null) == true ]]; }

# Where images go that the registry is to have: localhost:5001.
registry() { echo "localhost:$(docker port "$REGISTRY_NAME" 5000/tcp | head -n 1 | sed 's/.*://')"; }

# Of ports of this machine.
is_taken() { (: < "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

next_free() {
  local port=$(($1 + 1))
  while is_taken "$port"; do port=$((port + 1)); done
  echo "$port"
}
