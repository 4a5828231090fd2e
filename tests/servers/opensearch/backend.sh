#!/usr/bin/env bash
# OpenSearch from Maven Central. OPENSEARCH_VERSION is 2.19.1 (on JDK 17) where it is not given, or 3.5.0 (on JDK 21+).
# Further arguments of start are settings.
. "$(dirname "$0")/../lib.sh"
V=${OPENSEARCH_VERSION:-2.19.1}
LOCK_NAME=opensearch-$V
L=$BACKENDS_CACHE/opensearch-$V
case $V in 2.*) J=$(jdk 17 20) ;; *) J=$(jdk 21 99) ;; esac

provision() {
  [ -f "$L/ok" ] && return
  rm -rf "$L"; mkdir -p "$L/src"
  mvn -q -B -f "$HERE/pom.xml" -Dos.v="$V" dependency:copy-dependencies -DoutputDirectory="$L/lib"
  cp "$HERE/OsNode.v${V%%.*}.java" "$L/src/OsNode.java"
  "$J/bin/javac" -cp "$L/lib/*" -d "$L/cls" "$L/src/OsNode.java"
  touch "$L/ok"
}

start() {
  local d=$1 p; p=$(port "$d" port); shift
  # Each look at the disk takes off the blocks of a full one, also those that a test put on.
  set -- cluster.info.update.interval=1h "$@"
  echo "http://127.0.0.1:$p" >"$d/url"
  spawn "$d" "$J/bin/java" -Xms512m -Xmx512m -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto \
    -cp "$L/cls:$L/lib/*" OsNode "$d/home" "$p" "$@"
  wait_up "$d" 240 curl -sf "$(cat "$d/url")/_cluster/health?wait_for_status=yellow&timeout=1s"
}
main "$@"
