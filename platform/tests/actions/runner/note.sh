#!/bin/bash
# Appends a call to the journal, and fails if the scenario defines that it does.
set -euo pipefail

echo "$GITHUB_JOB: $*" >> "$PIPELINE_RUN/journal"
while read -r failing; do
  if [[ "$* " == "$failing "* ]]; then
    echo "Fails in this scenario: $failing" >&2
    exit 1
  fi
done < "$PIPELINE_RUN/fails"
