#!/usr/bin/env bash
# server-logs.sh DIR: logs of real servers at high verbosity, for counting what redaction takes out of lines that hold no one's
# data. One file a server under DIR, cut at $MOST bytes; what is there already is kept. `cargo xtask redaction` calls this.
# The servers are those of tests/servers and tests/kube, provisioned by them; PostgreSQL is the machine's own, where there is one.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
SERVERS=$HERE/../servers KUBE=$HERE/../kube
OUT=$(mkdir -p "${1:?DIR}" && cd "$1" && pwd)
MOST=${MOST:-16000000}
export OWNER_PID=$$ no_proxy=127.0.0.1,localhost NO_PROXY=127.0.0.1,localhost
WORK=$(mktemp -d)
trap 'stop_all; rm -rf "$WORK"' EXIT

stop_all() {
  for server in "$WORK"/*/pid; do [ -s "$server" ] && kill -9 "$(cat "$server")" 2>/dev/null || true; done
  [ -s "$WORK/postgresql/db/postmaster.pid" ] && kill -QUIT "$(head -1 "$WORK/postgresql/db/postmaster.pid")" || true
  [ -e "$WORK/kube/mode" ] && KRUN=$WORK/kube "$KUBE/stop.sh" >/dev/null 2>&1 || true
}

# keep FILE NAME: the first $MOST bytes of a log, whole lines.
keep() {
  head -c "$MOST" "$1" | sed '$d' >"$OUT/$2.new"
  mv "$OUT/$2.new" "$OUT/$2.log"
  echo "$2: $(stat -c %s "$OUT/$2.log") bytes" >&2
}

# ask COUNT URL [OPTION…]: one connection, COUNT requests.
ask() { curl -sS -o /dev/null --max-time 240 "${@:3}" "$2[1-$1]" || true; }

loki() {
  "$SERVERS/loki/backend.sh" provision
  "$SERVERS/loki/backend.sh" start "$WORK/loki" -log.level=debug >/dev/null
  local url; url=$(cat "$WORK/loki/url")
  local second; second=$(date +%s)
  ask 400 "$url/loki/api/v1/push?n=" -H 'content-type: application/json' \
    -d '{"streams":[{"stream":{"app":"shop","level":"info"},"values":[["'"$second"'000000000","request took 12 ms"],["'"$second"'000000001","cache is warm"]]}]}'
  ask 4000 "$url/loki/api/v1/query_range?limit=5&query=%7Bapp%3D%22shop%22%7D&n="
  keep "$WORK/loki/log" loki
}

# Java servers: what log4j2 says where no configuration is.
verbose=(env 'JAVA_TOOL_OPTIONS=-Dlog4j2.level=DEBUG -Dorg.apache.logging.log4j.level=DEBUG')

elasticsearch() {
  export ES_VERSION=9.2.0
  "$SERVERS/elasticsearch/backend.sh" provision
  "${verbose[@]}" "$SERVERS/elasticsearch/backend.sh" start "$WORK/es" logger.level=TRACE >/dev/null
  local url; url=$(cat "$WORK/es/url")
  ask 1500 "$url/orders/_doc?n=" -H 'content-type: application/json' -d '{"item":"table","price":12.5,"at":"2026-01-02T03:04:05Z"}'
  ask 300 "$url/orders/_search?q=item:table&n="
  ask 40 "$url/index-n" -X PUT
  keep "$WORK/es/log" elasticsearch
}

kafka() {
  "$SERVERS/kafka/backend.sh" provision
  "${verbose[@]/DEBUG/TRACE}" "$SERVERS/kafka/backend.sh" start "$WORK/kafka" >/dev/null
  for topic in orders stock; do
    "$SERVERS/kafka/backend.sh" tool org.apache.kafka.tools.ProducerPerformance --topic $topic --num-records 3000 --record-size 100 \
      --throughput 500 --producer-props "bootstrap.servers=$(cat "$WORK/kafka/url")" batch.size=100 >/dev/null 2>&1 || true
  done
  keep "$WORK/kafka/log" kafka
}

kubernetes() {
  "$KUBE/provision.sh" api >/dev/null
  export KRUN=$WORK/kube KUBE_ETCD_LOG=debug
  API_FLAGS="-v=8" "$KUBE/start.sh" api >/dev/null
  . "$KRUN/env"
  local auth=(--cacert "$KUBE_CA" -H "Authorization: Bearer $KUBE_TOKEN")
  local map='{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"settings-"},"data":{"level":"info"}}'
  ask 3000 "$KUBE_API/api/v1/namespaces/default/configmaps?n=" "${auth[@]}" -H 'content-type: application/json' -d "$map"
  ask 6000 "$KUBE_API/api/v1/namespaces/default/configmaps?limit=2&n=" "${auth[@]}"
  ask 3000 "$KUBE_API/apis/apps/v1/deployments?n=" "${auth[@]}"
  keep "$KRUN/kube-apiserver.log" kube-apiserver
  keep "$KRUN/etcd.log" etcd
  keep "$KRUN/audit.log" kube-apiserver-audit
}

postgresql() {
  local bin; bin=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
  [ -n "$bin" ] || { echo 'postgresql: none on this machine' >&2; return 0; }
  local data=$WORK/postgresql as=()
  mkdir -p "$data"
  # It does not run as root.
  if [ "$(id -u)" = 0 ]; then chmod 711 "$WORK"; chown nobody "$data"; as=(setpriv --reuid=nobody --clear-groups); fi
  "${as[@]}" "$bin/initdb" -A trust -U app "$data/db" >/dev/null
  "${as[@]}" "$bin/pg_ctl" -w -D "$data/db" -l "$data/log" -o "-c listen_addresses= -c unix_socket_directories=$data -c log_statement=all -c log_duration=on -c log_connections=on -c log_line_prefix='%m [%p] %q%u@%d '" start >/dev/null
  "${as[@]}" "$bin/pgbench" -h "$data" -U app -i -q -s 2 postgres >/dev/null 2>&1
  "${as[@]}" "$bin/pgbench" -h "$data" -U app -c 4 -T "${SECONDS_POSTGRESQL:-25}" postgres >/dev/null 2>&1
  "${as[@]}" "$bin/pg_ctl" -D "$data/db" -m immediate stop >/dev/null
  keep "$data/log" postgresql
}

for server in loki kubernetes postgresql elasticsearch kafka; do
  name=$server; [ $server = kubernetes ] && name=kube-apiserver
  [ -s "$OUT/$name.log" ] || $server || echo "$server: no logs" >&2
done
