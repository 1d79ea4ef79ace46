#!/usr/bin/env bash
# Guess: `key: null` for a subchart removes the default of that key, as Helm documents, whether it is in the parent chart's values.yaml or
# in a file passed with -f; a default that the subchart imports from its library is like any other.
# What happens: for an imported default (import-values), Helm 3.12.3 respects neither null, Helm 3.22.0 both, and Helm 4.3.1 only the one
# passed with -f. Where it is not respected, the default is silently rendered: a `runAsUser` removed for OpenShift is still there.
# Packages: helm.sh/helm/v3 3.12.3 and 3.22.0, helm.sh/helm/v4 4.3.1
# Source: https://helm.sh/docs/chart_template_guide/values_files/#deleting-a-default-key
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

library=outer/charts/inner/charts/library
mkdir -p outer/charts/inner/templates "$library"
printf 'apiVersion: v2\nname: outer\nversion: 0.1.0\ndependencies:\n  - {name: inner, version: 0.1.0}\n' > outer/Chart.yaml
cat > outer/charts/inner/Chart.yaml << 'YAML'
apiVersion: v2
name: inner
version: 0.1.0
dependencies:
  - name: library
    version: 0.1.0
    import-values: [defaults]
YAML
printf 'apiVersion: v2\nname: library\nversion: 0.1.0\ntype: library\n' > "$library/Chart.yaml"
printf 'exports:\n  defaults:\n    context:\n      runAsUser: 1000\n      runAsNonRoot: true\n' > "$library/values.yaml"
printf 'context: {{ .Values.context | toJson }}\n' > outer/charts/inner/templates/context.yaml
printf 'inner:\n  context:\n    runAsUser: null\n' > null.yaml

respected_by() { # helm, arguments of `helm template`
  if "$@" 2> /dev/null | grep -q runAsUser; then echo no; else echo yes; fi
}

changed=''
while read -r module version in_file in_chart; do
  GOBIN=$folder/$version go install "$module/cmd/helm@v$version" > log 2>&1 || { cat log && exit 1; }
  helm=$folder/$version/helm
  : > outer/values.yaml
  by_file=$(respected_by "$helm" template release outer -f null.yaml)
  cp null.yaml outer/values.yaml
  by_chart=$(respected_by "$helm" template release outer)
  echo "Helm $version respects a null in -f: $by_file, in the outer chart's values.yaml: $by_chart"
  if [[ "$by_file $by_chart" != "$in_file $in_chart" ]]; then changed=1; fi
done << 'VERSIONS'
helm.sh/helm/v3 3.12.3 no no
helm.sh/helm/v3 3.22.0 yes yes
helm.sh/helm/v4 4.3.1 yes no
VERSIONS
if [[ $changed ]]; then
  echo "Changed: expected no and no, yes and yes, yes and no" >&2
  exit 1
fi
