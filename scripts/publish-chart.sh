#!/usr/bin/env bash
# Packages all charts with the tag's version and pushes them as OCI artifacts.
#
#   scripts/publish-chart.sh TAG REPOSITORY      for example: scripts/publish-chart.sh v0.3.0 ghcr.io/you/charts
#
# The tag must match the version in at least one Chart.yaml; charts with other versions are skipped. Requires a login to
# the registry (docker login or helm registry login).
set -euo pipefail
root=$(CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# shellcheck source=scripts/isolate.sh
. "$root/scripts/isolate.sh"

if (($# != 2)); then
  echo "Usage: $0 TAG REPOSITORY" >&2
  exit 2
fi
tag=$1
repository=$(LC_ALL=C tr '[:upper:]' '[:lower:]' <<< "$2") # registries reject uppercase, which an account's name may have
version_of() { sed -n 's/^version: //p' "$1/Chart.yaml"; }
charts=()
all=() # except the library chart, which is part of each of them
for chart in "$root"/platform/helm/*/; do
  if grep --quiet '^type: application' "$chart/Chart.yaml"; then all+=("$chart"); fi
done
for chart in "${all[@]}"; do
  if [[ $tag == "v$(version_of "$chart")" ]]; then charts+=("${chart%/}"); fi
done
if ((${#charts[@]} == 0)); then
  echo "The tag is $tag, but no chart has that version:" >&2
  for chart in "${all[@]}"; do
    echo "  $(basename "$chart") has version: $(version_of "$chart"). Tag v$(version_of "$chart"), or change the version first." >&2
  done
  exit 1
fi

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
url=${GITHUB_SERVER_URL:-https://github.com}/${GITHUB_REPOSITORY:-you/your-repository}

# A copy of the chart for a chart catalogue: with the licence, the repository's actual URLs, and links in its README
# that point there. Symbolic links in the chart are dereferenced.
stage() { # chart, copy
  cp -RL "$1" "$2"
  cp "$root/LICENSE" "$root/NOTICE" "$2"
  grep --quiet '^home:' "$2/Chart.yaml" || sed -n '/^home:/,$p' "$root/platform/helm/service/Chart.yaml" >> "$2/Chart.yaml"
  sed -i.bak -e "s|https://github.com/you/your-repository/raw/main/|$url/raw/$tag/|" \
    -e "s|https://github.com/you/your-repository|$url|g" -e "s|you/your-repository|${url#*://*/}|g" "$2/Chart.yaml"
  if [[ -f $2/README.md ]]; then
    sed -i.bak -E -e "s|\]\(\.\./\.\./\.\./|](/|g" -e "s|\]\(\.\./|](/platform/helm/|g" \
      -e "s|\]\(([^/#:)]+[)/#])|](/platform/helm/$(basename "$1")/\1|g" -e "s|\]\(/|]($url/blob/$tag/|g" "$2/README.md"
  fi
  find "$2" -name '*.bak' -delete
}
registry_options=()
case $repository in 127.0.0.1:* | localhost:*) registry_options=(--plain-http) ;; esac # a local registry has no TLS
pushed=()
for chart in "${charts[@]}"; do
  name=$(basename "$chart")
  stage "$chart" "$folder/$name"
  helm package "$folder/$name" --destination "$folder" > /dev/null
  output=$(helm push "$folder/$name-${tag#v}.tgz" "oci://$repository" ${registry_options[@]+"${registry_options[@]}"} 2>&1) || {
    echo "$output" >&2
    echo "Pushing the chart to $repository failed. Are you logged in? (helm registry login)" >&2
    exit 1
  }
  digest=$(sed -n 's/^Digest: //p' <<< "$output")
  echo "Pushed oci://$repository/$name, version ${tag#v}, as $digest"
  pushed+=("$repository/$name@$digest")
done
if [[ -n ${GITHUB_OUTPUT:-} ]]; then echo "charts=${pushed[*]}" >> "$GITHUB_OUTPUT"; fi
