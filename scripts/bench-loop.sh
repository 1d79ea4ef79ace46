#!/usr/bin/env bash
# Says how long the loops of a developer take, each beside its goal, and writes it into bench/RESULTS.md. It takes about
# a quarter of an hour.
#
#   scripts/bench-loop.sh               all of them
#   scripts/bench-loop.sh test again    some of: test up again e2e
#
# `up` is timed where there is no cluster yet: with one it is left out, since `make down` would take it from somebody.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=false
took_all=()

timed() { # name, title, goal in seconds, command...
  local name=$1 title=$2 goal=$3 start=$SECONDS took verdict=met
  shift 3
  printf '%-28s' "$title"
  if ! "$@" > "$log" 2>&1; then
    printf 'FAILED after %d s:\n' $((SECONDS - start))
    tail -n 15 "$log"
    failed=true
    return
  fi
  took=$((SECONDS - start))
  if ((took > goal)); then verdict=missed; fi
  printf '%4d s   goal %3d s   %s\n' "$took" "$goal" "$verdict"
  took_all+=("$name=$took")
}

for loop in "${@:-test up again e2e}"; do
  # shellcheck disable=SC2086 # the default is several words
  for one in $loop; do
    case $one in
      test) timed test 'make test' 120 make test ;;
      up)
        if cluster_exists; then
          printf '%-28sleft out: the cluster is there already. From nothing: make down bench-loop\n' 'make up from nothing'
        else
          timed up 'make up from nothing' 120 make up
        fi
        ;;
      again) timed again 'make up again' 15 make up ;;
      e2e) timed e2e 'make e2e' 480 make e2e ;;
      *) echo "There is no loop $one: test up again e2e" >&2 && exit 2 ;;
    esac
  done
done
if ((${#took_all[@]})); then "$(scripts/find-python.sh)" -m bench loops "${took_all[@]}"; fi
! $failed
