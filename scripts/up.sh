#!/usr/bin/env bash
# Makes the local cluster with everything in it, or brings the one that is there up to date.
#
#   scripts/up.sh              all steps, a line each
#   scripts/up.sh prepare      those before the image: a cluster into which Tilt can deploy
#   scripts/up.sh STEP         one of them (a function below), as the other forms call this file
#
# MONITORING=1 installs the Prometheus Operator and a Prometheus too; from then on the release is scraped.
# REGISTRY=1 makes a registry on 127.0.0.1:5001 (REGISTRY_PORT); from then on images go into the cluster through it.
# HTTP_PORT and HTTPS_PORT (8080 and 8443) are the ports of 127.0.0.1 for a cluster made new.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

export HTTP_PORT=${HTTP_PORT:-8080} HTTPS_PORT=${HTTPS_PORT:-8443} SERVICE=${SERVICE:-task-api}
log=.kube/log

cluster() {
  if cluster_exists && ! cluster_is_whole; then
    echo "The cluster is not whole: making it again"
    kind delete cluster --name "$CLUSTER" --kubeconfig "$KUBECONFIG"
  fi
  if ! cluster_exists; then
    sed -e "s/hostPort: 8080/hostPort: $HTTP_PORT/" -e "s/hostPort: 8443/hostPort: $HTTPS_PORT/" kind-config.yaml > .kube/kind-config.yaml
    kind create cluster --config .kube/kind-config.yaml --image "$KIND_NODE_IMAGE" --kubeconfig "$KUBECONFIG" --wait 180s
  fi
}

# Made by an interrupted `kind create`, a cluster is there without its nodes, or with nodes that never become ready.
cluster_is_whole() {
  kind export kubeconfig --name "$CLUSTER" --kubeconfig "$KUBECONFIG" --quiet \
    && [[ $(kubectl get nodes --output name | wc -l) -eq $(grep -c -- '- role:' kind-config.yaml) ]] \
    && kubectl wait --for=condition=Ready node --all --timeout=90s
}

metrics_server() { platform/cluster/addons.sh metrics-server; }

ingress_nginx() { platform/cluster/addons.sh ingress-nginx; }

prometheus() { platform/cluster/addons.sh prometheus; }

local_registry() { platform/cluster/registry.sh; }

secrets() { platform/cluster/secrets.sh; }

image() { scripts/image.sh; }

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
  helm upgrade --install "$SERVICE" "platform/helm/$SERVICE" --values "platform/helm/$SERVICE/values-dev.yaml" \
    --set "image.repository=$repository" --set-string "image.tag=$(scripts/image-tag.sh)" \
    --set serviceMonitor.enabled=$monitoring --set prometheusRule.enabled=$monitoring \
    --history-max 10 --wait --timeout 180s
}

replicas() {
  # Helm waits for the Deployment; in a new release it has one pod until the HPA has lifted it to its floor.
  local floor deadline=$((SECONDS + 180))
  floor=$(kubectl get hpa "$SERVICE" --output 'jsonpath={.spec.minReplicas}')
  until (($(kubectl get deployment "$SERVICE" --output 'jsonpath={.status.readyReplicas}') >= floor)); do
    if ((SECONDS > deadline)); then
      kubectl describe hpa "$SERVICE"
      kubectl get pods --output wide
      return 1
    fi
    sleep 1
  done
  kubectl rollout status "deployment/$SERVICE" --timeout 180s
}

# Runs a step in a shell of its own, where its first failing command ends it, and says how long it took.
step() {
  local title=$1 function=$2 start=$SECONDS
  printf '%-40s' "$title"
  if scripts/up.sh "$function" > "$log/$function.log" 2>&1; then
    printf 'ok %4d s\n' $((SECONDS - start))
  else
    printf 'FAILED after %d s. The end of %s:\n\n' $((SECONDS - start)) "$log/$function.log"
    tail -n 25 "$log/$function.log"
    if cluster_exists && [[ $function == release || $function == replicas ]]; then
      printf '\nThe pods:\n'
      kubectl get pods --output wide || true
      kubectl get events --sort-by=.lastTimestamp 2> /dev/null | tail -n 10 || true
    fi
    printf '\nWhen it is mended, run the same command again: it goes on from what is there. From nothing: make down up\n'
    exit 1
  fi
}

prepare() {
  scripts/doctor.sh git docker kind kubectl kubernetes helm openssl
  # What only a new cluster asks for.
  cluster_exists || scripts/doctor.sh memory inotify ports
  step "Cluster $CLUSTER" cluster
  if [[ $(published_port 443) != "$HTTPS_PORT" || $(published_port 80) != "$HTTP_PORT" ]]; then
    echo "(its ports are $(published_port 80) and $(published_port 443), as it was made; for others: make down up HTTP_PORT= HTTPS_PORT=)"
  fi
  step 'Add-on metrics-server' metrics_server
  step 'Add-on ingress-nginx' ingress_nginx
  if [[ ${MONITORING:-} == 1 ]]; then
    step 'Add-on Prometheus' prometheus
  fi
  if [[ ${REGISTRY:-} == 1 ]] || has_registry; then
    step 'Local registry' local_registry
  fi
  step 'Certificate and password' secrets
}

mkdir -p "$log"
if (($#)); then
  "$@"
  exit
fi

prepare
for SERVICE in $(deployable_services); do
  export SERVICE
  step "Image $SERVICE:$(scripts/image-tag.sh)" image
  step 'Image into the cluster' load
  step "Release $SERVICE" release
  step 'Replicas' replicas
done

echo
for SERVICE in $(deployable_services); do
  echo "$SERVICE runs in $SECONDS s: https://$SERVICE.localhost:$(published_port 443)/docs"
done
cat << END
(its certificate is of this machine's own making, so a browser asks once; curl needs --insecure)

  See it          make status, make logs, make open
  Test it         make e2e
  After a change  make up; or, to see each saved line run within a second: make dev
  Remove it       make down
  For kubectl and tilt in this shell: export KUBECONFIG=\$PWD/.kube/config
END
