#!/usr/bin/env bash
# Deploys, verifies, recovers and rolls back a release: commands and variables are in scripts/deploy/__main__.py.
# One process takes the place of the other, so that a signal to this one is a signal to that one.
#
#   scripts/deploy.sh deploy|settle|smoke|rollback|history|unhold
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/service-python.sh

exec "$python" -m scripts.deploy "$@"
