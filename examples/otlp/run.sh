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
skidder=(${SKIDDER_BIN:-cargo run --quiet --bin skidder --})
"${skidder[@]}" run --once -c examples/otlp/pipeline.toml
head -c 2000 "$dir/out.jsonl"
echo
