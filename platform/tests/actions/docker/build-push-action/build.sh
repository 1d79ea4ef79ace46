#!/usr/bin/env bash
set -euo pipefail

options=(--tag "$TAG")
while read -r line; do if [[ -n $line ]]; then options+=(--build-arg "$line"); fi; done <<< "$BUILD_ARGS"
while read -r line; do if [[ -n $line ]]; then options+=(--label "$line"); fi; done <<< "$LABELS"
layout=$(sed -n 's/^type=oci,dest=\([^,]*\),tar=false\(,.*\)*$/\1/p' <<< "$OUTPUTS")
if [[ -z $layout ]]; then
  echo "outputs: $OUTPUTS is not supported by this stand-in, only type=oci,dest=FOLDER,tar=false. Add it to build.sh." >&2
  exit 1
fi
docker build "${options[@]}" "$CONTEXT"
mkdir -p "$(dirname "$layout")"
python3 scripts/layout.py save "$TAG" "$layout"
note "build $TAG as $layout"
