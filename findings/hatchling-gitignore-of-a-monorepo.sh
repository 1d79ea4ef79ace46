#!/usr/bin/env bash
# Guess: hatchling excludes from a package what Git ignores there: `/build` in the .gitignore at the root of a repository means only the
# directory at the root, and a .gitignore in a subdirectory applies below it.
# What happens: it uses only one file, the nearest .gitignore in the project's directory or above, and reads it as if it were in the
# project's directory. So the sdist of `app` lacks `app/build`, which Git tracks, and the wheel contains what `app/src/.gitignore`
# ignores.
# Packages: hatchling 1.33.0
# Source: https://git-scm.com/docs/gitignore#_pattern_format
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv v
v/bin/pip install --quiet --disable-pip-version-check hatchling==1.33.0

mkdir -p repository/app/{build,src/app}
cd repository
git init --quiet
echo /build > .gitignore
echo '*.tmp' > app/src/.gitignore
touch app/build/rules.txt app/src/app/{__init__.py,scratch.tmp}
cat > app/pyproject.toml << 'TOML'
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "app"
version = "1"

[tool.hatch.build.targets.wheel]
packages = ["src/app"]
TOML
git add .
by_git=$(git ls-files app/build app/src/app | xargs)
cd app
"$folder/v/bin/python" -m hatchling build > "$folder/log" 2>&1 || { cat "$folder/log" && exit 1; }
of_wheel=$("$folder/v/bin/python" -m zipfile -l dist/app-1-*.whl | grep -o '^app/[^ ]*' | xargs)
of_sdist=$(tar -tzf dist/app-1.tar.gz | sed -n 's/^app-1\///p' | grep -E '^build|\.tmp$' | xargs)
printf 'Git tracks: %s\nwheel contains: %s\nsdist contains of build and *.tmp: %s\n' "$by_git" "$of_wheel" "$of_sdist"
if [[ "$by_git" != 'app/build/rules.txt app/src/app/__init__.py' || "$of_wheel" != 'app/__init__.py app/scratch.tmp' ||
  "$of_sdist" != src/app/scratch.tmp ]]; then
  echo "Changed: expected scratch.tmp in both, and no build/rules.txt in the sdist" >&2
  exit 1
fi
