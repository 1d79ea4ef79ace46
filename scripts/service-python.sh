# shellcheck shell=bash
# Sourced, with the repository as working directory, by scripts that exec a Python module of scripts/: exports SERVICE,
# and sets $python to an interpreter for the module.

# shellcheck source=scripts/isolate.sh
. scripts/isolate.sh

python=${PYTHON:-$(scripts/find-python.sh || echo python3)}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
  echo "Python 3.11 or later is required, and $python is not. Set one: PYTHON=/path/to/python3.11 $0 $*" >&2
  exit 2
fi
SERVICE=${SERVICE:-$(scripts/default-service.sh)}
export SERVICE
