#!/usr/bin/env bash
# Checks everything that can be checked without running it, a line and a time per check.
# What is left out for want of a tool is said at the end; with REQUIRE_ALL=1 that is a failure.
#
#   scripts/lint.sh SERVICE...
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

PATH=$PWD/.venv/bin:$PWD/.tools:$PATH
versions() { sed -n "s/^$1=//p" versions.env; }
output=$(mktemp)
trap 'rm -f "$output"' EXIT
passed=0 failed=() left_out=()

check() { # title, command...
  local title=$1 start=$SECONDS
  shift
  printf '%-40s' "$title"
  if "$@" > "$output" 2>&1; then
    printf 'ok %4d s\n' $((SECONDS - start))
    passed=$((passed + 1))
  else
    printf 'FAILED\n'
    sed 's/^/    /' "$output"
    failed+=("$title")
  fi
}

shell_files() { git ls-files --cached --others --exclude-standard -- '*.sh' .ci/run; }
yaml_files() { git ls-files --cached --others --exclude-standard -- '*.yaml' '*.yml' ':!platform/helm/*/templates'; }

check 'Python format (ruff)' ruff format --check .
check 'Python code (ruff)' ruff check .
check 'Python types: e2e, platform (mypy)' mypy
for service in "$@"; do
  check "Python types: $service (mypy)" mypy --config-file "services/$service/pyproject.toml" \
    --python-executable "services/$service/.venv/bin/python" "services/$service/src" "services/$service/tests"
done
# shellcheck disable=SC2046 # lists of names without spaces
check 'Shell (shellcheck)' shellcheck --external-sources $(shell_files)
# shellcheck disable=SC2046
check 'YAML (yamllint)' yamllint --strict $(yaml_files)
check 'Dockerfile (hadolint)' hadolint Dockerfile
check 'Workflows (zizmor)' zizmor --quiet --offline --persona pedantic .github/workflows
for version in 1.26 1.30 1.37; do
  check "Manifests, Kubernetes $version" kubernetes-validate --strict --kubernetes-version "$version" platform/k8s/*.yaml
done

# actionlint comes as a Go module alone.
if command -v go > /dev/null; then
  actionlint_version=$(versions ACTIONLINT_VERSION)
  if [[ $(actionlint -version 2> /dev/null | head -n 1) != "$actionlint_version" ]]; then
    GOBIN=$PWD/.tools go install "github.com/rhysd/actionlint/cmd/actionlint@$actionlint_version" 2> "$output" || cat "$output"
  fi
  check 'Workflows (actionlint)' actionlint
else
  left_out+=('actionlint: needs Go, https://go.dev/dl/')
fi

if command -v helm > /dev/null; then
  check 'Chart (helm lint)' helm lint --strict --quiet --kube-version 1.26.0 platform/helm/*
  check 'Chart, local values (helm lint)' helm lint --strict --quiet --kube-version 1.26.0 \
    --values platform/helm/task-api/values-dev.yaml platform/helm/task-api
  check 'Chart, manifests, Tiltfile (pytest)' python -m pytest --quiet platform/tests
else
  left_out+=('the tests of chart, manifests and Tiltfile: need helm, https://helm.sh/docs/intro/install/')
fi

printf '\n%d checks passed, %d failed, %d left out\n' "$passed" ${#failed[@]} ${#left_out[@]}
# The form with + and :- is for bash 3.2, where an empty array counts as unset.
for what in ${left_out[@]+"${left_out[@]}"}; do echo "Left out: $what"; done
if ((${#failed[@]})); then
  printf 'Failed: %s\n' "${failed[@]}" >&2
  echo 'Next: mend them; the format of Python is mended by: make fmt' >&2
  exit 1
fi
if ((${#left_out[@]})) && [[ ${REQUIRE_ALL:-} == 1 ]]; then
  echo 'REQUIRE_ALL=1: nothing may be left out' >&2
  exit 1
fi
