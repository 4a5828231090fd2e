#!/usr/bin/env bash
# Kafka, one node in KRaft mode, from Maven Central (on JDK 17+). DIR/url is the address of the broker.
#
# Settings of `start` are lines of the broker's properties (message.max.bytes=100000); a later one of a name counts. The setting
# `secure` adds two listeners, whose addresses are in DIR/sasl_url and DIR/tls_url: SASL over TLS (PLAIN and SCRAM; users alice and,
# without the right to write, bob, both with the password `secret`), and TLS that wants a client's certificate. Certificates are
# made at the first start: DIR/ca.pem, DIR/client.pem, DIR/client.key.
#
# The verb `tool CLASS ARGUMENT…` runs one of its own tools (org.apache.kafka.tools.consumer.ConsoleConsumer).
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

# certificate DIR NAME: NAME.key and NAME.pem, signed by ca.
certificate() {
  openssl req -newkey rsa:2048 -nodes -keyout "$1/$2.key" -subj "/CN=$2" -out "$1/$2.csr" 2>/dev/null
  openssl x509 -req -in "$1/$2.csr" -CA "$1/ca.pem" -CAkey "$1/ca.key" -CAcreateserial -days 30 -out "$1/$2.pem" \
    -extfile <(printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\n') 2>/dev/null
}

# secure DIR PORT CONTROLLER_PORT: the properties of the two listeners.
secure() {
  local d=$1 p=$2 c=$3 s t; s=$(port "$d" sasl_port); t=$(port "$d" tls_port)
  echo "127.0.0.1:$s" >"$d/sasl_url"; echo "127.0.0.1:$t" >"$d/tls_url"
  if [ ! -f "$d/server-all.pem" ]; then
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$d/ca.key" -out "$d/ca.pem" -subj /CN=ca -days 30 2>/dev/null
    certificate "$d" server; certificate "$d" client
    cat "$d/server.key" "$d/server.pem" >"$d/server-all.pem"
  fi
  cat <<E
listeners=PLAINTEXT://127.0.0.1:$p,SASL://127.0.0.1:$s,TLS://127.0.0.1:$t,CONTROLLER://127.0.0.1:$c
advertised.listeners=PLAINTEXT://127.0.0.1:$p,SASL://127.0.0.1:$s,TLS://127.0.0.1:$t
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL:SASL_SSL,TLS:SSL
inter.broker.listener.name=PLAINTEXT
ssl.keystore.type=PEM
ssl.keystore.location=$d/server-all.pem
ssl.truststore.type=PEM
ssl.truststore.location=$d/ca.pem
listener.name.tls.ssl.client.auth=required
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="secret" user_bob="secret";
listener.name.sasl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:alice;User:CN=client
E
}

start() {
  local d=$1 p c setting; shift; p=$(port "$d" port); c=$(port "$d" controller_port)
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
  for setting in "$@"; do
    if [ "$setting" = secure ]; then secure "$d" "$p" "$c"; else echo "$setting"; fi
  done >>"$d/kafka.properties"
  # A start on data that is there does not pay for a look at it.
  if [ ! -f "$d/data/meta.properties" ]; then
    "${J[@]}" -Xmx128m kafka.tools.StorageTool format -t AAAAAAAAAAAAAAAAAAAAAQ -c "$d/kafka.properties" \
      --add-scram 'SCRAM-SHA-256=[name=alice,password=secret]' --add-scram 'SCRAM-SHA-512=[name=alice,password=secret]' \
      >"$d/format.log" 2>&1 || { cat "$d/format.log" >&2; return 1; }
  fi
  spawn "$d" "${J[@]}" -Xms256m -Xmx256m kafka.Kafka "$d/kafka.properties"
  wait_up "$d" 120 bash -c "exec 3<>/dev/tcp/127.0.0.1/$p"
}
if [ "${1:-}" = tool ]; then exec "${J[@]}" -Xmx256m "${@:2}"; fi
main "$@"
