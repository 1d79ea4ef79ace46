#!/usr/bin/env bash
# Backs up the database of a release, and restores it: scripts/backup.py has the words and the variables. Where no cluster
# is named it is the one of `make up`.
#
#   scripts/backup.sh backup|restore
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
if [[ -z ${KUBECONFIG:-} && -z ${KUBE_CONFIG+set} ]]; then
  . scripts/cluster.sh
  need_cluster
fi
exec "$python" -m scripts.backup "$@"
