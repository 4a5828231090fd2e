#!/usr/bin/env bash
# Loki as one binary, built from the Go module proxy: 11 minutes of processor time, once.
. "$(dirname "$0")/../lib.sh"
V=${LOKI_VERSION:-v3.7.8}
BIN=$BACKENDS_CACHE/loki-$V/loki

provision() {
  [ -x "$BIN" ] && return
  local w mod; w=$(mktemp -d); mkdir -p "${BIN%/*}"; cd "$w"
  mod=$(go mod download -json "github.com/grafana/loki/v3@$V" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')
  # `go install pkg@v` refuses modules with replaces: so a main module with Loki's own go.mod and go.sum. The replacement of
  # ./pkg/push is dropped: the nested module is not in the zip.
  sed -e 's#^module .*#module lokibuild#' -e '\#^replace github.com/grafana/loki/pkg/push #d' "$mod/go.mod" >go.mod
  cp "$mod/go.sum" go.sum; chmod u+w go.mod go.sum; go mod edit -require="github.com/grafana/loki/v3@$V"
  CGO_ENABLED=0 nice -n 15 go build -mod=mod -p 2 -tags netgo -trimpath \
    -ldflags "-s -w -X github.com/grafana/loki/v3/pkg/util/build.Version=${V#v}" -o "$BIN.new" github.com/grafana/loki/v3/cmd/loki
  mv "$BIN.new" "$BIN"; rm -rf "$w"
}

# Further arguments of start are Loki's flags, which go before the file: `-validation.max-line-size=1KB`.
start() {
  local d=$1 p g; p=$(port "$d" port); g=$(port "$d" grpc_port); shift
  echo "http://127.0.0.1:$p" >"$d/url"
  cat >"$d/loki.yaml" <<E
auth_enabled: false
server: {http_listen_address: 127.0.0.1, http_listen_port: $p, grpc_listen_address: 127.0.0.1, grpc_listen_port: $g, log_level: warn}
common:
  path_prefix: $d/data
  instance_addr: 127.0.0.1
  replication_factor: 1
  ring: {instance_addr: 127.0.0.1, kvstore: {store: inmemory}}
  storage: {filesystem: {chunks_directory: $d/data/chunks, rules_directory: $d/data/rules}}
schema_config:
  configs: [{from: 2024-01-01, store: tsdb, object_store: filesystem, schema: v13, index: {prefix: index_, period: 24h}}]
ingester: {lifecycler: {min_ready_duration: 0s, final_sleep: 0s}}
limits_config: {reject_old_samples: false, allow_structured_metadata: true, ingestion_rate_mb: 512, ingestion_burst_size_mb: 512, per_stream_rate_limit: 512MB, per_stream_rate_limit_burst: 512MB}
analytics: {reporting_enabled: false}
E
  spawn "$d" "$BIN" -config.file="$d/loki.yaml" -target=all "$@"
  wait_up "$d" 120 curl -sf "$(cat "$d/url")/ready"
}
main "$@"
