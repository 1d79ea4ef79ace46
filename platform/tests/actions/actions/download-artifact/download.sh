#!/usr/bin/env bash
# As in the action: a named artifact must exist, and is extracted to the path itself. Artifacts that match a pattern are
# extracted to a directory each, unless merged; no match is not an error.
set -euo pipefail

mkdir -p "$TO"
if [[ -n $NAME ]]; then
  cp -R "$PIPELINE_RUN/artifacts/$NAME/." "$TO"
  note "download $NAME"
  exit
fi
for artifact in "$PIPELINE_RUN"/artifacts/*; do
  name=${artifact##*/}
  # shellcheck disable=SC2053 # PATTERN is a glob
  if [[ $name != $PATTERN ]]; then continue; fi
  to=$TO
  if [[ $MERGE != true ]]; then to=$TO/$name; fi
  mkdir -p "$to"
  cp -R "$artifact/." "$to"
  note "download $name"
done
