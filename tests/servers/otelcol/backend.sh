#!/usr/bin/env bash
# A small OpenTelemetry Collector (main.go): OTLP by gRPC and HTTP in, DIR/out.jsonl out. While DIR/fail exists, exports fail.
# DIR/url is that of HTTP, DIR/grpc the address of gRPC.
. "$(dirname "$0")/../lib.sh"
V=v0.149.0
BIN=$BACKENDS_CACHE/otelcol-$V/otelcol

provision() {
  [ -x "$BIN" ] && return
  mkdir -p "${BIN%/*}"; cd "$HERE"
  CGO_ENABLED=0 nice -n 15 go build -p 2 -trimpath -ldflags "-s -w" -o "$BIN.new" .
  mv "$BIN.new" "$BIN"
}

start() {
  local d=$1 g h; h=$(port "$d" port); g=$(port "$d" grpc_port)
  echo "http://127.0.0.1:$h" >"$d/url"; echo "127.0.0.1:$g" >"$d/grpc"
  cat >"$d/config.yaml" <<E
receivers: {otlp: {protocols: {grpc: {endpoint: "127.0.0.1:$g"}, http: {endpoint: "127.0.0.1:$h"}}}}
exporters: {jsonl: {path: $d/out.jsonl, fail_file: $d/fail}}
service:
  telemetry: {metrics: {level: none}, logs: {level: warn}}
  pipelines: {logs: {receivers: [otlp], exporters: [jsonl]}, traces: {receivers: [otlp], exporters: [jsonl]}}
E
  spawn "$d" "$BIN" --config "file:$d/config.yaml"
  wait_up "$d" 60 bash -c "exec 3<>/dev/tcp/127.0.0.1/$h && exec 4<>/dev/tcp/127.0.0.1/$g"
}
main "$@"
