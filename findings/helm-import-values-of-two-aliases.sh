#!/usr/bin/env bash
# Guess: an umbrella chart with the same chart under two aliases gives both the same values; what the chart imports from its own library
# with `import-values` is present in each.
# What happens: with Helm 3.12.3 and 3.22.0 the second alias silently lacks all imported values: `default` in its templates, or an empty
# field, hides it. The aliases share the list of the chart's dependencies, in which Helm replaces each name under `import-values` with a
# map of a type that it skips at the second alias. With Helm 4.3.1 both have them.
# Packages: helm.sh/helm/v3 3.12.3 and 3.22.0, helm.sh/helm/v4 4.3.1
# Source: pkg/chartutil/dependencies.go (processImportValues, getAliasDependency) of these versions
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

library=shop/charts/api/charts/library
mkdir -p shop/charts/api/templates "$library"
cat > shop/Chart.yaml << 'YAML'
apiVersion: v2
name: shop
version: 0.1.0
dependencies:
  - {name: api, version: 0.1.0, alias: first}
  - {name: api, version: 0.1.0, alias: second}
YAML
cat > shop/charts/api/Chart.yaml << 'YAML'
apiVersion: v2
name: api
version: 0.1.0
dependencies:
  - name: library
    version: 0.1.0
    import-values: [defaults]
YAML
printf 'apiVersion: v2\nname: library\nversion: 0.1.0\ntype: library\n' > "$library/Chart.yaml"
printf 'exports:\n  defaults:\n    size: imported\n' > "$library/values.yaml"
cat > shop/charts/api/templates/size.yaml << 'YAML'
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Chart.Name }}
data:
  size: {{ .Values.size | default "none" }}
YAML

sizes_with() { # module, version
  GOBIN=$folder/$2 go install "$1/cmd/helm@v$2" > log 2>&1 || { cat log && exit 1; }
  "$folder/$2/helm" template release shop 2> /dev/null | awk '/^  name:/ {name = $2} /^  size:/ {print name "=" $2}' | sort | xargs
}

lost='first=imported second=none' both='first=imported second=imported' changed=''
while read -r module version expected; do
  actual=$(sizes_with "$module" "$version")
  echo "Helm $version: $actual"
  if [[ $actual != "$expected" ]]; then changed=1; fi
done << VERSIONS
helm.sh/helm/v3 3.12.3 $lost
helm.sh/helm/v3 3.22.0 $lost
helm.sh/helm/v4 4.3.1 $both
VERSIONS
if [[ $changed ]]; then
  echo "Changed: expected the second alias without its values in Helm 3, and with them in Helm 4" >&2
  exit 1
fi
