#!/bin/bash
# Stands for a runner's sudo: changes nothing on the machine of the test.
set -euo pipefail

note "sudo $*"
