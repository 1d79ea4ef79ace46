#!/usr/bin/env bash
# Creates the missing Secrets of each service's local release: for task-api these are task-api-tls (a self-signed
# certificate) and, since its chart has a database, task-api-database (a random password).
set -euo pipefail
CDPATH='' cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/cluster.sh

# Keys are written where no other user can read them, and never appear on a command line.
umask 077
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

has_secret() { [[ -n $(kubectl get secret "$1" --ignore-not-found --output name) ]]; }

certificate_lasts() {
  kubectl get secret "$service-tls" --output 'go-template={{ index .data "tls.crt" | base64decode }}' \
    | openssl x509 -noout -checkend $((7 * 24 * 3600)) > /dev/null
}

make_certificate() {
  # A file, not -addext: LibreSSL on older macOS does not support that option.
  cat > "$folder/request" << END
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = $service.local
[extensions]
subjectAltName = DNS:$service.local, DNS:$service.localhost
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
extendedKeyUsage = serverAuth
END
  openssl req -x509 -newkey rsa:2048 -nodes -days 365 -config "$folder/request" \
    -keyout "$folder/key" -out "$folder/certificate"
  kubectl create secret tls "$service-tls" --cert "$folder/certificate" --key "$folder/key" --dry-run=client --output yaml \
    | kubectl apply --filename -
}

# A value of the bundled PostgreSQL's environment in the chart: its user or database.
chart_variable() {
  helm template "$service" "platform/helm/$service" --show-only templates/postgres.yaml \
    | sed -n "/name: $1\$/{n;s/^ *value: *//p;}"
}

make_password() {
  local random
  random=$(openssl rand -hex 24)
  printf 'password=%s\nurl=postgresql://%s:%s@%s-postgres/%s\n' "$random" "$(chart_variable POSTGRES_USER)" "$random" \
    "$service" "$(chart_variable POSTGRES_DB)" \
    | kubectl create secret generic "$service-database" --from-env-file=/dev/stdin
}

for service in $(deployable_services); do
  if ! has_secret "$service-tls" || ! certificate_lasts; then make_certificate; fi
  if [[ -f platform/helm/$service/templates/postgres.yaml ]]; then
    has_secret "$service-database" || make_password
  fi
done
