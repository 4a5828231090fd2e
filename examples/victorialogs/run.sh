#!/usr/bin/env bash
# Ships the sample to a real VictoriaLogs, and asks for some records by field.
# shellcheck source=examples/server.sh
source "$(dirname "$0")/../server.sh" victorialogs
VICTORIALOGS_URL=$(cat "$dir/url")
export VICTORIALOGS_URL
skidder run --once -c examples/victorialogs/pipeline.toml
# What was taken is to be found a moment later.
query() { curl -sS "$VICTORIALOGS_URL/select/logsql/query" --data-urlencode "query=$1"; }
for _ in $(seq 50); do
  case $(query '* | stats count() records') in *'"48"'*) break ;; esac
  sleep 0.1
done
query '* | stats by (kubernetes.pod_namespace) count() records'
query 'kubernetes.pod_namespace:catalog | sort by (_time) | limit 3 | fields _time, kubernetes.pod_name, level, _msg'
