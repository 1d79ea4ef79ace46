#!/usr/bin/env bash
# Makes the two secrets that the local release needs, where they are not there yet:
# task-api-tls (a self-signed certificate) and task-api-database (a random password).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
. scripts/cluster.sh

# Keys are written where no other user can read them, and never stand in a command line.
umask 077
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

has_secret() { [[ -n $(kubectl get secret "$1" --ignore-not-found --output name) ]]; }

certificate_lasts() {
  kubectl get secret task-api-tls --output 'go-template={{ index .data "tls.crt" | base64decode }}' \
    | openssl x509 -noout -checkend $((7 * 24 * 3600)) > /dev/null
}

if ! has_secret task-api-tls || ! certificate_lasts; then
  # A file, not -addext: the LibreSSL of older macOS does not know that option.
  cat > "$folder/request" << 'END'
[req]
prompt = no
distinguished_name = name
x509_extensions = extensions
[name]
CN = task-api.local
[extensions]
subjectAltName = DNS:task-api.local, DNS:task-api.localhost
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
extendedKeyUsage = serverAuth
END
  openssl req -x509 -newkey rsa:2048 -nodes -days 365 -config "$folder/request" \
    -keyout "$folder/key" -out "$folder/certificate"
  kubectl create secret tls task-api-tls --cert "$folder/certificate" --key "$folder/key" --dry-run=client --output yaml \
    | kubectl apply --filename -
fi

if ! has_secret task-api-database; then
  password=$(openssl rand -hex 24)
  printf 'password=%s\nurl=postgresql://tasks:%s@task-api-postgres/tasks\n' "$password" "$password" \
    | kubectl create secret generic task-api-database --from-env-file=/dev/stdin
fi
