# shellcheck shell=bash
# services/SERVICE/local.env as variables, sourced with the repository as working directory; not every service has one.
# Existing environment variables take precedence.
if [[ -f services/$SERVICE/local.env ]]; then
  while IFS='=' read -r name value; do
    case $name in '' | '#'*) continue ;; esac
    if [[ -z ${!name:-} ]]; then export "$name=$value"; fi
  done < "services/$SERVICE/local.env"
fi
