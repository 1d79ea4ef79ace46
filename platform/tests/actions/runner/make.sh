#!/bin/bash
# Stands in for make, whose targets take minutes and have their own tests. Writes the target, commit and Python to the journal.
set -euo pipefail

note "make $* at $(git rev-parse HEAD)${PYTHON:+ with $PYTHON}"
