#!/usr/bin/env bash
# Kafka, one node in KRaft mode, from Maven Central (on JDK 17+). DIR/url is the address of the broker. The verb
# `tool CLASS ARGUMENT…` runs one of its own tools (org.apache.kafka.tools.consumer.ConsoleConsumer).
. "$(dirname "$0")/../lib.sh"
V=${KAFKA_VERSION:-4.3.1}
L=$BACKENDS_CACHE/kafka-$V
J=("$(jdk 17 99)/bin/java" -XX:TieredStopAtLevel=1 -XX:+UseSerialGC -cp "$L/lib/*")

provision() {
  [ -f "$L/ok" ] && return
  rm -rf "$L"; mkdir -p "$L"
  mvn -q -B -f "$HERE/pom.xml" -Dkafka.v="$V" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$L/lib"
  touch "$L/ok"
}

start() {
  local d=$1 p c; p=$(port "$d" port); c=$(port "$d" controller_port)
  echo "127.0.0.1:$p" >"$d/url"
  cat >"$d/kafka.properties" <<E
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$c
listeners=PLAINTEXT://127.0.0.1:$p,CONTROLLER://127.0.0.1:$c
advertised.listeners=PLAINTEXT://127.0.0.1:$p
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=$d/data
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
num.partitions=1
E
  "${J[@]}" -Xmx128m kafka.tools.StorageTool format --ignore-formatted -t AAAAAAAAAAAAAAAAAAAAAQ -c "$d/kafka.properties" >"$d/format.log" 2>&1
  spawn "$d" "${J[@]}" -Xms256m -Xmx256m kafka.Kafka "$d/kafka.properties"
  wait_up "$d" 120 bash -c "exec 3<>/dev/tcp/127.0.0.1/$p"
}
if [ "${1:-}" = tool ]; then exec "${J[@]}" -Xmx128m "${@:2}"; fi
main "$@"
