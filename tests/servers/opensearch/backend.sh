#!/usr/bin/env bash
# OpenSearch from Maven Central. OPENSEARCH_VERSION is 2.19.1 (on JDK 17) where it is not given, or 3.5.0 (on JDK 21+).
# Further arguments of start are settings. The argument `secure`, for 2.19 alone, starts it with its security plugin: by HTTP without
# TLS, with the plugin's own users and roles, of whom `admin` with the password `admin` may do everything.
. "$(dirname "$0")/../lib.sh"
V=${OPENSEARCH_VERSION:-2.19.1}
LOCK_NAME=opensearch-$V
HOME_DIR=home
L=$BACKENDS_CACHE/opensearch-$V
case $V in 2.*) J=$(jdk 17 20) ;; *) J=$(jdk 21 99) ;; esac

provision() {
  [ -f "$L/ok" ] || server
  cmp -s "$HERE/OsNode.v${V%%.*}.java" "$L/src/OsNode.java" || node
  case $V in 2.*) [ -f "$L/security/ok" ] || security ;; esac
}

server() {
  rm -rf "$L"; mkdir -p "$L"
  mvn -q -B -f "$HERE/pom.xml" -Dos.v="$V" dependency:copy-dependencies -DoutputDirectory="$L/lib"
  touch "$L/ok"
}

node() {
  mkdir -p "$L/src"
  cp "$HERE/OsNode.v${V%%.*}.java" "$L/OsNode.java"
  "$J/bin/javac" -cp "$L/lib/*" -d "$L/cls" "$L/OsNode.java"
  mv "$L/OsNode.java" "$L/src/OsNode.java"
}

security() {
  rm -rf "$L/security"; mkdir -p "$L/security"
  mvn -q -B -f "$HERE/pom.xml" dependency:copy "-Dartifact=org.opensearch.plugin:opensearch-security:$V.0:zip" -DoutputDirectory="$L/security"
  (cd "$L/security" && "$J/bin/jar" xf opensearch-security-*.zip && rm opensearch-security-*.zip)
  # What the server has itself.
  rm -f "$L/security"/netty-* "$L/security"/transport-netty4-client-*
  touch "$L/security/ok"
}

# secure DIR: the settings of the plugin, with certificates for the way between nodes, which it wants whether there are others or not.
secure() {
  local c; c=$1/$HOME_DIR/config
  if [ ! -d "$c/opensearch-security" ]; then
    mkdir -p "$c"
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$c/node.rsa" -out "$c/node.pem" -subj /CN=node -days 30 2>/dev/null
    openssl pkcs8 -topk8 -nocrypt -in "$c/node.rsa" -out "$c/node.key"
    cp -r "$L/security/config" "$c/opensearch-security"
  fi
  printf '%s\n' http.type=org.opensearch.security.http.SecurityHttpServerTransport \
    transport.type=org.opensearch.security.ssl.http.netty.SecuritySSLNettyTransport \
    plugins.security.ssl.transport.pemcert_filepath=node.pem plugins.security.ssl.transport.pemkey_filepath=node.key \
    plugins.security.ssl.transport.pemtrustedcas_filepath=node.pem plugins.security.ssl.transport.enforce_hostname_verification=false \
    plugins.security.nodes_dn=CN=node plugins.security.allow_default_init_securityindex=true \
    plugins.security.restapi.roles_enabled=all_access
}

start() {
  local d=$1 p settings=() path="$L/cls:$L/lib/*" up=(curl -sf); p=$(port "$d" port); shift
  if [ "${1:-}" = secure ]; then
    shift; path="$path:$L/security/*" up=(curl -sf -u admin:admin)
    mapfile -t settings < <(secure "$d")
  fi
  # Each look at the disk takes off the blocks of a full one, also those that a test put on.
  set -- cluster.info.update.interval=1h "${settings[@]}" "$@"
  echo "http://127.0.0.1:$p" >"$d/url"
  spawn "$d" "$J/bin/java" -Xms512m -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto \
    -cp "$path" OsNode "$d/$HOME_DIR" "$p" "$@"
  wait_up "$d" 240 "${up[@]}" "$(cat "$d/url")/_cluster/health?wait_for_status=yellow&timeout=1s"
}
main "$@"
