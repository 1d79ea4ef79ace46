#!/bin/bash
# Stands before a runner's bash: writes down the environment that a step or a script finds, then is bash.
env -0 > "$(mktemp "$PIPELINE_RUN/environments/${GITHUB_JOB:-none}.XXXXXXXX")"
if [[ $1 != -e ]]; then exec /bin/bash "$@"; fi
# A step. Of one that fails act 0.2.89 forgets what it has not read yet: it is given time.
/bin/bash "$@" && exit
status=$?
sleep 0.5
exit $status
