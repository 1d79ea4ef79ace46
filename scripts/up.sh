#!/usr/bin/env bash
# Makes the local cluster with everything in it, or brings the one that is there up to date.
#
#   scripts/up.sh              all steps, a line each
#   scripts/up.sh prepare      those before the image: a cluster into which Tilt can deploy
#   scripts/up.sh STEP         one of them (a function below), as the other forms call this file
#
# MONITORING=1 installs the Prometheus Operator and a Prometheus too; from then on the release is scraped.
# REGISTRY=0 makes no registry. Otherwise there is one on 127.0.0.1:5001 (REGISTRY_PORT), through which images go into the
# cluster: with REGISTRY=1 that has to be, without it the cluster is made without one that cannot be had.
# HTTP_PORT and HTTPS_PORT (8080 and 8443) are the ports of 127.0.0.1 for a cluster made new.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

export HTTP_PORT=${HTTP_PORT:-8080} HTTPS_PORT=${HTTPS_PORT:-8443} SERVICE=${SERVICE:-$(scripts/default-service.sh)}
log=.kube/log

cluster() {
  if cluster_exists && ! was_whole && ! becomes_whole; then
    echo 'The cluster was never whole, as after an interrupted start: making it again'
    kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG"
  fi
  if ! cluster_exists; then
    sed -e "s/hostPort: 8080/hostPort: $HTTP_PORT/" -e "s/hostPort: 8443/hostPort: $HTTPS_PORT/" kind-config.yaml > .kube/kind-config.yaml
    kind create cluster --config .kube/kind-config.yaml --image "$KIND_NODE_IMAGE" --kubeconfig "$KUBECONFIG" --wait 180s
  fi
  if ! becomes_whole; then
    echo "The cluster was whole before, so there may be data in it, and it is left as it is. What removes it with all data: make down up"
    return 1
  fi
  docker exec "$CLUSTER-control-plane" touch "$WHOLE"
}

# A file in the control plane's node says that the cluster was whole once: it can be read when nothing runs there.
WHOLE=/kind/task-platform-was-whole
was_whole() { docker cp "$CLUSTER-control-plane:$WHOLE" - > /dev/null 2>&1; }

# All nodes are ready, those that had stopped too; kubectl may fail while they start.
becomes_whole() {
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

# By a registry a changed image is in the cluster in 3 s, since its changed layers alone are sent; `kind load` sends all of
# it to each node. That is what is left where the registry's image or its port cannot be had.
wants_registry() {
  local port=${REGISTRY_PORT:-5001} instead='Images go to each node as a whole'
  if [[ ${REGISTRY:-} == 1 ]] || has_registry; then return; fi
  if [[ ${REGISTRY:-} == 0 ]]; then return 1; fi
  if is_taken "$port"; then
    echo "There is no local registry: port $port of 127.0.0.1 is taken. $instead. On another port: make up REGISTRY_PORT=$(next_free "$port")"
  elif docker image inspect "$REGISTRY_IMAGE" > /dev/null 2>&1 || docker pull --quiet "$REGISTRY_IMAGE" > /dev/null; then
    return
  else
    echo "There is no local registry: $REGISTRY_IMAGE cannot be had (above is why). $instead"
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
    # Asked by name: `kind load` would send an image of 300 MB again to nodes that have it.
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
  # A helm that was killed leaves its revision pending, and every later one refuses. Its record alone goes: what it had
  # made names the release, so the next revision takes it as it is, and no data is lost.
  kubectl delete secret --selector "owner=helm,name=$SERVICE,status in (pending-install,pending-upgrade,pending-rollback)"
  if ! helm status "$SERVICE" > /dev/null 2>&1; then give_to_helm; fi
  HELM_KUBECONTEXT=$CONTEXT scripts/helm.sh upgrade --install "$SERVICE" "platform/helm/$SERVICE" \
    --values platform/helm/service/values-dev.yaml --values "platform/helm/$SERVICE/values-dev.yaml" \
    --set "image.repository=$repository" --set-string "image.tag=$(scripts/image-tag.sh)" \
    --set serviceMonitor.enabled=$monitoring --set prometheusRule.enabled=$monitoring \
    --history-max 10 --wait --timeout 180s
}

# What `make dev` deployed before there was a release has Tilt's label, and Helm takes only what names Helm and the
# release. Of the objects of the chart those that are there are given to it; data stays.
give_to_helm() {
  local version there
  version=$(kubectl get nodes --output 'jsonpath={.items[0].status.nodeInfo.kubeletVersion}')
  there=$(helm template "$SERVICE" "platform/helm/$SERVICE" --no-hooks \
    --values platform/helm/service/values-dev.yaml --values "platform/helm/$SERVICE/values-dev.yaml" \
    --kube-version "$version" | kubectl get --filename - --ignore-not-found --output name)
  [[ -n $there ]] || return 0
  # shellcheck disable=SC2086 # names, a line each
  kubectl label --overwrite $there app.kubernetes.io/managed-by=Helm
  # shellcheck disable=SC2086 # as above
  kubectl annotate --overwrite $there "meta.helm.sh/release-name=$SERVICE" meta.helm.sh/release-namespace=default
}

replicas() {
  # Helm waits for the Deployment; in a new release it has one pod until the HPA has lifted it to its floor.
  local floor ready deadline=$((SECONDS + 180))
  floor=$(kubectl get hpa "$SERVICE" --output 'jsonpath={.spec.minReplicas}')
  # It says nothing where none is ready.
  until ready=$(kubectl get deployment "$SERVICE" --output 'jsonpath={.status.readyReplicas}') && ((${ready:-0} >= floor)); do
    if ((SECONDS > deadline)); then
      kubectl describe hpa "$SERVICE"
      return 1
    fi
    sleep 1
  done
  kubectl rollout status "deployment/$SERVICE" --timeout 180s
}

# Runs a step in a shell of its own, where its first failing command ends it, and says how long it took.
step() { # title, function
  printf '%-40s' "$1"
  timed "$2"
  say_how_it_went "$2"
}

# The same beside what follows, until a line with `finish` says how it went.
begin() { # function
  rm -f "$log/$1.ended"
  timed "$1" &
  eval "$1_begun=$!"
}

finish() { # title, function
  local begun=$2_begun
  printf '%-40s' "$1"
  wait "${!begun}"
  say_how_it_went "$2"
}

timed() {
  local start=$SECONDS code=0
  scripts/up.sh "$1" > "$log/$1.log" 2>&1 || code=$?
  echo "$code $((SECONDS - start))" > "$log/$1.ended"
}

say_how_it_went() {
  local code seconds
  read -r code seconds < "$log/$1.ended"
  if ((code == 0)); then
    printf 'ok %4d s\n' "$seconds"
    return
  fi
  printf 'FAILED after %d s. The end of %s:\n\n' "$seconds" "$log/$1.log"
  tail -n 25 "$log/$1.log"
  scripts/diagnose.sh
  printf '\nWhen it is mended, run the same command again: it goes on from what is there.\n'
  echo 'From nothing, and without the data that is in the cluster: make down up'
  exit 1
}

prepare() {
  check
  with_cluster
  finish_addons
}

check() {
  scripts/doctor.sh docker kind kubectl kubernetes helm openssl ports
  # What only a new cluster asks for.
  cluster_exists || scripts/doctor.sh memory inotify
}

# The cluster, with add-ons that go on starting.
with_cluster() {
  step "Cluster $CLUSTER" cluster
  if [[ $(published_port 443) != "$HTTPS_PORT" || $(published_port 80) != "$HTTP_PORT" ]]; then
    echo "(its ports are $(published_port 80) and $(published_port 443), as it was made; for others: make down up HTTP_PORT= HTTPS_PORT=)"
  fi
  begin addons
  if wants_registry; then step 'Local registry' local_registry; fi
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

trap 'kill $(jobs -p) 2> /dev/null || true' EXIT # what was begun, where something else failed
check
begin images # beside the cluster: each waits most of the time for the network or for the other's processes
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
  if grep --quiet '^taken back: ' "$log/release.log"; then
    echo "(what make dev or a hand had changed is the release's again, field by field in $log/release.log)"
  fi
  step "Replicas $SERVICE" replicas
done

echo
for SERVICE in $(deployable_services); do
  echo "$SERVICE runs in $SECONDS s: https://$SERVICE.localhost:$(published_port 443)/docs"
done
cat << END
(its certificate is of this machine's own making, so a browser asks once; curl needs --insecure)

  See it          make status, make logs, make open
  Test it         make e2e
  After a change  make up; or, to see each saved line run a second later: make dev
  Remove it       make down
  For kubectl and tilt in this shell: export KUBECONFIG=\$PWD/.kube/config
END
