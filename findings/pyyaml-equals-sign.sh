#!/usr/bin/env bash
# Guess: `matchType: =` is a string, in PyYAML as in what Kubernetes reads manifests with; if not there, then in ruamel.yaml, which
# is of YAML 1.2 by default.
# What happens: a plain `=` has a type of its own in YAML 1.1, "value", which PyYAML recognises and has no reader for: `safe_load`
# raises an error, `CSafeLoader` too, and so does the safe reader of ruamel.yaml, which kept it in 1.2. yaml of npm reads a string.
# The CustomResourceDefinitions of the Prometheus operator hold such a value (the operators of Alertmanager's matchers).
# Packages: PyYAML 6.0.3, ruamel.yaml 0.19.1; npm yaml 2.9.1
# Source: https://yaml.org/type/value.html
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check PyYAML==6.0.3 ruamel.yaml==0.19.1
npm install --silent --no-fund --no-audit --prefix . yaml@2.9.1 > /dev/null

echo 'matchType: =' > a.yaml
by_npm=$(node -e 'console.log(require("yaml").parse(require("fs").readFileSync("a.yaml", "utf8")).matchType)')
v/bin/python - "$by_npm" << 'PYTHON'
import sys

import ruamel.yaml
import yaml

text = open("a.yaml").read()
seen = [sys.argv[1]]
for read in (
    ruamel.yaml.YAML(typ="safe", pure=True).load,
    yaml.safe_load,
    lambda text: yaml.load(text, Loader=yaml.CSafeLoader),
):
    try:
        seen.append(read(text)["matchType"])
    except (yaml.constructor.ConstructorError, ruamel.yaml.constructor.ConstructorError) as error:
        seen.append("error")
        print(error.problem)
print("npm yaml, ruamel.yaml, PyYAML, PyYAML by libyaml:", *seen)
if seen != ["=", "error", "error", "error"]:
    sys.exit("This has changed: a string and three errors were expected")
PYTHON
