#!/usr/bin/env bash
# Makes a virtual environment (where there is none) and installs a hash-locked list of packages.
#
#   scripts/install.sh ENVIRONMENT REQUIREMENTS
set -euo pipefail

environment=$1 requirements=$2

if [[ $(PYTHON=$environment/bin/python scripts/find-python.sh) != "$environment/bin/python" ]]; then
  python=$(scripts/find-python.sh) || { scripts/doctor.sh python; exit 1; }
  if ! mkdir -p "$environment" 2> /dev/null || ! [[ -w $environment ]]; then
    echo "Cannot write to $PWD/$environment, where the packages go. Clone the repository to a folder that you may write to." >&2
    exit 1
  fi
  "$python" -m venv --clear "$environment"
fi

start=$SECONDS
printf 'Installing %s packages of %s ' "$(grep -c '==' "$requirements")" "$requirements"
log=$environment/install.log
if ! "$environment/bin/python" -m pip install --quiet --disable-pip-version-check \
  --require-hashes --only-binary :all: --requirement "$requirements" > "$log" 2>&1; then
  echo 'failed:'
  tail -n 20 "$log" >&2
  echo "Is the package index reachable? Then run the same command again; the whole output is in $log." >&2
  exit 1
fi
echo "($((SECONDS - start)) s)"
