#!/usr/bin/env bash
# Packages the chart and pushes it as an OCI artifact.
#
#   scripts/publish-chart.sh TAG REPOSITORY      for example: scripts/publish-chart.sh v0.2.0 ghcr.io/you/charts
#
# The tag has to be the version in Chart.yaml. You are logged in to the registry (docker login or helm registry login).
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if (($# != 2)); then
  echo "Usage: $0 TAG REPOSITORY" >&2
  exit 2
fi
tag=$1
repository=$(tr '[:upper:]' '[:lower:]' <<< "$2") # a registry takes no capitals, and an account's name may have some
chart=$root/platform/helm/task-api
version=$(sed -n 's/^version: //p' "$chart/Chart.yaml")
if [[ $tag != "v$version" ]]; then
  echo "The tag is $tag, and Chart.yaml says version: $version. Tag v$version, or change the version first." >&2
  exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
helm package "$chart" --destination "$folder" > /dev/null
plain=()
case $repository in 127.0.0.1:* | localhost:*) plain=(--plain-http) ;; esac # a registry of this machine has no TLS
said=$(helm push "$folder/task-api-$version.tgz" "oci://$repository" ${plain[@]+"${plain[@]}"} 2>&1) || {
  echo "$said" >&2
  echo "The chart was not pushed to $repository. Are you logged in there? (helm registry login)" >&2
  exit 1
}
digest=$(sed -n 's/^Digest: //p' <<< "$said")
echo "Pushed oci://$repository/task-api, version $version, as $digest"
if [[ -n ${GITHUB_OUTPUT:-} ]]; then echo "chart=$repository/task-api@$digest" >> "$GITHUB_OUTPUT"; fi
