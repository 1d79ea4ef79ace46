#!/bin/bash
# Stands before a runner's bash: writes down the environment that a step or a script finds, then is bash.
env -0 > "$(mktemp "$PIPELINE_RUN/environments/${GITHUB_JOB:-none}.XXXXXXXX")"
exec /bin/bash "$@"
