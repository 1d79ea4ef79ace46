#!/usr/bin/env bash
# Guess: `kubernetes-validate --strict` rejects a manifest that an API server would reject as malformed: an invalid Service type or
# protocol, a port above 65535, an invalid quantity, a duplicate key; and it validates the items of a List.
# What happens: all of them pass, because the published Kubernetes schemas have no such rules and a YAML parser drops the first of two
# keys. A List passes with a warning whatever it contains. What --strict adds is that a misspelt field is rejected.
# Packages: kubernetes-validate 1.37.0
# Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#field-validation (what a server validates)
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check kubernetes-validate==1.37.0

service='apiVersion: v1, kind: Service, metadata: {name: a}'
echo "{$service, spec: {type: ClusterIp}}" > enumeration.yaml
echo "{$service, spec: {ports: [{port: 99999, protocol: tcp}]}}" > range.yaml
echo '{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: a, resources: {limits: {memory: 1 GB}}}]}}' > quantity.yaml
printf 'apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  type: ClusterIP\n  type: NodePort\n' > twice.yaml
echo "{apiVersion: v1, kind: List, items: [{$service, spec: {typ: ClusterIP}}]}" > list.yaml
echo "{$service, spec: {typ: ClusterIP}}" > misspelt.yaml

changed=''
for name in enumeration range quantity twice list misspelt; do
  actual=passes
  v/bin/kubernetes-validate --strict --kubernetes-version 1.37 "$name.yaml" > log 2>&1 || actual=rejected
  echo "$name: $actual"
  if [[ ($name == misspelt && $actual == passes) || ($name != misspelt && $actual == rejected) ]]; then changed=1; fi
done
if [[ $changed ]]; then
  echo "Changed: expected all but the last to pass" >&2
  exit 1
fi
