#!/usr/bin/env bash
# Installs the tools that the dev container's image lacks, once, when the container is created.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

# The installer of this release, which pins the hashes of its downloads.
curl -fsSL "https://github.com/jdx/mise/releases/download/$MISE_VERSION/install.sh" | sh
mise install --yes
# The load generator of `make load` and `make e2e`.
sudo apt-get update && sudo apt-get install --yes --no-install-recommends wrk
make doctor || true # prints what is left to do
