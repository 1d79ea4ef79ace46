#!/usr/bin/env bash
# Measures the development loops, compares each with its target and its last measurement, and writes the results to
# bench/RESULTS.md. All of them take about a quarter of an hour.
#
#   scripts/bench-loop.sh               all of them, in this order:
#   scripts/bench-loop.sh test again    some of: run lint test platform up again change e2e
#
# `up` is only measured without a cluster: otherwise it is skipped, since `make down` would delete one that is in use.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh

loops=(run lint test platform up again change e2e)
python=$(scripts/find-python.sh)
last=$("$python" -m bench loops)
changed=services/task-api/src/task_api/app.py
folder=$(mktemp -d)
log=$folder/log
failed=false
durations=()
undo_change() {
  if [[ -e $folder/changed ]]; then mv "$folder/changed" "$changed"; fi
}
finish() { # also after an interrupt: what was measured is stored
  undo_change
  rm -rf "$folder"
  if ((${#durations[@]})); then "$python" -m bench loops "${durations[@]}"; fi
}
trap finish EXIT

timed() { # name, title, target in seconds, command...
  local name=$1 title=$2 target=$3 start=$SECONDS duration before verdict=met
  shift 3
  before=$(sed -n "s/^$name=//p" <<< "$last")
  printf '%-28s' "$title"
  if ! "$@" > "$log" 2>&1; then
    printf 'FAILED after %d s:\n' $((SECONDS - start))
    tail -n 15 "$log"
    failed=true
    return
  fi
  duration=$((SECONDS - start))
  if ((duration > target)); then verdict=missed; fi
  printf '%4d s   last %4s   target %3d s   %s\n' "$duration" "${before:+$before s}" "$target" "$verdict"
  durations+=("$name=$duration")
}

# In a copy without anything installed; earlier downloads are in the caches of this machine.
run_from_scratch() (
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

lint_uncached() { rm -f .tools/lint.json && make lint; }

change_line() { cp -p "$changed" "$folder/changed" && echo "# $$" >> "$changed" && make up; }

for loop in "${@:-${loops[@]}}"; do
  case $loop in
    run) timed run 'make run from scratch' 15 run_from_scratch ;;
    lint)
      timed lint 'make lint, uncached' 30 lint_uncached
      timed lint_again 'make lint, unchanged' 5 make lint
      ;;
    test) timed test 'make test' 120 make test ;;
    platform) timed platform 'make test-platform' 120 make test-platform ;;
    up)
      if cluster_exists; then
        printf '%-28sskipped: the cluster already exists. From scratch: make down bench-loop\n' 'make up from scratch'
      else
        timed up 'make up from scratch' 120 make up
      fi
      ;;
    again) timed again 'make up, unchanged' 15 make up ;;
    change)
      timed change 'make up, one line changed' 25 change_line
      undo_change
      if ! make up > "$log" 2>&1; then failed=true; fi # the e2e tests expect the unchanged image
      ;;
    e2e) timed e2e 'make e2e' 400 make e2e ;;
    *) echo "Unknown loop $loop. Choose from: ${loops[*]}" >&2 && exit 2 ;;
  esac
done
! $failed
