#!/usr/bin/env bash
# The references are those that the action makes: a branch by its name, a tag or a pull request's merge without one.
set -euo pipefail

case $GITHUB_REF in
  refs/heads/*) reference=refs/remotes/origin/${GITHUB_REF#refs/heads/} as=(-B "${GITHUB_REF#refs/heads/}") ;;
  refs/pull/*) reference=refs/remotes/${GITHUB_REF#refs/} as=(--detach) ;;
  *) reference=$GITHUB_REF as=(--detach) ;;
esac
git init --quiet .
git remote add origin "file://$PIPELINE_ORIGIN"
if [[ $DEPTH == 0 ]]; then
  git fetch --quiet origin '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'
  git fetch --quiet origin "+$GITHUB_SHA:$reference"
else
  git fetch --quiet --no-tags --depth "$DEPTH" origin "+$GITHUB_SHA:$reference"
fi
git -c advice.detachedHead=false checkout --quiet "${as[@]}" "$reference"

ln -s "$PIPELINE_TOOLS" .tools
echo /.tools >> .git/info/exclude # .gitignore names a folder, and this is a link
note "check out $(git rev-parse HEAD), depth $DEPTH, credentials kept: $PERSIST"
