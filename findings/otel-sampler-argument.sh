#!/usr/bin/env bash
# Guess: an invalid sampling ratio (OTEL_TRACES_SAMPLER_ARG=10%, or =10 for ten percent) stops the program, or nothing is traced, as with
# the SDK's limits: OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=many raises an error.
# What happens: every trace is sampled and exported, with a single warning. A typo in the setting that was to save nine tenths costs ten
# times as much as intended.
# Packages: opentelemetry-sdk 1.45.1
# Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check opentelemetry-sdk==1.45.1

cat > sample.py << 'PYTHON'
import sys

from opentelemetry.sdk.trace import TracerProvider

tracer = TracerProvider().get_tracer("a")
print(sum(tracer.start_span("b").is_recording() for _ in range(1000)))
PYTHON
export OTEL_TRACES_SAMPLER=parentbased_traceidratio
changed=''
for argument in 10% 10; do
  sampled=$(OTEL_TRACES_SAMPLER_ARG=$argument v/bin/python sample.py)
  echo "OTEL_TRACES_SAMPLER_ARG=$argument samples $sampled of 1000"
  if [[ $sampled != 1000 ]]; then changed=1; fi
done
sampled=$(OTEL_TRACES_SAMPLER_ARG=0.1 v/bin/python sample.py)
echo "OTEL_TRACES_SAMPLER_ARG=0.1 samples $sampled of 1000"
if ((sampled > 300)); then changed=1; fi
if OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT=many v/bin/python sample.py > log 2>&1; then changed=1; fi
tail -n 1 log
if [[ $changed ]]; then
  echo "Changed: expected all, all, about 100 and an error" >&2
  exit 1
fi
