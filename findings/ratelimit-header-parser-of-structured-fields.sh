#!/usr/bin/env bash
# Guess: a parser of rate limit headers supports the newest IETF draft, a name with parameters, as in `RateLimit: "default";r=50;t=30`; or
# it reports that it found nothing.
# What happens: ratelimit-header-parser supports only older drafts. It parses the newest form into an object in which every number is NaN
# and `reset` is an invalid date; it returns `undefined` only if there is no such header. Code that compares `remaining` with 0 never
# waits.
# Packages: npm ratelimit-header-parser 0.1.0
# Source: https://datatracker.ietf.org/doc/html/draft-ietf-httpapi-ratelimit-headers-10#section-4
# Date: 2026-11-30
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
npm install --silent --no-fund --no-audit --prefix . ratelimit-header-parser@0.1.0 > /dev/null

cat > parse.mjs << 'JS'
import { parseRateLimit } from "ratelimit-header-parser"

const actual = []
for (const headers of [
  { RateLimit: "limit=100, remaining=50, reset=30" },
  { RateLimit: '"default";r=50;t=30', "RateLimit-Policy": '"default";q=100;w=60' },
  { Date: "Mon, 30 Nov 2026 00:00:00 GMT" },
]) {
  const read = parseRateLimit(new Headers(headers))
  console.log(headers, read)
  actual.push(read?.remaining)
}
if (JSON.stringify(actual.map(String)) !== '["50","NaN","undefined"]') {
  console.error("Changed: expected 50, NaN and undefined")
  process.exit(1)
}
JS
node parse.mjs
