#!/usr/bin/env bash
# Makes what the pipeline deploys with: a service account with the rights of platform/deployer/role.yaml in one
# namespace, and a kubeconfig with a token of it, as the file kubeconfig-ci-NAMESPACE. Run it with a kubeconfig that
# may make roles there; again for a new token, which ends the old one.
#
#   KUBECONFIG=... scripts/kubeconfig-ci.sh NAMESPACE
#
#   TOKEN_DURATION (2160h)   how long the token is to live; clusters may give it less, and the end is printed
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/isolate.sh

if (($# != 1)); then
  echo "Usage: $0 NAMESPACE" >&2
  exit 2
fi
namespace=$1
account=task-api-deployer
file=kubeconfig-ci-$namespace
if [[ -z ${KUBECONFIG:-} ]]; then
  echo "Which cluster? Set KUBECONFIG to the kubeconfig of somebody who may make roles there." >&2
  exit 2
fi
if ! kubectl get namespace "$namespace" --output name > /dev/null; then
  echo "The namespace $namespace cannot be seen. Make it: kubectl create namespace $namespace" >&2
  exit 1
fi
namespaced() { kubectl --namespace "$namespace" "$@"; }

namespaced apply --filename platform/deployer/role.yaml > /dev/null
# The token lives as long as this Secret at most: a new one, or none, ends it.
namespaced delete secret "$account-token" --ignore-not-found > /dev/null
namespaced create secret generic "$account-token" > /dev/null
token=$(namespaced create token "$account" --duration "${TOKEN_DURATION:-2160h}" \
  --bound-object-kind Secret --bound-object-name "$account-token")

cluster() { kubectl config view --minify --flatten --raw --output "jsonpath={.clusters[0].cluster.$1}"; }
server=$(cluster server)
authority=$(cluster certificate-authority-data)
if [[ -z $authority ]]; then
  # Where the API server's certificate is one that every machine trusts, there is nothing to give.
  echo "The kubeconfig has no certificate authority: the runner must trust $server by itself." >&2
fi

umask 077
rm -f "$file"
cat > "$file" << END
apiVersion: v1
kind: Config
clusters:
  - name: production
    cluster:
      server: $server${authority:+
      certificate-authority-data: $authority}
users:
  - name: $account
    user:
      token: $token
contexts:
  - name: production
    context:
      cluster: production
      user: $account
      namespace: $namespace
current-context: production
END

ends=$("${PYTHON:-python3}" -c '
import base64, datetime, json, sys
payload = sys.stdin.read().split(".")[1]
ends = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
print(datetime.datetime.fromtimestamp(ends, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))' <<< "$token")

cat << END
Wrote $file for $server, namespace $namespace, good until $ends.

  See that it works   KUBECONFIG=$file kubectl auth can-i list pods
  As the secret       base64 < $file | tr -d '\\n' | gh secret set KUBE_CONFIG --env production
  Then remove it      rm $file
  To end its token    kubectl --namespace $namespace delete secret $account-token
END
case $server in
  *127.0.0.1* | *localhost*) echo "Only this machine reaches $server: a runner on GitHub cannot." ;;
esac
