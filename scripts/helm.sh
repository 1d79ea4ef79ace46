#!/usr/bin/env bash
# Changes a release with the Helm that is here, 3 or 4, in the same way: the release wins over what others changed in its
# objects, and each such field is said first.
#
#   scripts/helm.sh upgrade [--install] RELEASE CHART ...
#   scripts/helm.sh rollback RELEASE REVISION ...
#
# Helm 3 compares the revision before, the new one and what is there, and patches. Helm 4 applies server-side, where a field
# that somebody else changed is a conflict: it ends the upgrade, and the rollback after it. With --server-side=false it
# patches as Helm 3 does, a release of either kind, which keeps this kind from then on; Helm 3 does not know the flag.
# --force-conflicts would do it, too, but an owner that shares a field keeps it, so that one which the chart no longer has
# would stay after `make dev` or `kubectl apply`. Neither touches fields that are not in the chart, as `replicas` beside an
# autoscaler.
#
#   HELM_KUBECONTEXT   the context, of Helm and kubectl (without it: the current one)
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

release=$2
if [[ $release == --install ]]; then release=$3; fi

kubectl() { command kubectl ${HELM_KUBECONTEXT:+"--context=$HELM_KUBECONTEXT"} "$@"; }

# What the server says of an object's fields that have another value from somebody else, a line each. What Helm itself wrote
# is no news, nor what an autoscaler scaled.
taken_back() { # object
  awk -v object="$1" '
    /^- \./ && !ours { print "taken back: " object " " $2 " (" manager ")" }
    /conflicts? with "/ {
      manager = $0; sub(/.*conflicts? with "/, "", manager)
      ours = manager ~ /^helm"/ || manager ~ /^kube-controller-manager" with subresource "scale"/
      path = match(manager, /: \./) ? substr(manager, RSTART + 2) : ""
      sub(/".*/, "", manager)
      if (path && !ours) print "taken back: " object " " path " (" manager ")"
    }'
}

# The last revision is applied as a trial, by the manager that Helm is. In no file: there may be a Secret in it.
object() { printf '%s\n' "$object"; }
apply() { object | kubectl apply --server-side --field-manager=helm --filename - "$@" 3>&1 > /dev/null 2>&3; }
while IFS= read -r -d $'\036' object; do
  [[ -n $object ]] || continue
  name=$(object | awk '/^kind: / { kind = $2 } /^  name: / && !name { name = $2 } END { gsub(/"/, "", name); print kind, name }')
  said=$(apply --dry-run=server || true)
  changed=$(taken_back "$name" <<< "$said")
  if [[ -z $changed ]]; then continue; fi
  echo "$changed"
  # Of custom resources Helm patches what differs between two revisions, and does not look at what is there.
  if ! object | grep --quiet --extended-regexp '^apiVersion: (v1|(apps|autoscaling|batch|policy|networking.k8s.io)/.*)$'; then
    apply --force-conflicts || echo "Above is why $name could not be taken back. The release goes on without that."
  fi
done < <(helm get manifest "$release" 2> /dev/null | awk '/^---/ { printf "\036"; next } { print } END { printf "\036" }')

flags=()
case $(helm version --template '{{.Version}}') in v3.*) ;; *) flags=(--server-side=false) ;; esac
# One process takes the place of the other, so that a signal to this one is a signal to Helm.
exec helm "$@" ${flags[@]+"${flags[@]}"}
