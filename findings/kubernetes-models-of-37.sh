#!/usr/bin/env bash
# Guess: the models of the Kubernetes Python client work as they have for ten years: an attribute of any name can be set, a value of any
# type is kept, and the server reports errors. A new major version of the client means a new Kubernetes version.
# What happens: this is true up to 36; in 37 the models are pydantic's. A misspelt attribute and a value of the wrong type raise
# pydantic's ValidationError when set, names are also accepted as in YAML (`resourceVersion`), and an `except ValueError` that caught a
# missing field still does. A response field that the client does not know is dropped, in both.
# Packages: kubernetes 36.0.3 and 37.0.2
# Source: kubernetes/client/models/v1_object_meta.py of these versions
# Date: 2026-11-29
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

cat > models.py << 'PYTHON'
from kubernetes.client import V1ObjectMeta, V1PodList


def outcome(make):
    try:
        return str(make())
    except Exception as error:
        return "ValueError" if type(error) is ValueError else type(error).__name__ + "(ValueError)" * isinstance(error, ValueError)


def misspelt():
    metadata = V1ObjectMeta(name="a")
    metadata.lables = {"app": "a"}
    return "taken"


print(
    outcome(misspelt),
    outcome(lambda: V1ObjectMeta(name=3).name),
    outcome(lambda: V1ObjectMeta(resourceVersion="7").resource_version),
    outcome(lambda: V1PodList().items),
)
PYTHON

models_of() { # version
  python3 -m venv "$1"
  "$1/bin/pip" install --quiet --disable-pip-version-check "kubernetes==$1"
  "$1/bin/python" models.py
}

old=$(models_of 36.0.3)
new=$(models_of 37.0.2)
echo "A misspelt attribute, a number as name, a field name as in YAML, a list without items:"
echo "36.0.3: $old"
echo "37.0.2: $new"
raised='ValidationError(ValueError)'
if [[ $old != "taken 3 TypeError ValueError" || $new != "$raised $raised 7 $raised" ]]; then
  echo "Changed: expected ValidationError in 37 for all but the name as in YAML" >&2
  exit 1
fi
