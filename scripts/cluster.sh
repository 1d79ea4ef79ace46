# shellcheck shell=bash
# Shared by all scripts for the local cluster; sourced with the repository as working directory. The cluster has its own
# kubeconfig, and kubectl and helm get its context explicitly: no other cluster known to this machine can be changed.

CLUSTER=task-platform
CONTEXT=kind-$CLUSTER
# The container of the local registry, which REGISTRY=1 creates; `make up` uses it from then on.
export REGISTRY_NAME=$CLUSTER-registry
export KUBECONFIG=$PWD/.kube/config

# shellcheck source=scripts/versions.sh
. scripts/versions.sh
# These would select another cluster name, provider, network or namespace. kubectl's kuberc holds personal defaults.
for name in "${!KIND_EXPERIMENTAL_@}" "${!HELM_KUBE@}" KIND_CLUSTER_NAME HELM_NAMESPACE HELM_DRIVER; do
  if [[ -n ${!name:-} ]]; then ISOLATED+=" $name"; fi
  unset "$name"
done
export KUBECTL_KUBERC=false

kubectl() { command kubectl --context "$CONTEXT" "$@"; }
helm() { command helm --kube-context "$CONTEXT" "$@"; }

# Deployable services: those with an application chart, not a library chart.
deployable_services() {
  local chart
  for chart in platform/helm/*/Chart.yaml; do
    if grep --quiet '^type: application' "$chart"; then basename "$(dirname "$chart")"; fi
  done
}

# A failing kind must not count as `no`: that would create a second cluster.
cluster_exists() {
  local clusters
  clusters=$(kind get clusters 2> /dev/null) || {
    echo 'kind cannot list its clusters. See why: kind get clusters' >&2
    exit 1
  }
  grep -qx "$CLUSTER" <<< "$clusters"
}

need_cluster() {
  scripts/doctor.sh docker kind kubectl
  if ! cluster_exists; then
    echo "The cluster $CLUSTER does not exist. Create it: make up" >&2
    exit 1
  fi
  mkdir -p .kube
  kind export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG" --quiet
}

# The port of 127.0.0.1 on which the cluster publishes port $1.
published_port() { docker port "$CLUSTER-control-plane" "$1/tcp" | head -n 1 | sed 's/.*://'; }

has_registry() { [[ $(docker container inspect --format '{{ .State.Running }}' "$REGISTRY_NAME" 2> /dev/null) == true ]]; }

# The registry for the cluster's images: localhost:5001.
registry() { echo "localhost:$(docker port "$REGISTRY_NAME" 5000/tcp | head -n 1 | sed 's/.*://')"; }

# Ports of this machine.
is_taken() { (: < "/dev/tcp/127.0.0.1/$1") 2> /dev/null; }

next_free() {
  local port=$(($1 + 1))
  while is_taken "$port"; do port=$((port + 1)); done
  echo "$port"
}
