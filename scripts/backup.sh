#!/usr/bin/env bash
# Backs up the database of a release, and restores it: scripts/backup.py has the words and the variables. Where no cluster
# is named it is the one of `make up`.
#
#   scripts/backup.sh backup|restore
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/service-python.sh

if [[ -z ${KUBECONFIG:-} && -z ${KUBE_CONFIG+set} ]]; then
  . scripts/cluster.sh
  need_cluster
fi
exec "$python" -m scripts.backup "$@"
