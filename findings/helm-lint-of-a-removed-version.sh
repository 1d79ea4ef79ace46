#!/usr/bin/env bash
# Guess: `helm lint --kube-version 1.37` warns about every API version that Kubernetes 1.37 no longer serves.
# What happens: it warns about a PodDisruptionBudget of policy/v1beta1, but not about a HorizontalPodAutoscaler of autoscaling/v2beta2,
# which Kubernetes removed one release later, in 1.26. Helm 3 and 4 behave the same.
# Packages: helm.sh/helm/v3 3.22.0, helm.sh/helm/v4 4.3.1
# Source: https://kubernetes.io/docs/reference/using-api/deprecation-guide/#v1-26
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 0.1.0\n' > chart/Chart.yaml
cat > chart/templates/all.yaml << 'YAML'
apiVersion: policy/v1beta1
kind: PodDisruptionBudget
metadata: {name: app}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: app}}}
---
apiVersion: autoscaling/v2beta2
kind: HorizontalPodAutoscaler
metadata: {name: app}
spec: {maxReplicas: 3, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: app}}
YAML

changed=''
for each in helm.sh/helm/v3@v3.22.0 helm.sh/helm/v4@v4.3.1; do
  version=${each#*@}
  GOBIN=$folder/$version go install "${each%@*}/cmd/helm@$version" > log 2>&1 || { cat log && exit 1; }
  warnings=$("$folder/$version/helm" lint chart --kube-version 1.37 | grep WARNING)
  printf 'Helm %s\n%s\n' "$version" "$warnings"
  if [[ $warnings != *policy/v1beta1* || $warnings == *v2beta2* ]]; then changed=1; fi
done
if [[ $changed ]]; then
  echo "Changed: expected a warning about policy/v1beta1 only" >&2
  exit 1
fi
