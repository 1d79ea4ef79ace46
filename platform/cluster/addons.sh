#!/usr/bin/env bash
# Installs the add-ons that kind lacks: metrics-server (for the HPA), ingress-nginx and, optionally, Prometheus.
# Skips add-ons that are already installed in the required version.
#
#   platform/cluster/addons.sh metrics-server | ingress-nginx | prometheus
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/cluster.sh

# The annotation that records which manifest a Deployment came from.
NOTE=task-platform/manifest

is_installed() { # namespace, deployment, manifest
  [[ $(kubectl get deployment --namespace "$1" "$2" --ignore-not-found \
    --output "go-template={{ index .metadata.annotations \"$NOTE\" }}") == "$3" ]]
}

case $1 in
  metrics-server)
    if ! is_installed kube-system metrics-server "$METRICS_SERVER_MANIFEST"; then
      kubectl apply --filename "$METRICS_SERVER_MANIFEST"
      # kind's kubelets have self-signed certificates, which metrics-server would reject. Local clusters only.
      if ! kubectl get deployment --namespace kube-system metrics-server --output yaml | grep -q -- --kubelet-insecure-tls; then
        kubectl patch deployment --namespace kube-system metrics-server --type json --patch \
          '[{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--kubelet-insecure-tls"}]'
      fi
      kubectl annotate deployment --namespace kube-system metrics-server --overwrite "$NOTE=$METRICS_SERVER_MANIFEST"
    fi
    ;;
  ingress-nginx)
    if ! is_installed ingress-nginx ingress-nginx-controller "$INGRESS_NGINX_MANIFEST"; then
      kubectl apply --filename "$INGRESS_NGINX_MANIFEST"
      # Schedule it on the node with published ports; since 1.13 the manifest for kind has no node selector.
      kubectl patch deployment --namespace ingress-nginx ingress-nginx-controller --patch \
        '{"spec": {"template": {"spec": {"nodeSelector": {"ingress-ready": "true"}}}}}'
      kubectl annotate deployment --namespace ingress-nginx ingress-nginx-controller --overwrite "$NOTE=$INGRESS_NGINX_MANIFEST"
    fi
    kubectl rollout status --namespace ingress-nginx deployment/ingress-nginx-controller --timeout 180s
    ;;
  prometheus)
    if ! is_installed default prometheus-operator "$PROMETHEUS_OPERATOR_MANIFEST"; then
      # Server-side: its CRDs exceed the size limit of the annotation in which client-side apply stores a copy.
      kubectl apply --server-side --filename "$PROMETHEUS_OPERATOR_MANIFEST"
      kubectl annotate deployment prometheus-operator --overwrite "$NOTE=$PROMETHEUS_OPERATOR_MANIFEST"
      kubectl wait --for=condition=Established crd/prometheuses.monitoring.coreos.com --timeout 60s
      kubectl rollout status deployment/prometheus-operator --timeout 180s
    fi
    kubectl apply --filename platform/cluster/prometheus.yaml
    kubectl wait --namespace monitoring --for=condition=Available prometheus/local --timeout 180s
    ;;
esac
