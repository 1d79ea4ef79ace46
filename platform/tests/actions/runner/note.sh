#!/bin/bash
# Writes down that something was asked for, and fails where the scenario says that it does.
set -euo pipefail

echo "$GITHUB_JOB: $*" >> "$PIPELINE_RUN/journal"
while read -r failing; do
  if [[ "$* " == "$failing "* ]]; then
    echo "In this scenario it fails: $failing" >&2
    exit 1
  fi
done < "$PIPELINE_RUN/fails"
