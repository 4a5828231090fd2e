#!/usr/bin/env bash
# Starts a real Elasticsearch, gives it the index template, ships the sample to it twice, counts, and stops it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'tests/servers/elasticsearch/backend.sh stop "$dir"; rm -rf "$dir"' EXIT
tests/servers/elasticsearch/backend.sh provision
tests/servers/elasticsearch/backend.sh start "$dir"
ELASTICSEARCH_URL=$(cat "$dir/url")
export ELASTICSEARCH_URL
read -ra skidder <<<"${SKIDDER_BIN:-cargo run --quiet --bin skidder --}"
pipeline=examples/elasticsearch/pipeline.toml
"${skidder[@]}" init elasticsearch -c "$pipeline" |
  curl -sS --fail-with-body -X PUT -H 'Content-Type: application/json' --data-binary @- "$ELASTICSEARCH_URL/_index_template/skidder-store"
echo
"${skidder[@]}" validate -c "$pipeline"
for _ in once twice; do
  "${skidder[@]}" run --once -c "$pipeline"
  curl -sS -X POST "$ELASTICSEARCH_URL/travel-*/_refresh" >"$dir/refreshed"
  curl -sS "$ELASTICSEARCH_URL/travel-*/_count?q=kubernetes.pod_namespace:catalog"
  echo
done
