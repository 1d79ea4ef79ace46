# shellcheck shell=bash
# versions.env as variables, sourced with the repository as working directory. What the environment says already wins.
while IFS='=' read -r name value; do
  case $name in '' | '#'*) continue ;; esac
  if [[ -z ${!name:-} ]]; then export "$name=$value"; fi
done < versions.env
