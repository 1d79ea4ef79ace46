#!/usr/bin/env bash
# Notes what is asked; logs are a file that says so.
set -euo pipefail

note "kind $*"
if [[ "$1 $2" == 'export logs' ]]; then
  mkdir -p "$3"
  echo 'no cluster' > "$3/kind.log"
fi
