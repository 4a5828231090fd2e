#!/usr/bin/env bash
# Starts a real Loki, ships the sample to it, asks for some records by label and structured metadata, and stops it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'tests/servers/loki/backend.sh stop "$dir"; rm -rf "$dir"' EXIT
tests/servers/loki/backend.sh provision
tests/servers/loki/backend.sh start "$dir"
LOKI_URL=$(cat "$dir/url")
export LOKI_URL
read -ra skidder <<<"${SKIDDER_BIN:-cargo run --quiet --bin skidder --}"
"${skidder[@]}" run --once -c examples/loki/pipeline.toml
curl -sG "$LOKI_URL/loki/api/v1/query_range" --data-urlencode 'query={namespace="catalog"} | pod="places-0"' --data-urlencode limit=3 |
  python3 -m json.tool --no-ensure-ascii --indent 1 | sed -n 1,60p
