#!/usr/bin/env bash
# Starts a real OpenTelemetry Collector, ships the sample to it, shows the first of what it wrote, and stops it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'tests/servers/otelcol/backend.sh stop "$dir"; rm -rf "$dir"' EXIT
tests/servers/otelcol/backend.sh provision
tests/servers/otelcol/backend.sh start "$dir"
OTLP_URL=http://$(cat "$dir/grpc")
export OTLP_URL
read -ra skidder <<<"${SKIDDER_BIN:-cargo run --quiet --bin skidder --}"
"${skidder[@]}" run --once -c examples/otlp/pipeline.toml
# A line of its output is a request: resources, and their records.
head -n 1 "$dir/out.jsonl" | python3 -m json.tool --no-ensure-ascii --indent 1 | sed -n 1,120p
