#!/usr/bin/env bash
# Creates a virtual environment (unless a working one exists) and installs a hash-locked list of packages.
#
#   scripts/install.sh ENVIRONMENT REQUIREMENTS STAMP [REQUIREMENTS STAMP]...
#
# The stamp records what was installed where. If it still matches, there is nothing to do; file times do not matter.
# Further pairs are lists that the first one contains.
set -euo pipefail
. scripts/isolate.sh

environment=$1 requirements=$2 stamp=$3
shift

# Path, Python, number of packages, lock file: changes if the folder moves, the Python differs, a package is missing or
# the lock file changes.
state() { # requirements
  "$environment/bin/python" -I -c '
import os, sys, sysconfig
print(os.path.realpath(sys.prefix), sys.version, sep="\n")
print(sum(name.endswith(".dist-info") for name in os.listdir(sysconfig.get_path("purelib"))))' 2> /dev/null && cksum < "$1"
}

# An environment of another Python than the requested one (PYTHON=) does not count.
has_requested_python() {
  local version='import sys; print(sys.version)'
  [[ -z ${PYTHON:-} || $("$PYTHON" -I -c "$version") == $("$environment/bin/python" -I -c "$version") ]]
}

# One created elsewhere has scripts with the old path. Without its pyvenv.cfg it is the Python behind it. One whose
# installation was killed may have half of a package, which cannot be detected.
works() {
  [[ $(PYTHON=$environment/bin/python scripts/find-python.sh) == "$environment/bin/python" && ! -e $unfinished ]] \
    && "$environment/bin/python" -I -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2> /dev/null \
    && has_requested_python && [[ ! -s $stamp || $(head -n 1 "$stamp") == $(state "$requirements" | head -n 1) ]]
}

if [[ -s $stamp && $(state "$requirements") == "$(cat "$stamp")" ]] && has_requested_python; then exit; fi

export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 # override a pip.conf
unfinished=$environment/unfinished
python=$(scripts/find-python.sh) || { scripts/doctor.sh python; exit 1; }
if ! works; then
  if ! mkdir -p "$environment" 2> /dev/null || ! [[ -w $environment ]]; then
    echo "No write permission for $PWD/$environment, where packages are installed. Clone the repository into a writable folder." >&2
    exit 1
  fi
  # Without pip, which takes longer to install than all packages; an external one is used if needed.
  "$python" -m venv --clear --without-pip "$environment"
fi
pip=$(scripts/find-pip.sh)

start=$SECONDS
printf 'Installing %s packages of %s ' "$(grep -c '==' "$requirements")" "$requirements"
log=$environment/install.log
before=$(state "$requirements")
: > "$unfinished"
locked=(--quiet --require-hashes --only-binary :all: --requirement "$requirements")
# A lock that leaves a package out (scripts/lock.sh) says so. Of all others it is checked that they are complete.
if grep --quiet '^# The following packages were excluded' "$requirements"; then locked+=(--no-deps); fi
if ! "$pip" -I scripts/uv.py pip install --python "$environment/bin/python" "${locked[@]}" > "$log" 2>&1; then
  printf 'with pip, since uv failed (%s) ' "$log"
  if ! "$pip" -I -m pip --python "$environment/bin/python" --disable-pip-version-check install "${locked[@]}" >> "$log" 2>&1; then
    if [[ $(state "$requirements") == "$before" ]]; then rm -f "$unfinished"; fi
    echo 'failed:'
    tail -n 20 "$log" >&2
    echo "Is the package index reachable? Then run the same command again; the full output is in $log." >&2
    exit 1
  fi
fi
# A pip.conf may have redirected them.
first=$(awk '/==/ && !/ ;/ { sub(/==.*/, ""); print; exit }' "$requirements")
if ! "$environment/bin/python" -I -c 'import importlib.metadata as m, sys; m.version(sys.argv[1])' "$first" 2> /dev/null; then
  printf 'failed:\npip reported success, but the packages are not in %s. To see which setting redirects them: pip config list\n' \
    "$environment" >&2
  exit 1
fi
rm -f "$unfinished"
echo "($((SECONDS - start)) s)"
while (($#)); do
  state "$1" > "$2"
  shift 2
done
