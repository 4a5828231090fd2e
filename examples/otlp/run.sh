#!/usr/bin/env bash
# Ships the sample to a real OpenTelemetry Collector, and shows the first of what it wrote.
# shellcheck source=examples/server.sh
source "$(dirname "$0")/../server.sh" otelcol
OTLP_URL=http://$(cat "$dir/grpc")
export OTLP_URL
skidder run --once -c examples/otlp/pipeline.toml
# A line of its output is a request: resources, and their records.
head -n 1 "$dir/out.jsonl" | python3 -m json.tool --no-ensure-ascii --indent 1 | sed -n 1,120p
