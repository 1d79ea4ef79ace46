#!/usr/bin/env bash
# Creates the pipeline's credentials: a service account with the permissions of platform/deployer/role.yaml in one
# namespace, and a kubeconfig with a token for it, in the file kubeconfig-ci-NAMESPACE. Run it with a kubeconfig that
# may create roles there; rerun it for a new token, which revokes the old one.
#
#   KUBECONFIG=... scripts/kubeconfig-ci.sh NAMESPACE
#
#   TOKEN_DURATION (2160h)   requested lifetime of the token; clusters may shorten it, and the expiry is printed
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
  echo "No cluster given. Set KUBECONFIG to a kubeconfig whose user may create roles there." >&2
  exit 2
fi
if ! kubectl get namespace "$namespace" --output name > /dev/null; then
  echo "The namespace $namespace does not exist or is not readable. Create it: kubectl create namespace $namespace" >&2
  exit 1
fi
namespaced() { kubectl --namespace "$namespace" "$@"; }

namespaced apply --filename platform/deployer/role.yaml > /dev/null
# The token is bound to this Secret: replacing or deleting it revokes the token.
namespaced delete secret "$account-token" --ignore-not-found > /dev/null
namespaced create secret generic "$account-token" > /dev/null
token=$(namespaced create token "$account" --duration "${TOKEN_DURATION:-2160h}" \
  --bound-object-kind Secret --bound-object-name "$account-token")

cluster() { kubectl config view --minify --flatten --raw --output "jsonpath={.clusters[0].cluster.$1}"; }
server=$(cluster server)
authority=$(cluster certificate-authority-data)
if [[ -z $authority ]]; then
  # If the API server has a publicly trusted certificate, there is none to include.
  echo "The kubeconfig has no certificate authority: the runner must already trust $server." >&2
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

expiry=$("${PYTHON:-python3}" -c '
import base64, datetime, json, sys
payload = sys.stdin.read().split(".")[1]
ends = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))["exp"]
print(datetime.datetime.fromtimestamp(ends, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"))' <<< "$token")

cat << END
Wrote $file for $server, namespace $namespace, valid until $expiry.

  Verify it           KUBECONFIG=$file kubectl auth can-i list pods
  Set as secret       base64 < $file | tr -d '\\n' | gh secret set KUBE_CONFIG --env production
  Then delete it      rm $file
  Revoke its token    kubectl --namespace $namespace delete secret $account-token
END
case $server in
  *127.0.0.1* | *localhost*) echo "$server is only reachable from this machine, not from a runner on GitHub." ;;
esac
