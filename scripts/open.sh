#!/usr/bin/env bash
# Opens the documentation of SERVICE, as the ingress serves it, in the browser; prints the address where there is none.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
need_cluster

url=https://${SERVICE:-$(scripts/default-service.sh)}.localhost:$(published_port 443)/docs
echo "$url"
echo "(its certificate is of this machine's own making: the browser asks once)"
case $(uname -s) in
  Darwin) open "$url" ;;
  *) if command -v xdg-open > /dev/null; then xdg-open "$url" > /dev/null 2>&1 & fi ;;
esac
