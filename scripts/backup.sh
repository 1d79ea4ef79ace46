#!/usr/bin/env bash
# Backs up and restores the database of a release: commands and variables are in scripts/backup.py. The default cluster
# is that of `make up`.
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
