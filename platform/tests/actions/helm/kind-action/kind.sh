#!/usr/bin/env bash
# Writes its calls to the journal; exported logs are a single placeholder file.
set -euo pipefail

note "kind $*"
if [[ "$1 $2" == 'export logs' ]]; then
  mkdir -p "$3"
  echo 'no cluster' > "$3/kind.log"
fi
