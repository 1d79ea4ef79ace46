#!/usr/bin/env bash
# Installs what the image of the dev container lacks, once, when it is made.
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

# The installer of this release, which holds the hashes of what it fetches.
curl -fsSL "https://github.com/jdx/mise/releases/download/$MISE_VERSION/install.sh" | sh
mise install --yes
# What `make load` and `make e2e` send load with.
sudo apt-get update && sudo apt-get install --yes --no-install-recommends wrk
make doctor || true # says what is left to do
