#!/usr/bin/env bash
# Guess: prometheus_client's parser returns each sample of the text format under its own name. Only OpenMetrics requires names that end in
# `_total`: in the text format a counter may be called `jobs`, as Prometheus stores it.
# What happens: it appends `_total` to the sample of such a counter, so a lookup of `jobs` finds nothing. The same sample in a gauge keeps
# its name.
# Packages: prometheus_client 0.26.0
# Source: https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check prometheus_client==0.26.0

v/bin/python << 'PYTHON'
import sys

from prometheus_client.parser import text_string_to_metric_families

actual = []
for kind in ("counter", "gauge"):
    text = f"# TYPE jobs {kind}\njobs 3\n"
    (family,) = text_string_to_metric_families(text)
    actual += [sample.name for sample in family.samples]
    print(f"{text!r} -> {family.samples}")
if actual != ["jobs_total", "jobs"]:
    sys.exit("Changed: expected jobs_total for the counter and jobs for the gauge")
PYTHON
