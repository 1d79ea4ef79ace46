#!/usr/bin/env bash
# Writes the OpenAPI document of each service, and of the skeletons for new services.
#
#   scripts/openapi.sh SERVICE...
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

write() { # folder, python, package
  local file=$1/openapi.json
  PYTHONPATH=$1/src:packages/chassis/src "$2" -m "$3" openapi > "$file.new" || { rm -f "$file.new"; exit 1; }
  mv "$file.new" "$file"
}

for service in "$@"; do write "services/$service" "services/$service/.venv/bin/python" "${service//-/_}"; done
for skeleton in skeletons/*/service; do write "$skeleton" packages/chassis/.venv/bin/python your_service; done
