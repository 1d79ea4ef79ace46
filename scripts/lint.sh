#!/usr/bin/env bash
# Checks everything that can be checked without running it, a line and a time per check.
# What is left out for want of a tool is said at the end; with REQUIRE_ALL=1 that is a failure.
#
#   scripts/lint.sh SERVICE...
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

if ! git rev-parse --git-dir > /dev/null 2>&1; then
  echo 'Which files are the repository'"'"'s, Git says, and this folder is no clone. Make it one: git init && git add --all' >&2
  exit 1
fi
# Tools of versions.env before those that happen to be on this machine.
PATH=$PWD/.venv/bin:$PWD/.tools:$PATH
charts=(platform/helm/*/)
charts=("${charts[@]%/}")
# What is applied as it stands, beside the charts: by a user, by `make kubeconfig-ci`, by `make up MONITORING=1`.
plain_manifests=(platform/k8s/*.yaml platform/k8s/monitoring/*.yaml platform/deployer/*.yaml platform/cluster/*.yaml)
# The oldest Kubernetes that the charts support, the first that sleeps in preStop by itself, the newest with schemas.
oldest_kubernetes=1.26 sleeping_kubernetes=1.30 newest_kubernetes=1.37
work=$(mktemp -d)
output=$work/output
trap 'rm -rf "$work"' EXIT
passed=0 failed=() left_out=()

check() { # title, command...
  local title=$1 start=$SECONDS
  shift
  printf '%-60s' "$title"
  if "$@" > "$output" 2>&1; then
    printf 'ok %4d s\n' $((SECONDS - start))
    passed=$((passed + 1))
  else
    printf 'FAILED\n'
    sed 's/^/    /' "$output"
    failed+=("$title")
  fi
}

go_check() { # as check, with a tool that scripts/go-tools.sh builds
  if $have_go; then check "$@"; else left_out+=("$1: $no_go"); fi
}

helm_check() { # as check, with Helm: the one built with Go, or else the machine's
  if command -v helm > /dev/null; then check "$@"; else left_out+=("$1: $no_helm"); fi
}

of_each() { # function that names files, command...
  local file files=()
  while read -r file; do files+=("$file"); done < <("$1")
  shift
  "$@" "${files[@]}"
}

# As they are called: with core.quotePath a name beyond ASCII would stand in quotes.
our_files() { git -c core.quotePath=false ls-files --cached --others --exclude-standard -- "$@"; }
shell_files() { our_files '*.sh' .ci/run; }
# All but a piece that becomes the last section of bench/RESULTS.md, and has no title of its own.
markdown_files() { our_files '*.md' ':!bench/findings.md'; }
yaml_files() { our_files '*.yaml' '*.yml' ':!platform/helm/*/templates'; }

# Each file of values that a chart is rendered with: its defaults, those of other surroundings, those made for checks.
values_files() { find "$1" -maxdepth 1 -name 'values*.yaml' && find "$1" -path "$1/ci/*-values.yaml"; }

# Every chart with each of its files of values. With a tag, as a deploy does: the placeholder `latest` is what NOTES warn
# of. And where there is a database with a Secret that exists, but for ci/defaults-values.yaml, which makes its own.
render() { # helm, Kubernetes version, folder to write to
  local chart name values settings
  mkdir -p "$3"
  for chart in "${charts[@]}"; do
    name=$(basename "$chart")
    for values in $(values_files "$chart"); do
      settings=(--set-string image.tag=0.1.0)
      if [[ $values != */ci/defaults-values.yaml ]] && grep -q '^database:' "$chart/values.yaml"; then
        settings+=(--set "database.bundled.existingSecret=$name-database")
      fi
      "$1" template "$name" "$chart" --kube-version "$2.0" --values "$values" "${settings[@]}" \
        > "$3/$name-$(basename "$values")" || return 1
    done
  done
}

manifests() { # Kubernetes version
  local rendered=()
  if command -v helm > /dev/null; then
    render helm "$1" "$work/$1" || return 1
    rendered=("$work/$1"/*.yaml)
  fi
  kubernetes-validate --strict --kubernetes-version "$1" "${plain_manifests[@]}" ${rendered[@]+"${rendered[@]}"}
}

# kubernetes-validate lets custom resources pass; here a kind without a schema is an error.
custom_resources() {
  local from="$newest_kubernetes $PROMETHEUS_OPERATOR_MANIFEST $GATEWAY_API_MANIFEST $CLOUDNATIVE_PG_VERSION"
  local cloudnative_pg=github.com/cloudnative-pg/cloudnative-pg@$CLOUDNATIVE_PG_VERSION
  if [[ $(cat .tools/schemas/from 2> /dev/null) != "$from" ]]; then
    rm -rf .tools/schemas
    go mod download "$cloudnative_pg" || return 1
    python scripts/schemas.py .tools/schemas "$newest_kubernetes" "$PROMETHEUS_OPERATOR_MANIFEST" "$GATEWAY_API_MANIFEST" \
      "$(go list -m -f '{{.Dir}}' "$cloudnative_pg")/config/crd/bases/postgresql.cnpg.io_clusters.yaml" || return 1
    echo "$from" > .tools/schemas/from
  fi
  render helm "$newest_kubernetes" "$work/custom" \
    && kubeconform -strict -summary -kubernetes-version "$newest_kubernetes.0" \
      -schema-location '.tools/schemas/built-in/{{.ResourceKind}}{{.KindSuffix}}.json' \
      -schema-location '.tools/schemas/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json' "${plain_manifests[@]}" "$work/custom"
}

# The Helm that a team has must not matter. Versions differ in empty lines alone, and a generated password each time.
same_with_each_helm() {
  local version
  render "helm-$HELM_VERSION" "$newest_kubernetes" "$work/helm-$HELM_VERSION" || return 1
  for version in "$HELM_OLDEST_VERSION" "$HELM_4_VERSION"; do
    render "helm-$version" "$newest_kubernetes" "$work/helm-$version" || return 1
    diff --recursive --unified --ignore-blank-lines -I '^  password: ' -I '^  url: ' "$work/helm-$HELM_VERSION" "$work/helm-$version" \
      || { echo "Helm $version renders a chart otherwise than Helm $HELM_VERSION, see above." && return 1; }
  done
}

# One run for each file of values: it looks for a pod's NetworkPolicy, PodDisruptionBudget and Service beside it.
# What objects are excused from is written on them with the reason (kube-score/ignore).
practice() {
  local file failures=0
  render helm "$oldest_kubernetes" "$work/practice" || return 1
  for file in "$work"/practice/*.yaml; do
    echo "With $(basename "$file"):"
    kube-score score --kubernetes-version "v$oldest_kubernetes" --exit-one-on-warning --output-format ci \
      --enable-optional-test container-seccomp-profile,container-ports-check "$file" > "$work/scores" || failures=1
    grep -E '^\[(WARNING|CRITICAL)\]' "$work/scores" || true
  done
  return $failures
}

# With its default checks. But for latest-tag in platform/k8s: there `latest` is a placeholder, in the one line that a
# user edits.
linter() {
  render helm "$newest_kubernetes" "$work/linter" || return 1
  kube-linter lint --fail-if-no-objects-found --fail-on-invalid-resource "$work/linter" platform/deployer platform/cluster \
    && kube-linter lint --fail-if-no-objects-found --fail-on-invalid-resource --exclude latest-tag platform/k8s
}

security() {
  render helm "$newest_kubernetes" "$work/security" || return 1
  .tools/checkov/bin/checkov --config-file .checkov.yaml --directory "$work/security"
}

chart_tests() { # chart
  local tests
  tests=$(find "$1/tests" -name '*_test.yaml')
  if [[ -z $tests ]]; then
    echo "$1/tests holds no *_test.yaml." && return 1
  fi
  helm-unittest --strict --file 'tests/*_test.yaml' "$1"
}

chart_readme() { # chart
  helm-docs --chart-search-root "$1" --log-level warning --dry-run | diff --unified "$1/README.md" - \
    || { echo 'The README is not what values.yaml says. Write it again: make docs' && return 1; }
}

# --- without more than Python ---------------------------------------------------------

check 'Python format (ruff)' ruff format --check .
check 'Python code (ruff)' ruff check .
check 'Python types: e2e, platform, scripts (mypy)' mypy
for service in "$@"; do
  check "Python types: $service (mypy)" mypy --config-file "services/$service/pyproject.toml" \
    --python-executable "services/$service/.venv/bin/python" "services/$service/src" "services/$service/tests"
done
of_each shell_files check 'Shell (shellcheck)' shellcheck --external-sources
of_each yaml_files check 'YAML (yamllint)' yamllint --strict
of_each markdown_files check 'Markdown (pymarkdown)' pymarkdown scan
check 'Dockerfile (hadolint)' hadolint Dockerfile
check 'Workflows and Dependabot (zizmor)' zizmor --quiet --offline --persona pedantic .github

# --- with tools that Go builds --------------------------------------------------------

have_go=false no_go='needs Go, https://go.dev/dl/' no_helm='needs Go or Helm, https://helm.sh/docs/intro/install/'
if command -v go > /dev/null; then
  if scripts/go-tools.sh; then
    have_go=true
  else
    failed+=('Go tools')
    no_go='needs the Go tools, which were not built' no_helm=$no_go
  fi
fi
go_check 'Workflows (actionlint)' actionlint

for chart in "${charts[@]}"; do
  for values in $(values_files "$chart"); do
    helm_check "Chart ${values#platform/helm/} (helm lint)" \
      helm lint --strict --quiet --kube-version "$oldest_kubernetes.0" --values "$values" "$chart"
  done
done
for version in "$oldest_kubernetes" "$sleeping_kubernetes" "$newest_kubernetes"; do
  check "Manifests, Kubernetes $version (kubernetes-validate)" manifests "$version"
done
if ! command -v helm > /dev/null; then
  left_out+=("The rendered charts in the checks of manifests: $no_helm")
fi
go_check 'Manifests, custom resources (kubeconform)' custom_resources
go_check 'Charts with Helm 3.12, 3 and 4 (diff)' same_with_each_helm
go_check 'Charts, good practice (kube-score)' practice
go_check 'Charts and manifests, good practice (kube-linter)' linter
helm_check 'Charts, security (checkov)' security
for chart in "${charts[@]}"; do
  go_check "Chart $(basename "$chart"), tests (helm-unittest)" chart_tests "$chart"
  go_check "Chart $(basename "$chart"), README (helm-docs)" chart_readme "$chart"
done
selected=''
if ! docker info > /dev/null 2>&1; then
  selected='not docker'
  left_out+=('The rules in Prometheus 2: needs Docker, https://docs.docker.com/get-docker/')
fi
if ! $have_go; then
  selected="${selected:+$selected and }not go"
  left_out+=("The rules in Prometheus 3: $no_go")
fi
helm_check 'Charts, manifests, scripts, pages (pytest)' \
  python -m pytest --quiet --numprocesses auto -m "$selected" platform/tests

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
