#!/bin/bash
# Wraps a runner's bash: records the environment of each step and script, then runs bash.
env -0 > "$(mktemp "$PIPELINE_RUN/environments/${GITHUB_JOB:-none}.XXXXXXXX")"
if [[ $1 != -e ]]; then exec /bin/bash "$@"; fi
# A step. act 0.2.89 loses output of a failed step that it has not read yet, so give it time.
/bin/bash "$@" && exit
status=$?
sleep 0.5
exit $status
