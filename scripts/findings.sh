#!/usr/bin/env bash
# Runs all scripts in findings/, or the given ones, and reports whether each finding still holds. They install pinned
# versions into temporary folders, which takes long, especially with Go.
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
    echo "There is no findings/$name.sh. findings/README.md lists them" >&2
    exit 2
  fi
done

# The findings run `python3`, and packages do not have wheels for every Python of that name.
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
  echo "Read $logs/${failed[0]}.log: if a tool behaves differently now, correct the finding, its line in findings/README.md and" \
    "the code that relies on it. Run a single finding: make findings NAME=${failed[0]}" >&2
  exit 1
fi
