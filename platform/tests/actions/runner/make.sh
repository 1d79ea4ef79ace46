#!/bin/bash
# Stands for the targets of make that take minutes and have tests of their own. Notes on which commit it was called, and for which Python.
set -euo pipefail

note "make $* at $(git rev-parse HEAD)${PYTHON:+ with $PYTHON}"
