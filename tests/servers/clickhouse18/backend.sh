#!/usr/bin/env bash
# Debian's clickhouse-server 18.16.1, unpacked and not installed: an old engine, and a real server's own HTTP. With users: `default`
# without a password, `shipper` and `reader` with the password `right`, of whom `reader` may change nothing, and `stranger`, who may
# use no database that there is.
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

# user NAME PASSWORD PROFILE MORE
user() {
  echo "<$1><password>$2</password><networks><ip>127.0.0.1</ip></networks><profile>$3</profile><quota>default</quota>$4</$1>"
}

start() {
  local d=$1 p; p=$(port "$d" port)
  echo "http://127.0.0.1:$p" >"$d/url"
  {
    echo '<yandex><profiles><default/><readonly><readonly>1</readonly></readonly></profiles><quotas><default/></quotas><users>'
    user default '' default ''; user shipper right default ''; user reader right readonly ''
    user stranger right default '<allow_databases><database>other</database></allow_databases>'
    echo '</users></yandex>'
  } >"$d/users.xml"
  cat >"$d/config.xml" <<E
<yandex><logger><level>warning</level><console>1</console></logger><http_port>$p</http_port><listen_host>127.0.0.1</listen_host>
<path>$d/data/</path><tmp_path>$d/data/tmp/</tmp_path><mark_cache_size>134217728</mark_cache_size>
<users_config>$d/users.xml</users_config><default_profile>default</default_profile><default_database>default</default_database></yandex>
E
  LD_LIBRARY_PATH=$R/usr/lib/x86_64-linux-gnu:$R/usr/lib:$R/lib/x86_64-linux-gnu \
    spawn "$d" "$R/usr/sbin/clickhouse-server" --config-file="$d/config.xml"
  wait_up "$d" 30 curl -sf "$(cat "$d/url")/ping"
}
main "$@"
