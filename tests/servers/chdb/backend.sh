#!/usr/bin/env bash
# The current ClickHouse engine (chdb-core, from PyPI) in process behind the HTTP front of ch_server.py.
. "$(dirname "$0")/../lib.sh"
V=${CHDB_VERSION:-26.9.0}
E=$BACKENDS_CACHE/chdb-$V

provision() {
  [ -f "$E/ok" ] && return
  rm -rf "$E"; python3 -m venv "$E"
  # --no-deps: chdb-core declares pandas and pyarrow (300 MB), which only dataframes need.
  "$E/bin/pip" install -q --no-cache-dir --no-deps "chdb-core==$V" lz4 zstandard
  touch "$E/ok"
}

start() {
  local d=$1 p; p=$(port "$d" port)
  echo "http://127.0.0.1:$p" >"$d/url"
  spawn "$d" "$E/bin/python" -u "$HERE/ch_server.py" "$p" "$d/data"
  wait_up "$d" 60 curl -sf "$(cat "$d/url")/ping"
}
main "$@"
