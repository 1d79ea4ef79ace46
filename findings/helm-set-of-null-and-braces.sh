#!/usr/bin/env bash
# Guess: `--set` recognises `null`, `true` and `false` as YAML and JSON spell them, so `name=Null` is a string; and `map={}` is an empty
# map, as in a values file, where it keeps the keys of the chart's own values.
# What happens: they are case-insensitive: `name=nUll` removes the name, and `name=FALSE` is a boolean. `map={}` is a list with one empty
# string, which replaces the map and its keys. Helm 3 and 4 behave the same; --set-json reads `map={}` as a values file does.
# Packages: helm.sh/helm/v3 3.22.0, helm.sh/helm/v4 4.3.1
# Source: https://helm.sh/docs/intro/using_helm/#the-format-and-limitations-of---set
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 0.1.0\n' > chart/Chart.yaml
printf 'name: ada\nmap: {a: 1}\n' > chart/values.yaml
printf 'actual: {{ list .Values.name .Values.map | toJson }}\n' > chart/templates/actual.yaml

changed=''
check() { # expected, helm, version, options
  local expected=$1 helm=$2 actual
  shift 2
  actual=$("$helm" template release chart "$@" | sed -n 's/^actual: //p')
  echo "  $*: $actual"
  if [[ $actual != "$expected" ]]; then changed=1; fi
}
for each in helm.sh/helm/v3@v3.22.0 helm.sh/helm/v4@v4.3.1; do
  version=${each#*@}
  GOBIN=$folder/$version go install "${each%@*}/cmd/helm@$version" > log 2>&1 || { cat log && exit 1; }
  helm=$folder/$version/helm
  echo "Helm $version"
  check '[null,{"a":1}]' "$helm" --set name=nUll
  check '[false,{"a":1}]' "$helm" --set name=FALSE
  check '["ada",[""]]' "$helm" --set 'map={}'
  check '["ada",{"a":1}]' "$helm" --set-json 'map={}'
done
if [[ $changed ]]; then
  echo "Changed: expected null, false, a list with one empty string, and the map with its key" >&2
  exit 1
fi
