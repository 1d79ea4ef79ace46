# shellcheck shell=bash
# versions.env as variables, sourced with the repository as working directory. Existing environment variables take
# precedence; VERSIONS_FROM_OUTSIDE lists those that differ, for `make doctor`.
# shellcheck source=scripts/isolate.sh
. scripts/isolate.sh

VERSIONS_FROM_OUTSIDE=''
while IFS='=' read -r name value; do
  case $name in '' | '#'*) continue ;; esac
  if [[ -z ${!name:-} ]]; then
    export "$name=$value"
  elif [[ ${!name} != "$value" ]]; then
    # shellcheck disable=SC2034 # doctor.sh reads it
    VERSIONS_FROM_OUTSIDE+=" $name"
  fi
done < versions.env
