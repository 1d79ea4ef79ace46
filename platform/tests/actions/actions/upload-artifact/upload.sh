#!/usr/bin/env bash
# A folder's content becomes the content of the artifact; a name is given once in a run, unless it may be replaced.
set -euo pipefail

artifact=$PIPELINE_RUN/artifacts/$NAME
if [[ $OVERWRITE == true ]]; then rm -rf "$artifact"; fi
if [[ -e $artifact ]]; then
  echo "There is an artifact $NAME in this run already. Name it otherwise, or let it be replaced (overwrite)." >&2
  exit 1
fi
if [[ -z $(find "$FROM" -type f 2> /dev/null) ]]; then
  echo "No files were found at $FROM."
  [[ $IF_NONE != error ]]
  exit
fi
mkdir -p "$artifact"
if [[ -d $FROM ]]; then cp -R "$FROM/." "$artifact"; else cp "$FROM" "$artifact"; fi
note "keep $NAME"
