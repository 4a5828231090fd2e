#!/usr/bin/env bash
# Starts a real ClickHouse, makes the table, ships the sample to it, asks for some rows, and stops it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'tests/servers/chdb/backend.sh stop "$dir"; rm -rf "$dir"' EXIT
tests/servers/chdb/backend.sh provision
tests/servers/chdb/backend.sh start "$dir"
CLICKHOUSE_URL=$(cat "$dir/url")
export CLICKHOUSE_URL
read -ra skidder <<<"${SKIDDER_BIN:-cargo run --quiet --bin skidder --}"
"${skidder[@]}" init clickhouse | curl -sS --fail-with-body "$CLICKHOUSE_URL/" --data-binary @-
"${skidder[@]}" run --once -c examples/clickhouse/pipeline.toml
curl -sS "$CLICKHOUSE_URL/" -d "SELECT Timestamp, ServiceName, SeverityText, Body FROM otel_logs WHERE ResourceAttributes['k8s.namespace.name'] = 'catalog' ORDER BY Timestamp LIMIT 3 FORMAT Vertical"
