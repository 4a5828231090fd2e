#!/usr/bin/env bash
# VictoriaLogs from the VictoriaMetrics module at a release that still held it; later ones are not on the Go proxy.
. "$(dirname "$0")/../lib.sh"
V=${VM_VERSION:-v1.121.0}
BIN=$BACKENDS_CACHE/victorialogs-$V/victoria-logs

provision() {
  [ -x "$BIN" ] && return
  local w mod; w=$(mktemp -d); mkdir -p "${BIN%/*}"; cd "$w"
  mod=$(go mod download -json "github.com/VictoriaMetrics/VictoriaMetrics@$V" | python3 -c 'import json,sys; print(json.load(sys.stdin)["Dir"])')
  sed 's#^module .*#module vlbuild#' "$mod/go.mod" >go.mod; cp "$mod/go.sum" go.sum; chmod u+w go.mod go.sum
  go mod edit -require="github.com/VictoriaMetrics/VictoriaMetrics@$V"
  CGO_ENABLED=0 nice -n 15 go build -mod=mod -p 2 -trimpath -ldflags "-s -w" -o "$BIN.new" github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-logs
  mv "$BIN.new" "$BIN"; rm -rf "$w"
}

start() {
  local d=$1 p; p=$(port "$d" port)
  echo "http://127.0.0.1:$p" >"$d/url"
  spawn "$d" "$BIN" -storageDataPath="$d/data" -httpListenAddr="127.0.0.1:$p" -retentionPeriod=100y
  wait_up "$d" 30 curl -sf "$(cat "$d/url")/health"
}
main "$@"
