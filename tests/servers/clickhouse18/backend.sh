#!/usr/bin/env bash
# Debian's clickhouse-server 18.16.1, unpacked and not installed: an old engine, and a real server's own HTTP.
. "$(dirname "$0")/../lib.sh"
R=$BACKENDS_CACHE/clickhouse18

provision() {
  [ -f "$R/ok" ] && return
  rm -rf "$R"; mkdir -p "$R/debs"; cd "$R/debs"
  apt-get update -qq || true
  # shellcheck disable=SC2046
  apt-get download -qq $(apt-get install -s --no-install-recommends --reinstall clickhouse-server | awk '/^Inst/{print $2}')
  for f in *.deb; do dpkg -x "$f" "$R"; done
  rm -rf "$R/debs"; touch "$R/ok"
}

start() {
  local d=$1 p; p=$(port "$d" port)
  echo "http://127.0.0.1:$p" >"$d/url"
  cat >"$d/config.xml" <<E
<yandex><logger><level>warning</level><console>1</console></logger><http_port>$p</http_port><listen_host>127.0.0.1</listen_host>
<path>$d/data/</path><tmp_path>$d/data/tmp/</tmp_path><mark_cache_size>134217728</mark_cache_size>
<users_config>$R/etc/clickhouse-server/users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database></yandex>
E
  LD_LIBRARY_PATH=$R/usr/lib/x86_64-linux-gnu:$R/usr/lib:$R/lib/x86_64-linux-gnu \
    spawn "$d" "$R/usr/sbin/clickhouse-server" --config-file="$d/config.xml"
  wait_up "$d" 30 curl -sf "$(cat "$d/url")/ping"
}
main "$@"
