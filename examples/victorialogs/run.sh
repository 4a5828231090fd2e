#!/usr/bin/env bash
# Starts a real VictoriaLogs, ships the sample to it, asks for some records by field, and stops it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'tests/servers/victorialogs/backend.sh stop "$dir"; rm -rf "$dir"' EXIT
tests/servers/victorialogs/backend.sh provision
tests/servers/victorialogs/backend.sh start "$dir"
VICTORIALOGS_URL=$(cat "$dir/url")
export VICTORIALOGS_URL
read -ra skidder <<<"${SKIDDER_BIN:-cargo run --quiet --bin skidder --}"
"${skidder[@]}" run --once -c examples/victorialogs/pipeline.toml
# What was taken is to be found a moment later.
query() { curl -sS "$VICTORIALOGS_URL/select/logsql/query" --data-urlencode "query=$1"; }
for _ in $(seq 50); do
  case $(query '* | stats count() records') in *'"48"'*) break ;; esac
  sleep 0.1
done
query '* | stats by (kubernetes.pod_namespace) count() records'
query 'kubernetes.pod_namespace:catalog | sort by (_time) | limit 3 | fields _time, kubernetes.pod_name, level, _msg'
