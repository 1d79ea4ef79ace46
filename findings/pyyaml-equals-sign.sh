#!/usr/bin/env bash
# Guess: `matchType: =` is a string, in PyYAML as in Kubernetes' YAML parser; if not there, then in ruamel.yaml, which defaults to YAML
# 1.2.
# What happens: a plain `=` has its own type in YAML 1.1, "value", which PyYAML resolves but has no constructor for: `safe_load` raises an
# error, as do `CSafeLoader` and the safe loader of ruamel.yaml, which kept it in 1.2. npm's yaml returns a string. The
# CustomResourceDefinitions of the Prometheus operator contain such a value (the operators of Alertmanager's matchers).
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
actual = [sys.argv[1]]
for read in (
    ruamel.yaml.YAML(typ="safe", pure=True).load,
    yaml.safe_load,
    lambda text: yaml.load(text, Loader=yaml.CSafeLoader),
):
    try:
        actual.append(read(text)["matchType"])
    except (yaml.constructor.ConstructorError, ruamel.yaml.constructor.ConstructorError) as error:
        actual.append("error")
        print(error.problem)
print("npm yaml, ruamel.yaml, PyYAML, PyYAML with libyaml:", *actual)
if actual != ["=", "error", "error", "error"]:
    sys.exit("Changed: expected a string and three errors")
PYTHON
