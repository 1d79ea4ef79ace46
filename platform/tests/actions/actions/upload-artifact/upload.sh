#!/usr/bin/env bash
# As in the action: of a directory, its content is uploaded; artifact names are unique in a run, unless overwritten.
set -euo pipefail

artifact=$PIPELINE_RUN/artifacts/$NAME
if [[ $OVERWRITE == true ]]; then rm -rf "$artifact"; fi
if [[ -e $artifact ]]; then
  echo "This run already has an artifact $NAME. Choose another name, or set overwrite." >&2
  exit 1
fi
if [[ -z $(find "$FROM" -type f 2> /dev/null) ]]; then
  echo "No files were found at $FROM."
  [[ $IF_NONE != error ]]
  exit
fi
mkdir -p "$artifact"
if [[ -d $FROM ]]; then cp -R "$FROM/." "$artifact"; else cp "$FROM" "$artifact"; fi
note "upload $NAME"
