#!/usr/bin/env bash
# Creates the same refs as the action: a local branch for a branch; a detached HEAD for a tag or a pull request's merge.
set -euo pipefail

case $GITHUB_REF in
  refs/heads/*) ref=refs/remotes/origin/${GITHUB_REF#refs/heads/} as=(-B "${GITHUB_REF#refs/heads/}") ;;
  refs/pull/*) ref=refs/remotes/${GITHUB_REF#refs/} as=(--detach) ;;
  *) ref=$GITHUB_REF as=(--detach) ;;
esac
git init --quiet .
git remote add origin "file://$PIPELINE_ORIGIN"
if [[ $DEPTH == 0 ]]; then
  git fetch --quiet origin '+refs/heads/*:refs/remotes/origin/*' '+refs/tags/*:refs/tags/*'
  git fetch --quiet origin "+$GITHUB_SHA:$ref"
else
  git fetch --quiet --no-tags --depth "$DEPTH" origin "+$GITHUB_SHA:$ref"
fi
git -c advice.detachedHead=false checkout --quiet "${as[@]}" "$ref"

ln -s "$PIPELINE_TOOLS" .tools
note "check out $(git rev-parse HEAD), depth $DEPTH, persist-credentials $PERSIST"
