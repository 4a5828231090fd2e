#!/usr/bin/env bash
# Ships the sample to a real Loki, and asks for some records by label and structured metadata.
# shellcheck source=examples/server.sh
source "$(dirname "$0")/../server.sh" loki
LOKI_URL=$(cat "$dir/url")
export LOKI_URL
skidder run --once -c examples/loki/pipeline.toml
curl -sG "$LOKI_URL/loki/api/v1/query_range" --data-urlencode 'query={namespace="catalog"} | pod="places-0"' --data-urlencode limit=3 |
  python3 -m json.tool --no-ensure-ascii --indent 1 | sed -n 1,60p
