#!/usr/bin/env bash
# Guess: `helm template` without --kube-version renders for the Kubernetes version that this Helm was released for, roughly the newest
# one; how it was built does not matter, because the version comes from the Kubernetes modules that it is linked with.
# What happens: a Helm 3.22.0 built with `go install` renders for Kubernetes 1.20: the release build sets the version with linker flags.
# So `kubeVersion: ">=1.25-0"` in Chart.yaml is rejected. A Helm 4.3.1 built the same way renders for 1.37.
# Packages: helm.sh/helm/v3 3.22.0, helm.sh/helm/v4 4.3.1
# Source: https://helm.sh/docs/chart_template_guide/builtin_objects/
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 0.1.0\n' > chart/Chart.yaml
printf 'actual: {{ .Capabilities.KubeVersion }}\n' > chart/templates/actual.yaml

actual=''
for each in helm.sh/helm/v3@v3.22.0 helm.sh/helm/v4@v4.3.1; do
  version=${each#*@}
  GOBIN=$folder/$version go install "${each%@*}/cmd/helm@$version" > log 2>&1 || { cat log && exit 1; }
  kubernetes=$("$folder/$version/helm" template release chart | sed -n 's/^actual: //p')
  echo "Helm $version: $kubernetes"
  actual+=" $kubernetes"
done
if [[ $actual != " v1.20.0 v1.37.0" ]]; then
  echo "Changed: expected v1.20.0 and v1.37.0" >&2
  exit 1
fi
