#!/bin/bash
# Stands in for a runner's sudo: does not change the machine that runs the tests.
set -euo pipefail

note "sudo $*"
