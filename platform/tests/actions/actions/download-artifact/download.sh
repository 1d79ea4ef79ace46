#!/usr/bin/env bash
# One by its name goes to the path itself, and has to be there. Those of a pattern go to a folder each, unless merged;
# that there is none is no failure, as in the action.
set -euo pipefail

mkdir -p "$TO"
if [[ -n $NAME ]]; then
  cp -R "$PIPELINE_RUN/artifacts/$NAME/." "$TO"
  note "get $NAME"
  exit
fi
for artifact in "$PIPELINE_RUN"/artifacts/*; do
  name=${artifact##*/}
  # shellcheck disable=SC2053 # a pattern is meant
  if [[ $name != $PATTERN ]]; then continue; fi
  to=$TO
  if [[ $MERGE != true ]]; then to=$TO/$name; fi
  mkdir -p "$to"
  cp -R "$artifact/." "$to"
  note "get $name"
done
