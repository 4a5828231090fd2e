#!/usr/bin/env bash
# Gives a real Elasticsearch the index template, ships the sample to it twice, and counts.
# shellcheck source=examples/server.sh
source "$(dirname "$0")/../server.sh" elasticsearch
ELASTICSEARCH_URL=$(cat "$dir/url")
export ELASTICSEARCH_URL
pipeline=examples/elasticsearch/pipeline.toml
skidder init elasticsearch -c "$pipeline" |
  curl -sS --fail-with-body -X PUT -H 'Content-Type: application/json' --data-binary @- "$ELASTICSEARCH_URL/_index_template/skidder-store"
echo
skidder validate -c "$pipeline"
for _ in once twice; do
  skidder run --once -c "$pipeline"
  curl -sS -X POST "$ELASTICSEARCH_URL/travel-*/_refresh" >"$dir/refreshed"
  curl -sS "$ELASTICSEARCH_URL/travel-*/_count?q=kubernetes.pod_namespace:catalog"
  echo
done
