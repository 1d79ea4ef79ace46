#!/bin/bash
# Stands for the targets of make that take minutes and have tests of their own. Notes on which commit it was called.
set -euo pipefail

note "make $* at $(git rev-parse HEAD)"
