#!/usr/bin/env bash
# Runs the scripts of findings/ one after the other, or those that are named, and says of each whether what it found
# still is so. They install the versions that they name into temporary folders: all of them take long, and Go most.
#
#   scripts/findings.sh [NAME...]   without .sh
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

if (($# == 0)); then
  for file in findings/*.sh; do
    name=${file#findings/}
    set -- "$@" "${name%.sh}"
  done
fi
for name in "$@"; do
  if [[ ! -f findings/$name.sh ]]; then
    echo "There is no findings/$name.sh. findings/README.md names those there are" >&2
    exit 2
  fi
done

# The findings ask for Python by this name, and packages have no wheels for every Python that may bear it.
python=$(scripts/find-python.sh) || { scripts/doctor.sh python && exit 1; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s "$(command -v "$python")" "$folder/python3"
PATH=$folder:$PATH

logs=reports/findings failed=()
mkdir -p "$logs"
for name in "$@"; do
  start=$SECONDS
  printf '%-45s' "$name"
  if "findings/$name.sh" > "$logs/$name.log" 2>&1; then
    printf '%-7s%4d s\n' ok $((SECONDS - start))
    rm "$logs/$name.log"
  else
    printf '%-7s%4d s\n' FAILED $((SECONDS - start))
    tail -n 3 "$logs/$name.log" | sed 's/^/  /'
    failed+=("$name")
  fi
done
if ((${#failed[@]})); then
  echo "Read $logs/${failed[0]}.log: if a tool does otherwise by now, correct the finding, its line in findings/README.md and" \
    "what the kit does because of it. One alone: make findings NAME=${failed[0]}" >&2
  exit 1
fi
