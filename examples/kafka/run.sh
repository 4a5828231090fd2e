#!/usr/bin/env bash
# Makes a topic in a real Kafka, ships the sample to it, and reads some records back with Kafka's own consumer.
# shellcheck source=examples/server.sh
source "$(dirname "$0")/../server.sh" kafka
KAFKA_SERVER=$(cat "$dir/url")
export KAFKA_SERVER
"$backend" tool org.apache.kafka.tools.TopicCommand --bootstrap-server "$KAFKA_SERVER" --create --topic example --partitions 3
skidder run --once -c examples/kafka/pipeline.toml
"$backend" tool org.apache.kafka.tools.consumer.ConsoleConsumer --bootstrap-server "$KAFKA_SERVER" --topic example --from-beginning \
  --max-messages 3 --formatter-property print.key=true --formatter-property print.headers=true 2>/dev/null
