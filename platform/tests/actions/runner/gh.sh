#!/bin/bash
# Stands in for GitHub's CLI: responds from the local repository that stands in for GitHub's, and from the gates of
# previous runs. Like the real one, it requires a token.
set -euo pipefail

if [[ -z ${GH_TOKEN:-} ]]; then
  echo 'gh: To use GitHub CLI in a GitHub Actions workflow, set the GH_TOKEN environment variable.' >&2
  exit 4
fi
note "gh $*"
case "$*" in
  "api repos/$GITHUB_REPOSITORY/commits/main --jq .sha") git --git-dir "$PIPELINE_ORIGIN" rev-parse refs/heads/main ;;
  "api repos/$GITHUB_REPOSITORY/commits/"*"/check-runs?check_name=Gate&filter=latest")
    commit=${2#"repos/$GITHUB_REPOSITORY/commits/"}
    conclusion=$(cat "$PIPELINE_ORIGIN/gates/${commit%%/*}" 2> /dev/null || true)
    jq --null-input --arg conclusion "$conclusion" '{check_runs: [$conclusion | select(. != "") | {conclusion: .}]}'
    ;;
  "release create "*" --verify-tag --title "*" --notes-file "*)
    git --git-dir "$PIPELINE_ORIGIN" rev-parse --quiet --verify "refs/tags/$3" > /dev/null
    cp "${*: -1}" "$PIPELINE_RUN/notes"
    ;;
  *)
    echo "gh $* is not supported by this stand-in. Add it to platform/tests/actions/runner/gh.sh." >&2
    exit 64
    ;;
esac
