#!/usr/bin/env bash
# Guess: Helm either validates `format` in values.schema.json or treats it as an annotation, whichever draft the schema declares.
# What happens: the first line decides. With the `$schema` of draft 7 Helm rejects an address that is not a valid `ipv4`; with that of
# 2020-12, and without any, every string passes.
# Packages: helm.sh/helm/v3 3.22.0, helm.sh/helm/v4 4.3.1
# Source: https://json-schema.org/draft/2020-12/json-schema-validation#section-7.2.1
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

mkdir -p chart/templates
printf 'apiVersion: v2\nname: chart\nversion: 0.1.0\n' > chart/Chart.yaml
printf 'address: {{ .Values.address }}\n' > chart/templates/address.yaml

changed=''
check() { # expected, helm, the URL of the draft that the schema names
  local actual=passes
  printf '{%s "properties": {"address": {"type": "string", "format": "ipv4"}}}\n' "${3:+\"\$schema\": \"$3\",}" > chart/values.schema.json
  "$2" template release chart --set address=nowhere > /dev/null 2> log || actual=$(grep -o 'is not valid ipv4' log)
  echo "  ${3:-no draft}: $actual"
  if [[ $actual != "$1" ]]; then changed=1; fi
}
for each in helm.sh/helm/v3@v3.22.0 helm.sh/helm/v4@v4.3.1; do
  version=${each#*@}
  GOBIN=$folder/$version go install "${each%@*}/cmd/helm@$version" > log 2>&1 || { cat log && exit 1; }
  echo "Helm $version"
  check 'is not valid ipv4' "$folder/$version/helm" http://json-schema.org/draft-07/schema#
  check passes "$folder/$version/helm" https://json-schema.org/draft/2020-12/schema
  check passes "$folder/$version/helm" ''
done
if [[ $changed ]]; then
  echo "Changed: expected only draft 7 to reject it" >&2
  exit 1
fi
