#!/usr/bin/env bash
# Deploys, settles, asks and rolls back a release: scripts/deploy/__main__.py has the words and the variables.
# One process takes the place of the other, so that a signal to this one is a signal to that one.
#
#   scripts/deploy.sh deploy|settle|smoke|rollback|history|unhold
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

python=${PYTHON:-$(scripts/find-python.sh || echo python3)}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2> /dev/null; then
  echo "Python 3.11 or newer is needed, and $python is not. Name one: PYTHON=/path/to/python3.11 $0 $*" >&2
  exit 2
fi
SERVICE=${SERVICE:-$(scripts/default-service.sh)}
export SERVICE
exec "$python" -m scripts.deploy "$@"
