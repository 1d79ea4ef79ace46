#!/usr/bin/env bash
# Makes a virtual environment (where there is none that works) and installs a hash-locked list of packages.
#
#   scripts/install.sh ENVIRONMENT REQUIREMENTS STAMP [REQUIREMENTS STAMP]...
#
# The stamp says what was installed where. Where that is still so, there is nothing to do; times of files play no part.
# Further pairs are of lists that the first contains.
set -euo pipefail
. scripts/isolate.sh

environment=$1 requirements=$2 stamp=$3
shift

# Place, Python, number of packages, list: a moved folder, another Python, a package gone, a new lock change it.
state() { # requirements
  "$environment/bin/python" -I -c '
import os, sys, sysconfig
print(os.path.realpath(sys.prefix), sys.version, sep="\n")
print(sum(name.endswith(".dist-info") for name in os.listdir(sysconfig.get_path("purelib"))))' 2> /dev/null && cksum < "$1"
}

# An environment of another Python than the one that was asked for (PYTHON=) is not it.
is_asked_for() {
  local version='import sys; print(sys.version)'
  [[ -z ${PYTHON:-} || $("$PYTHON" -I -c "$version") == $("$environment/bin/python" -I -c "$version") ]]
}

# What was made elsewhere has scripts that begin with the old place. Without its pyvenv.cfg it is the Python behind it.
# What was killed while it was filled may have half of a package, and nobody can tell.
works() {
  [[ $(PYTHON=$environment/bin/python scripts/find-python.sh) == "$environment/bin/python" && ! -e $unfinished ]] \
    && "$environment/bin/python" -I -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2> /dev/null \
    && is_asked_for && [[ ! -s $stamp || $(head -n 1 "$stamp") == $(state "$requirements" | head -n 1) ]]
}

if [[ -s $stamp && $(state "$requirements") == "$(cat "$stamp")" ]] && is_asked_for; then exit; fi

export PIP_USER=0 PIP_REQUIRE_VIRTUALENV=0 # over a pip.conf
unfinished=$environment/unfinished
python=$(scripts/find-python.sh) || { scripts/doctor.sh python; exit 1; }
if ! works; then
  if ! mkdir -p "$environment" 2> /dev/null || ! [[ -w $environment ]]; then
    echo "Cannot write to $PWD/$environment, where the packages go. Clone the repository to a folder that you may write to." >&2
    exit 1
  fi
  # Without pip, which takes longer than all packages, and stands outside for when it is needed.
  "$python" -m venv --clear --without-pip "$environment"
fi
pip=$(scripts/find-pip.sh)

start=$SECONDS
printf 'Installing %s packages of %s ' "$(grep -c '==' "$requirements")" "$requirements"
log=$environment/install.log
before=$(state "$requirements")
: > "$unfinished"
locked=(--quiet --require-hashes --only-binary :all: --requirement "$requirements")
if ! "$pip" -I scripts/uv.py pip install --python "$environment/bin/python" "${locked[@]}" > "$log" 2>&1; then
  printf 'by pip, since uv cannot (%s) ' "$log"
  if ! "$pip" -I -m pip --python "$environment/bin/python" --disable-pip-version-check install "${locked[@]}" >> "$log" 2>&1; then
    if [[ $(state "$requirements") == "$before" ]]; then rm -f "$unfinished"; fi
    echo 'failed:'
    tail -n 20 "$log" >&2
    echo "Is the package index reachable? Then run the same command again; the whole output is in $log." >&2
    exit 1
  fi
fi
# A pip.conf may have sent them elsewhere.
first=$(awk '/==/ && !/ ;/ { sub(/==.*/, ""); print; exit }' "$requirements")
if ! "$environment/bin/python" -I -c 'import importlib.metadata as m, sys; m.version(sys.argv[1])' "$first" 2> /dev/null; then
  printf 'failed:\npip said that it installed them, and they are not in %s. What sends them elsewhere stands in: pip config list\n' \
    "$environment" >&2
  exit 1
fi
rm -f "$unfinished"
echo "($((SECONDS - start)) s)"
while (($#)); do
  state "$1" > "$2"
  shift 2
done
