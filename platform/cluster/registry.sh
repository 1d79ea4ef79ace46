#!/usr/bin/env bash
# Starts a registry on 127.0.0.1 and configures the cluster's nodes to pull from it: only changed layers are transferred,
# whereas `kind load` copies the whole image to each node. Idempotent.
#
#   REGISTRY_PORT   port on 127.0.0.1 (5001)
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/cluster.sh

port=${REGISTRY_PORT:-5001}
if ! docker start "$REGISTRY_NAME" 2> /dev/null; then # an existing one, running or stopped, keeps its images
  # Remove one that fails to start because its port is taken: its name would conflict, and images are pushed again.
  docker rm --force --volumes "$REGISTRY_NAME" > /dev/null 2>&1 || true
  docker run --detach --name "$REGISTRY_NAME" --restart unless-stopped --publish "127.0.0.1:$port:5000" "$REGISTRY_IMAGE"
fi
if [[ -z $(docker container inspect --format '{{ if .NetworkSettings.Networks.kind }}there{{ end }}' "$REGISTRY_NAME") ]]; then
  docker network connect kind "$REGISTRY_NAME"
fi

# In a node localhost is the node: redirect containerd to the registry's container (kind 0.27 and later read this directory).
folder=/etc/containerd/certs.d/$(registry)
for node in $(kind get nodes --name "$CLUSTER"); do
  docker exec "$node" mkdir -p "$folder"
  docker exec --interactive "$node" cp /dev/stdin "$folder/hosts.toml" <<< "[host.\"http://$REGISTRY_NAME:5000\"]"
done

# Where Tilt and other tools discover a local cluster's registry:
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
