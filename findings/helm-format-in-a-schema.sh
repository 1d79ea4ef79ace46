#!/usr/bin/env bash
# Guess: Helm checks the `format` of values.schema.json, or it takes it for a remark; which of the two does not hang on the draft that
# the schema names.
# What happens: the first line decides. With the `$schema` of draft 7 Helm refuses an address that is no `ipv4`; with that of 2020-12,
# and without any, every text passes.
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
see() { # expected, helm, the URL of the draft that the schema names
  local seen=passes
  printf '{%s "properties": {"address": {"type": "string", "format": "ipv4"}}}\n' "${3:+\"\$schema\": \"$3\",}" > chart/values.schema.json
  "$2" template release chart --set address=nowhere > /dev/null 2> log || seen=$(grep -o 'is not valid ipv4' log)
  echo "  ${3:-no draft}: $seen"
  if [[ $seen != "$1" ]]; then changed=1; fi
}
for each in helm.sh/helm/v3@v3.22.0 helm.sh/helm/v4@v4.3.1; do
  version=${each#*@}
  GOBIN=$folder/$version go install "${each%@*}/cmd/helm@$version" > log 2>&1 || { cat log && exit 1; }
  echo "Helm $version"
  see 'is not valid ipv4' "$folder/$version/helm" http://json-schema.org/draft-07/schema#
  see passes "$folder/$version/helm" https://json-schema.org/draft/2020-12/schema
  see passes "$folder/$version/helm" ''
done
if [[ $changed ]]; then
  echo "This has changed: a refusal by draft 7 alone was expected" >&2
  exit 1
fi
