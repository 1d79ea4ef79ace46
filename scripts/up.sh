#!/usr/bin/env bash
# Creates the local cluster with everything in it, or updates the existing one.
#
#   scripts/up.sh              all steps, one line each
#   scripts/up.sh prepare      the steps before the image: a cluster that Tilt can deploy to
#   scripts/up.sh STEP         a single step (a function below), as the other forms call this file
#
# MONITORING=1 also installs the Prometheus Operator and a Prometheus, which scrapes the release from then on.
# REGISTRY=0 creates no registry. By default there is one on 127.0.0.1:5001 (REGISTRY_PORT) that the nodes pull from:
# REGISTRY=1 requires it, without that the cluster is created without a registry if none can be started. HTTP_PORT and
# HTTPS_PORT (8080 and 8443) are the ports of 127.0.0.1 of a new cluster.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

export HTTP_PORT=${HTTP_PORT:-8080} HTTPS_PORT=${HTTPS_PORT:-8443} SERVICE=${SERVICE:-$(scripts/default-service.sh)}
log=.kube/log

cluster() {
  if cluster_exists && ! was_healthy && ! wait_until_healthy; then
    echo 'The cluster was never healthy, as after an interrupted start: recreating it'
    kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG"
  fi
  if ! cluster_exists; then
    sed -e "s/hostPort: 8080/hostPort: $HTTP_PORT/" -e "s/hostPort: 8443/hostPort: $HTTPS_PORT/" kind-config.yaml > .kube/kind-config.yaml
    kind create cluster --config .kube/kind-config.yaml --image "$KIND_NODE_IMAGE" --kubeconfig "$KUBECONFIG" --wait 180s
  fi
  if ! wait_until_healthy; then
    echo "The cluster is not healthy. It was before, so it may hold data and is not deleted. To recreate it without its data: make down up"
    return 1
  fi
  docker exec "$CLUSTER-control-plane" touch "$HEALTHY_MARKER"
}

# A file in the control plane's node marks that the cluster was healthy once: it is readable when nothing runs there.
HEALTHY_MARKER=/kind/task-platform-was-whole
was_healthy() { docker cp "$CLUSTER-control-plane:$HEALTHY_MARKER" - > /dev/null 2>&1; }

# All nodes are Ready, including those that were stopped; kubectl may fail while they start.
wait_until_healthy() {
  local deadline=$((SECONDS + ${NODES_TIMEOUT:-90}))
  # shellcheck disable=SC2046 # names without spaces
  docker start $(kind get nodes --name "$CLUSTER") || return 1
  until kind export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG" --quiet && nodes_are_ready; do
    if ((SECONDS >= deadline)); then return 1; fi
    sleep 2
  done
}

nodes_are_ready() {
  local nodes
  nodes=$(kubectl get nodes --no-headers) || return 1
  echo "$nodes"
  [[ $(awk '$2 ~ /^Ready/' <<< "$nodes" | wc -l) -eq $(grep -c -- '- role:' kind-config.yaml) ]]
}

addons() {
  platform/cluster/addons.sh metrics-server
  platform/cluster/addons.sh ingress-nginx
}

prometheus() { platform/cluster/addons.sh prometheus; }

local_registry() { platform/cluster/registry.sh; }

# With a registry a changed image is in the cluster in 3 s, since only its changed layers are pushed; `kind load` copies
# all of it to each node. That is the fallback if the registry's image or port is unavailable.
can_use_registry() {
  local port=${REGISTRY_PORT:-5001} fallback='Images are copied in full to each node'
  if [[ ${REGISTRY:-} == 1 ]] || has_registry; then return; fi
  if [[ ${REGISTRY:-} == 0 ]]; then return 1; fi
  if is_taken "$port"; then
    echo "Skipped the local registry: port $port of 127.0.0.1 is in use. $fallback. To use another port: make up REGISTRY_PORT=$(next_free "$port")"
  elif docker image inspect "$REGISTRY_IMAGE" > /dev/null 2>&1 || docker pull --quiet "$REGISTRY_IMAGE" > /dev/null; then
    return
  else
    echo "Skipped the local registry: $REGISTRY_IMAGE cannot be pulled (see above). $fallback"
  fi
  return 1
}

secrets() { platform/cluster/secrets.sh; }

images() {
  for SERVICE in $(deployable_services); do
    export SERVICE
    scripts/image.sh
  done
}

load() {
  local image tag node
  tag=$(scripts/image-tag.sh)
  image=$SERVICE:$tag
  if has_registry; then
    docker tag "$image" "$(registry)/$image"
    docker push "$(registry)/$image"
    return
  fi
  for node in $(kind get nodes --name "$CLUSTER"); do
    # Check by name first: `kind load` would copy an image of 300 MB again to nodes that have it.
    if [[ -z $(docker exec "$node" ctr --namespace k8s.io images list --quiet "name==docker.io/library/$image") ]]; then
      kind load docker-image "$image" --name "$CLUSTER"
      return
    fi
  done
}

release() {
  local monitoring=false repository=$SERVICE
  if has_registry; then repository=$(registry)/$SERVICE; fi
  if [[ -n $(kubectl get crd servicemonitors.monitoring.coreos.com --ignore-not-found --output name) ]]; then
    monitoring=true
  fi
  # A killed helm leaves its revision pending, which blocks every later one. Only its record is deleted: the objects
  # that it created carry the release's name, so the next revision adopts them as they are, and no data is lost.
  kubectl delete secret --selector "owner=helm,name=$SERVICE,status in (pending-install,pending-upgrade,pending-rollback)"
  if ! helm status "$SERVICE" > /dev/null 2>&1; then adopt_resources; fi
  HELM_KUBECONTEXT=$CONTEXT scripts/helm.sh upgrade --install "$SERVICE" "platform/helm/$SERVICE" \
    --values platform/helm/service/values-dev.yaml --values "platform/helm/$SERVICE/values-dev.yaml" \
    --set "image.repository=$repository" --set-string "image.tag=$(scripts/image-tag.sh)" \
    --set serviceMonitor.enabled=$monitoring --set prometheusRule.enabled=$monitoring \
    --history-max 10 --wait --timeout 180s
}

# Objects that `make dev` deployed before there was a release have Tilt's label, and Helm adopts only those that name
# Helm and the release. This labels the chart's existing objects accordingly; data is kept.
adopt_resources() {
  local version existing
  version=$(kubectl get nodes --output 'jsonpath={.items[0].status.nodeInfo.kubeletVersion}')
  existing=$(helm template "$SERVICE" "platform/helm/$SERVICE" --no-hooks \
    --values platform/helm/service/values-dev.yaml --values "platform/helm/$SERVICE/values-dev.yaml" \
    --kube-version "$version" | kubectl get --filename - --ignore-not-found --output name)
  [[ -n $existing ]] || return 0
  # shellcheck disable=SC2086 # names, one per line
  kubectl label --overwrite $existing app.kubernetes.io/managed-by=Helm
  # shellcheck disable=SC2086 # as above
  kubectl annotate --overwrite $existing "meta.helm.sh/release-name=$SERVICE" meta.helm.sh/release-namespace=default
}

replicas() {
  # Helm waits for the Deployment; in a new release it has one pod until the HPA scales it to minReplicas.
  local minimum ready deadline=$((SECONDS + 180))
  minimum=$(kubectl get hpa "$SERVICE" --output 'jsonpath={.spec.minReplicas}')
  # Empty while no pod is ready.
  until ready=$(kubectl get deployment "$SERVICE" --output 'jsonpath={.status.readyReplicas}') && ((${ready:-0} >= minimum)); do
    if ((SECONDS > deadline)); then
      kubectl describe hpa "$SERVICE"
      return 1
    fi
    sleep 1
  done
  kubectl rollout status "deployment/$SERVICE" --timeout 180s
}

# Runs a step in a separate shell, which exits at its first failing command, and prints its duration.
step() { # title, function
  printf '%-40s' "$1"
  timed "$2"
  print_result "$2"
}

# The same in the background; `finish` prints the result.
begin() { # function
  rm -f "$log/$1.ended"
  timed "$1" &
  eval "$1_pid=$!"
}

finish() { # title, function
  local pid=$2_pid
  printf '%-40s' "$1"
  wait "${!pid}"
  print_result "$2"
}

timed() {
  local start=$SECONDS code=0
  scripts/up.sh "$1" > "$log/$1.log" 2>&1 || code=$?
  echo "$code $((SECONDS - start))" > "$log/$1.ended"
}

print_result() {
  local code seconds
  read -r code seconds < "$log/$1.ended"
  if ((code == 0)); then
    printf 'ok %4d s\n' "$seconds"
    return
  fi
  printf 'FAILED after %d s. Last lines of %s:\n\n' "$seconds" "$log/$1.log"
  tail -n 25 "$log/$1.log"
  scripts/diagnose.sh
  printf '\nFix the problem, then run the same command again: it resumes from the current state.\n'
  echo 'To start from scratch, without the data in the cluster: make down up'
  exit 1
}

prepare() {
  check
  with_cluster
  finish_addons
}

check() {
  scripts/doctor.sh docker kind kubectl kubernetes helm openssl ports
  # Needed only for a new cluster.
  cluster_exists || scripts/doctor.sh memory inotify
}

# The cluster, with its add-ons still starting.
with_cluster() {
  step "Cluster $CLUSTER" cluster
  if [[ $(published_port 443) != "$HTTPS_PORT" || $(published_port 80) != "$HTTP_PORT" ]]; then
    echo "(its ports are $(published_port 80) and $(published_port 443), set when it was created; to change them: make down up HTTP_PORT= HTTPS_PORT=)"
  fi
  begin addons
  if can_use_registry; then step 'Local registry' local_registry; fi
  step 'Certificate and password' secrets
}

finish_addons() {
  finish 'Add-ons metrics-server, ingress-nginx' addons
  if [[ ${MONITORING:-} == 1 ]]; then
    step 'Add-on Prometheus' prometheus
  fi
}

mkdir -p "$log"
if (($#)); then
  "$@"
  exit
fi

trap 'kill $(jobs -p) 2> /dev/null || true' EXIT # background steps, if another step failed
check
begin images # concurrently with the cluster: both mostly wait for the network or for other processes
with_cluster
finish 'Images' images
for SERVICE in $(deployable_services); do
  export SERVICE
  step "Image $SERVICE into the cluster" load
done
finish_addons
for SERVICE in $(deployable_services); do
  export SERVICE
  step "Release $SERVICE" release
  if grep --quiet '^reverted: ' "$log/release.log"; then
    echo "(reverted changes made by make dev or by hand; fields are listed in $log/release.log)"
  fi
  step "Replicas $SERVICE" replicas
done

echo
for SERVICE in $(deployable_services); do
  echo "$SERVICE ready in $SECONDS s: https://$SERVICE.localhost:$(published_port 443)/docs"
done
cat << END
(self-signed certificate: a browser asks once; curl needs --insecure)

  Inspect         make status, make logs, make open
  Test            make e2e
  After a change  make up; or, to have each saved line run a second later: make dev
  Remove          make down
  For kubectl and tilt in this shell: export KUBECONFIG=\$PWD/.kube/config
END
