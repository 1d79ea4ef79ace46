#!/usr/bin/env bash
# Says how long the loops of a developer take, each beside its goal and what it took the last time, and writes it into
# bench/RESULTS.md. All of them take about half an hour.
#
#   scripts/bench-loop.sh               all of them, in this order:
#   scripts/bench-loop.sh test again    some of: run lint test platform up again change e2e
#
# `up` is timed where there is no cluster yet: with one it is left out, since `make down` would take it from somebody.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

loops=(run lint test platform up again change e2e)
python=$(scripts/find-python.sh)
last=$("$python" -m bench loops)
changed=services/task-api/src/task_api/app.py
folder=$(mktemp -d)
log=$folder/log
clean_up() {
  if [[ -e $folder/changed ]]; then cp -p "$folder/changed" "$changed"; fi
  rm -rf "$folder"
}
trap clean_up EXIT
failed=false
took_all=()

timed() { # name, title, goal in seconds, command...
  local name=$1 title=$2 goal=$3 start=$SECONDS took before verdict=met
  shift 3
  before=$(sed -n "s/^$name=//p" <<< "$last")
  printf '%-28s' "$title"
  if ! "$@" > "$log" 2>&1; then
    printf 'FAILED after %d s:\n' $((SECONDS - start))
    tail -n 15 "$log"
    failed=true
    return
  fi
  took=$((SECONDS - start))
  if ((took > goal)); then verdict=missed; fi
  printf '%4d s   last time %4s   goal %3d s   %s\n' "$took" "${before:+$before s}" "$goal" "$verdict"
  took_all+=("$name=$took")
}

# In a copy, where nothing is installed yet; what was downloaded before is in the caches of this machine.
run_from_nothing() (
  mkdir "$folder/copy"
  git ls-files -z | tar --create --null --files-from - | tar --extract --directory "$folder/copy"
  cd "$folder/copy"
  TASKS_PORT=0 TASKS_DATABASE_URL=memory:// make run > "$folder/served" 2>&1 &
  until grep -q 'Listening on' "$folder/served"; do
    if ! kill -0 $! 2> /dev/null; then cat "$folder/served" && return 1; fi
    sleep 0.1
  done
  kill -INT "$(pgrep -P $!)"
  wait $! || true
)

all_of_lint() { rm -f .tools/lint.json && make lint; }

change_a_line() { cp -p "$changed" "$folder/changed" && echo "# $$" >> "$changed" && make up; }

for one in "${@:-${loops[@]}}"; do
  case $one in
    run) timed run 'make run from nothing' 15 run_from_nothing ;;
    lint)
      timed lint 'make lint, all of it' 30 all_of_lint
      timed lint_again 'make lint, unchanged' 5 make lint
      ;;
    test) timed test 'make test' 120 make test ;;
    platform) timed platform 'make test-platform' 120 make test-platform ;;
    up)
      if cluster_exists; then
        printf '%-28sleft out: the cluster is there already. From nothing: make down bench-loop\n' 'make up from nothing'
      else
        timed up 'make up from nothing' 120 make up
      fi
      ;;
    again) timed again 'make up, unchanged' 15 make up ;;
    change)
      timed change 'make up, a line changed' 25 change_a_line
      clean_up && mkdir "$folder" && make up > "$log" # what the tests in the cluster expect there
      ;;
    e2e) timed e2e 'make e2e' 400 make e2e ;;
    *) echo "There is no loop $one. There are: ${loops[*]}" >&2 && exit 2 ;;
  esac
done
if ((${#took_all[@]})); then "$python" -m bench loops "${took_all[@]}"; fi
! $failed
