#!/usr/bin/env bash
# Elasticsearch's server and its HTTP transport from Maven Central. Without what is not published there: x-pack (security,
# ILM), `GET /` and the listing of data streams; from 9 on with the failure store. ES_VERSION is 8.19.4 (on JDK 17) where it is not given, or 9.2.0 (on JDK 21+).
# Further arguments of start are settings: `indexing_pressure.memory.limit=1kb`.
. "$(dirname "$0")/../lib.sh"
V=${ES_VERSION:-8.19.4}
LOCK_NAME=elasticsearch-$V
L=$BACKENDS_CACHE/elasticsearch-$V
case $V in 8.*) J=$(jdk 17 20) ;; *) J=$(jdk 21 99) ;; esac

provision() {
  [ -f "$L/ok" ] || server
  case $V in 8.*) ;; *) [ -f "$L/failure-store/plugin-descriptor.properties" ] || failure_store ;; esac
}

server() {
  rm -rf "$L"; mkdir -p "$L/mod"
  mvn -q -B -f "$HERE/pom.xml" -Des.v="$V" dependency:copy-dependencies -DoutputDirectory="$L/lib"
  "$J/bin/javac" -cp "$L/lib/*" -d "$L/cls" "$HERE/EsNode.java"
  mv "$L"/lib/netty-* "$L"/lib/transport-netty4-* "$L/mod/"   # a module's jars may not also be on the class path
  describe transport-netty4 org.elasticsearch.transport.netty4.Netty4Plugin has.native.controller=false >"$L/mod/plugin-descriptor.properties"
  touch "$L/ok"
}

# The module that FailureStore.java says more of.
failure_store() {
  local m=$L/failure-store c=$L/failure-store.cls
  rm -rf "$m" "$c"; mkdir -p "$m" "$c/META-INF/services"
  "$J/bin/javac" -cp "$L/lib/*" -d "$c" "$HERE/FailureStore.java"
  # shellcheck disable=SC2016
  echo 'FailureStore$Features' >"$c/META-INF/services/org.elasticsearch.features.FeatureSpecification"
  "$J/bin/jar" cf "$m/failure-store.jar" -C "$c" .
  describe failure-store FailureStore >"$m/plugin-descriptor.properties"
}

describe() {
  printf '%s\n' "name=$1" "description=$1" "version=$V" "elasticsearch.version=$V" java.version=17 "classname=$2" "${@:3}"
}

start() {
  local d=$1 p; p=$(port "$d" port); shift
  # Each look at the disk takes off the blocks of a full one, also those that a test put on.
  set -- cluster.info.update.interval=1h "$@"
  echo "http://127.0.0.1:$p" >"$d/url"
  mkdir -p "$d/es/modules" "$d/es/config"
  [ -d "$d/es/modules/transport-netty4" ] || cp -r "$L/mod" "$d/es/modules/transport-netty4"
  [ ! -d "$L/failure-store" ] || cp -r "$L/failure-store" "$d/es/modules/"
  spawn "$d" "$J/bin/java" -Xms512m -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Des.distribution.type=tar \
    -cp "$L/cls:$L/lib/*" EsNode "$d/es" "$p" "$@"
  wait_up "$d" 240 curl -sf "$(cat "$d/url")/_cluster/health?wait_for_status=yellow&timeout=1s"
}
main "$@"
