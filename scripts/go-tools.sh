#!/usr/bin/env bash
# Builds the Go tools of `make lint` and `make test-platform` at the versions in versions.env, as .tools/NAME-VERSION
# with a link .tools/NAME. With a name as argument only that one: scripts/go-tools.sh crane
# Existing tools are kept. On two cores the first build takes about ten minutes, with Go's build cache one.
# Tools that only `make e2e-full` needs are built only by name: act, cosign, trivy (1, 8 and 19 minutes on one core).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck source=scripts/versions.sh
. scripts/versions.sh

only=${1:-}
export CGO_ENABLED=0 # needs no C compiler
export GOWORK=off # Prometheus has a workspace of which its module contains only a part
mkdir -p .tools
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Each is built in its module's folder, not by `go install`: there its own `replace` and go.sum apply. helm-unittest has
# a `replace`, which `go install` rejects.
tool() { # name, module, version, package in the module, build tags
  local binary=$1-$3 start=$SECONDS
  if [[ -n $only && $1 != "$only" ]]; then return; fi
  if [[ ! -x .tools/$binary ]]; then
    printf '%-50s' "Tool $binary"
    if (build "$2@$3" "$4" "${5:-}" "$PWD/.tools/$binary") > "$log" 2>&1; then
      printf 'ok %4d s\n' $((SECONDS - start))
    else
      printf 'FAILED\n'
      tail -n 20 "$log" >&2
      echo "$2@$3 failed to build. Is the Go module proxy reachable, and Go new enough ($(go version))? Then run the same command again." >&2
      exit 1
    fi
  fi
  ln -sf "$binary" ".tools/$1"
}

build() { # module@version, package, build tags, binary
  local module flags='-s -w'
  module=$(go mod download -json "$1") || { echo "$module" && return 1; }
  cd "$(sed -n 's/.*"Dir": "\(.*\)".*/\1/p' <<< "$module")" || return 1
  # Flags that the tool's own build sets, too.
  case $1 in
    # Otherwise `helm template` without --kube-version assumes Kubernetes 1.20.
    helm.sh/helm/v3@*)
      flags+=" -X helm.sh/helm/v3/pkg/chartutil.k8sVersionMinor=$(go list -m -f '{{.Version}}' k8s.io/client-go | cut -d . -f 2)"
      ;;
    github.com/sigstore/cosign/*) flags+=" -X sigs.k8s.io/release-utils/version.gitVersion=${1##*@}" ;;
    github.com/aquasecurity/trivy@*)
      flags+=" -X github.com/aquasecurity/trivy/pkg/version/app.ver=${1##*@v}"
      export GOEXPERIMENT=jsonv2
      ;;
  esac
  go build -tags "$3" -trimpath -ldflags "$flags" -o "$4" "$2"
}

tool actionlint github.com/rhysd/actionlint "$ACTIONLINT_VERSION" ./cmd/actionlint
tool kubeconform github.com/yannh/kubeconform "$KUBECONFORM_VERSION" ./cmd/kubeconform
tool kube-score github.com/zegl/kube-score "$KUBE_SCORE_VERSION" ./cmd/kube-score
# Its go.mod calls it golang.stackrox.io/kube-linter, a vanity import path whose host must be up.
tool kube-linter github.com/stackrox/kube-linter "$KUBE_LINTER_VERSION" ./cmd/kube-linter
tool helm-docs github.com/norwoodj/helm-docs "$HELM_DOCS_VERSION" ./cmd/helm-docs
tool helm-unittest github.com/helm-unittest/helm-unittest "$HELM_UNITTEST_VERSION" ./cmd/helm-unittest
# Without the clients of a dozen clouds that it would use for service discovery.
tool promtool github.com/prometheus/prometheus "$PROMTOOL_VERSION" ./cmd/promtool remove_all_sd
# Pushes an OCI layout without changing a byte of it.
tool crane github.com/google/go-containerregistry "$CRANE_VERSION" ./cmd/crane
tool helm helm.sh/helm/v4 "$HELM_4_VERSION" ./cmd/helm
tool helm helm.sh/helm/v3 "$HELM_OLDEST_VERSION" ./cmd/helm
tool helm helm.sh/helm/v3 "$HELM_VERSION" ./cmd/helm # last: .tools/helm links to this one

if [[ -z $only ]]; then exit; fi
tool act github.com/nektos/act "$ACT_VERSION" .
tool cosign github.com/sigstore/cosign/v3 "$COSIGN_VERSION" ./cmd/cosign
tool trivy github.com/aquasecurity/trivy "$TRIVY_VERSION" ./cmd/trivy
