#!/usr/bin/env bash
# Helm 4, a program and no server: `provision` builds it and prints its path. Beside it, in crds/, it puts the Prometheus operator's
# definitions of the objects that the chart has for it.
. "$(dirname "$0")/../lib.sh"
V=$(awk '$1 == "helm.sh/helm/v4" { print $2 }' "$HERE/go.mod")
BIN=$BACKENDS_CACHE/helm-$V/helm
OPERATOR=github.com/prometheus-operator/prometheus-operator@v0.85.0

provision() {
  if [ ! -x "$BIN" ]; then
    mkdir -p "${BIN%/*}"; cd "$HERE"
    local k='helm.sh/helm/v4/internal/version'
    CGO_ENABLED=0 nice -n 15 go build -p 2 -trimpath -buildvcs=false -ldflags "-s -w -X $k.version=$V" -o "$BIN.new" helm.sh/helm/v4/cmd/helm
    mv "$BIN.new" "$BIN"
  fi
  if [ ! -d "${BIN%/*}/crds" ]; then
    local source; source=$(cd / && go mod download -json "$OPERATOR" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
    mkdir -p "${BIN%/*}/crds.new"
    cp "$source"/example/prometheus-operator-crd/monitoring.coreos.com_{podmonitors,prometheusrules}.yaml "${BIN%/*}/crds.new"
    chmod -R u+w "${BIN%/*}/crds.new"
    mv "${BIN%/*}/crds.new" "${BIN%/*}/crds"
  fi
  echo "$BIN"
}

start() {
  echo "helm is no server: there is only provision" >&2
  return 64
}
main "$@"
