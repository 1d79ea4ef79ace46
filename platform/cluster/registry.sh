#!/usr/bin/env bash
# Makes a registry on 127.0.0.1 and lets the cluster's nodes pull from it: a changed image arrives by its changed layers
# alone, where `kind load` sends all of it to each node. Does nothing that is done already.
#
#   REGISTRY_PORT   its port of 127.0.0.1 (5001)
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/cluster.sh

port=${REGISTRY_PORT:-5001}
if ! docker start "$REGISTRY_NAME" 2> /dev/null; then # there, running or stopped, it keeps its images
  # One that does not start goes: its port was taken. Its name would be in the way, and images are pushed again.
  docker rm --force --volumes "$REGISTRY_NAME" > /dev/null 2>&1 || true
  docker run --detach --name "$REGISTRY_NAME" --restart unless-stopped --publish "127.0.0.1:$port:5000" "$REGISTRY_IMAGE"
fi
if [[ -z $(docker container inspect --format '{{ if .NetworkSettings.Networks.kind }}there{{ end }}' "$REGISTRY_NAME") ]]; then
  docker network connect kind "$REGISTRY_NAME"
fi

# In a node localhost is the node: containerd is told which container is meant (kind 0.27 and later read this folder).
folder=/etc/containerd/certs.d/$(registry)
for node in $(kind get nodes --name "$CLUSTER"); do
  docker exec "$node" mkdir -p "$folder"
  docker exec --interactive "$node" cp /dev/stdin "$folder/hosts.toml" <<< "[host.\"http://$REGISTRY_NAME:5000\"]"
done

# Where Tilt and others look for a local cluster's registry:
# https://github.com/kubernetes/enhancements/tree/master/keps/sig-cluster-lifecycle/generic/1755-communicating-a-local-registry
kubectl apply --filename - << END
apiVersion: v1
kind: ConfigMap
metadata:
  name: local-registry-hosting
  namespace: kube-public
data:
  localRegistryHosting.v1: |
    host: "$(registry)"
    help: "https://kind.sigs.k8s.io/docs/user/local-registry/"
END
