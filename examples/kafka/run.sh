#!/usr/bin/env bash
# Starts a real Kafka, makes a topic, ships the sample to it, reads some records back with Kafka's own consumer, and stops it again.
set -euo pipefail
cd "$(dirname "$0")/../.."
backend=tests/servers/kafka/backend.sh
dir=$(mktemp -d)
trap '$backend stop "$dir"; rm -rf "$dir"' EXIT
$backend provision
$backend start "$dir"
KAFKA_SERVER=$(cat "$dir/url")
export KAFKA_SERVER
$backend tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$KAFKA_SERVER" --create --topic example --partitions 3
skidder=(${SKIDDER_BIN:-cargo run --quiet --bin skidder --})
"${skidder[@]}" run --once -c examples/kafka/pipeline.toml
$backend tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$KAFKA_SERVER" --topic example --from-beginning \
  --max-messages 3 --formatter-property print.key=true --formatter-property print.headers=true 2>/dev/null
