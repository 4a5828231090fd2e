#!/bin/bash
# ctl.sh kill NAME    ends one of the processes that start.sh api started, at once
# ctl.sh start NAME   starts it again with the arguments that it had
# ctl.sh wait         waits until the API server answers
# ctl.sh compact      forgets all history that etcd has
set -euo pipefail
cd "$(dirname "$0")"; . ./lib.sh; . "$RUN/env"
case $1 in
kill)
  p=$(cat "$RUN/$2.pid"); kill -9 "$p"
  while [ -d "/proc/$p" ] && ! grep -q '^State:.Z' "/proc/$p/status" 2>/dev/null; do sleep 0.05; done ;;
start) eval "set -- $2 $(cat "$RUN/$2.cmd")"; spawn "$@" ;;
wait) wait_ready "$KUBE_API" "$KUBE_CA" 300 ;;
compact)
  now=$(curl -fsS "$ETCD_URL/v3/kv/range" -d '{"key":"AA=="}' | python3 -c 'import json,sys; print(json.load(sys.stdin)["header"]["revision"])')
  curl -fsS "$ETCD_URL/v3/kv/compaction" -d '{"revision":"'"$now"'","physical":true}' >/dev/null ;;
*) echo "usage: $0 kill|start NAME, wait, compact" >&2; exit 2 ;;
esac
