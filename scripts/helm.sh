#!/usr/bin/env bash
# Changes a release in the same way with Helm 3 and Helm 4, whichever is installed: the release overrides fields of its
# objects that others changed, and prints each such field first.
#
#   scripts/helm.sh upgrade [--install] RELEASE CHART ...
#   scripts/helm.sh rollback RELEASE REVISION ...
#
# Helm 3 patches by a three-way merge of the previous revision, the new one and the live objects. Helm 4 uses
# server-side apply, where a field changed by another manager is a conflict: it fails the upgrade, and the rollback
# after it. With --server-side=false it patches like Helm 3, for a release of either kind, which keeps this kind from
# then on; Helm 3 does not have the flag. --force-conflicts would also work, but another manager that shares a field
# keeps it, so that a field dropped from the chart would stay after `make dev` or `kubectl apply`. Neither changes
# fields that are not in the chart, such as `replicas` with an autoscaler.
#
#   HELM_KUBECONTEXT   the context for Helm and kubectl (default: the current one)
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

release=$2
if [[ $release == --install ]]; then release=$3; fi

kubectl() { command kubectl ${HELM_KUBECONTEXT:+"--context=$HELM_KUBECONTEXT"} "$@"; }

# The conflicts that the server reports, one line per field. Fields that Helm itself wrote, or that an autoscaler
# scaled, are not reported.
reverted_fields() { # object
  awk -v object="$1" '
    /^- \./ && !own { print "reverted: " object " " $2 " (" manager ")" }
    /conflicts? with "/ {
      manager = $0; sub(/.*conflicts? with "/, "", manager)
      own = manager ~ /^helm"/ || manager ~ /^kube-controller-manager" with subresource "scale"/
      path = match(manager, /: \./) ? substr(manager, RSTART + 2) : ""
      sub(/".*/, "", manager)
      if (path && !own) print "reverted: " object " " path " (" manager ")"
    }'
}

# A dry run applies the last revision with Helm's field manager. Not through a file: it may contain a Secret.
object() { printf '%s\n' "$object"; }
apply() { object | kubectl apply --server-side --field-manager=helm --filename - "$@" 3>&1 > /dev/null 2>&3; }
while IFS= read -r -d $'\036' object; do
  [[ -n $object ]] || continue
  name=$(object | awk '/^kind: / { kind = $2 } /^  name: / && !name { name = $2 } END { gsub(/"/, "", name); print kind, name }')
  conflicts=$(apply --dry-run=server || true)
  reverted=$(reverted_fields "$name" <<< "$conflicts")
  if [[ -z $reverted ]]; then continue; fi
  echo "$reverted"
  # For custom resources Helm patches the difference between two revisions, and ignores the live object.
  if ! object | grep --quiet --extended-regexp '^apiVersion: (v1|(apps|autoscaling|batch|policy|networking.k8s.io)/.*)$'; then
    apply --force-conflicts || echo "Reverting $name failed (see above). The release continues without it."
  fi
done < <(helm get manifest "$release" 2> /dev/null | awk '/^---/ { printf "\036"; next } { print } END { printf "\036" }')

flags=()
case $(helm version --template '{{.Version}}') in v3.*) ;; *) flags=(--server-side=false) ;; esac
# exec, so that a signal to this process is a signal to Helm.
exec helm "$@" ${flags[@]+"${flags[@]}"}
