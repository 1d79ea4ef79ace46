#!/usr/bin/env bash
# Guess: Prometheus 3 accepts any UTF-8 name without a flag, so its promtool accepts `{"http.requests"} 1` wherever it reads metrics.
# What happens: `promtool check rules` accepts such a name, and `promtool check metrics` rejects it as invalid.
# Packages: github.com/prometheus/prometheus 0.316.0 (Prometheus 3.16.0)
# Source: https://prometheus.io/docs/guides/utf8/
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
GOBIN=$folder go install github.com/prometheus/prometheus/cmd/promtool@v0.316.0 > log 2>&1 || { cat log && exit 1; }

printf 'groups: [{name: a, rules: [{record: b, expr: %s}]}]\n' "'sum({\"http.requests\"})'" > rules.yml
printf '# HELP "http.requests" Requests.\n# TYPE "http.requests" gauge\n{"http.requests"} 1\n' > exposition
./promtool check rules rules.yml
output=$(./promtool check metrics < exposition 2>&1) && status=0 || status=$?
echo "promtool check metrics: $output"
if [[ $status == 0 || $output != *'invalid metric name'* ]]; then
  echo "Changed: expected the name to be rejected" >&2
  exit 1
fi
