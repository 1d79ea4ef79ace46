#!/usr/bin/env bash
# Opens the API documentation of SERVICE, served by the ingress, in the browser; without a browser only prints the URL.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/cluster.sh
need_cluster

url=https://${SERVICE:-$(scripts/default-service.sh)}.localhost:$(published_port 443)/docs
echo "$url"
echo "(self-signed certificate: the browser asks once)"
case $(uname -s) in
  Darwin) open "$url" ;;
  *) if command -v xdg-open > /dev/null; then xdg-open "$url" > /dev/null 2>&1 & fi ;;
esac
