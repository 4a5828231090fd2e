#!/usr/bin/env bash
# Makes the table in a real ClickHouse, ships the sample to it, and asks for some rows.
# shellcheck source=examples/server.sh
source "$(dirname "$0")/../server.sh" chdb
CLICKHOUSE_URL=$(cat "$dir/url")
export CLICKHOUSE_URL
skidder init clickhouse | curl -sS --fail-with-body "$CLICKHOUSE_URL/" --data-binary @-
skidder run --once -c examples/clickhouse/pipeline.toml
curl -sS "$CLICKHOUSE_URL/" -d "SELECT Timestamp, ServiceName, SeverityText, Body FROM otel_logs WHERE ResourceAttributes['k8s.namespace.name'] = 'catalog' ORDER BY Timestamp LIMIT 3 FORMAT Vertical"
