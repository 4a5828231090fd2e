//! Kafka's errors, and what each means for a batch: <https://kafka.apache.org/protocol.html#protocol_error_codes>.

/// What an error comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// The same again, later.
    Retry,
    /// The same again, when it has been asked anew who leads the partition.
    Moved,
    /// The broker does not know this producer's numbers: the same again under a new identity. Had an earlier try been stored, it is
    /// stored twice.
    NewProducer,
    /// Too large: halved.
    TooLarge,
    /// Some records are at fault: those become dead letters.
    BadRecords,
    /// An administrator has to do something: nothing is sent meanwhile.
    Pause,
    /// The topic does not exist.
    NoTopic,
    /// The broker has the batch already.
    Duplicate,
}

/// An error.
#[derive(Clone, Copy, Debug)]
pub struct KafkaError {
    /// Its number.
    pub code: i16,
    /// Its name in Kafka.
    pub name: &'static str,
    /// What it comes to.
    pub class: Class,
    /// What to say to a person beside its name.
    pub advice: &'static str,
}

/// All that can be answered to what we ask. Any other is tried again.
pub const ERRORS: [KafkaError; 44] = [
    of(-1, "UNKNOWN_SERVER_ERROR", Class::Retry, "the broker's log says more"),
    of(2, "CORRUPT_MESSAGE", Class::Retry, "the batch did not arrive whole"),
    of(3, "UNKNOWN_TOPIC_OR_PARTITION", Class::NoTopic, ""),
    of(5, "LEADER_NOT_AVAILABLE", Class::Moved, "the partition has no leader"),
    of(6, "NOT_LEADER_OR_FOLLOWER", Class::Moved, "another broker leads the partition"),
    of(7, "REQUEST_TIMED_OUT", Class::Retry, "the replicas did not have it in time"),
    of(8, "BROKER_NOT_AVAILABLE", Class::Moved, ""),
    of(9, "REPLICA_NOT_AVAILABLE", Class::Moved, ""),
    of(10, "MESSAGE_TOO_LARGE", Class::TooLarge, "see `max.message.bytes` of the topic"),
    of(13, "NETWORK_EXCEPTION", Class::Moved, ""),
    of(14, "COORDINATOR_LOAD_IN_PROGRESS", Class::Retry, ""),
    of(15, "COORDINATOR_NOT_AVAILABLE", Class::Retry, ""),
    of(16, "NOT_COORDINATOR", Class::Retry, ""),
    of(17, "INVALID_TOPIC_EXCEPTION", Class::Pause, "no topic may have this name"),
    of(18, "RECORD_LIST_TOO_LARGE", Class::TooLarge, "see `segment.bytes` of the topic"),
    of(19, "NOT_ENOUGH_REPLICAS", Class::Retry, "fewer replicas are in sync than `min.insync.replicas`"),
    of(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND", Class::Retry, "fewer replicas are in sync than `min.insync.replicas`"),
    of(21, "INVALID_REQUIRED_ACKS", Class::Pause, ""),
    of(29, "TOPIC_AUTHORIZATION_FAILED", Class::Pause, "this user may not write to the topic: allow it `Write` and `Describe`"),
    of(30, "GROUP_AUTHORIZATION_FAILED", Class::Pause, ""),
    of(
        31,
        "CLUSTER_AUTHORIZATION_FAILED",
        Class::Pause,
        "this user may not produce idempotently: allow it `IdempotentWrite` on the cluster",
    ),
    of(32, "INVALID_TIMESTAMP", Class::BadRecords, ""),
    of(33, "UNSUPPORTED_SASL_MECHANISM", Class::Pause, "the broker does not have the mechanism of `sasl.mechanism` on this listener"),
    of(34, "ILLEGAL_SASL_STATE", Class::Pause, "the broker expects no SASL on this listener"),
    of(35, "UNSUPPORTED_VERSION", Class::Pause, "the broker is too old, or too new"),
    of(42, "INVALID_REQUEST", Class::Pause, ""),
    of(43, "UNSUPPORTED_FOR_MESSAGE_FORMAT", Class::Pause, "the topic has a format from before Kafka 0.11"),
    of(44, "POLICY_VIOLATION", Class::Pause, "a policy of the cluster refuses it"),
    of(45, "OUT_OF_ORDER_SEQUENCE_NUMBER", Class::NewProducer, ""),
    of(46, "DUPLICATE_SEQUENCE_NUMBER", Class::Duplicate, ""),
    of(47, "INVALID_PRODUCER_EPOCH", Class::NewProducer, ""),
    of(54, "SECURITY_DISABLED", Class::Pause, ""),
    of(56, "KAFKA_STORAGE_ERROR", Class::Moved, "the broker cannot write to its disk"),
    of(58, "SASL_AUTHENTICATION_FAILED", Class::Pause, "the broker refuses the credentials: see `sasl` of the sink"),
    of(59, "UNKNOWN_PRODUCER_ID", Class::NewProducer, ""),
    of(72, "LISTENER_NOT_FOUND", Class::Moved, "a broker does not have this listener"),
    of(74, "FENCED_LEADER_EPOCH", Class::Moved, ""),
    of(75, "UNKNOWN_LEADER_EPOCH", Class::Moved, ""),
    of(76, "UNSUPPORTED_COMPRESSION_TYPE", Class::Pause, "the broker does not take this compression: see `compression` of the sink"),
    of(87, "INVALID_RECORD", Class::BadRecords, ""),
    of(89, "THROTTLING_QUOTA_EXCEEDED", Class::Retry, "a quota is used up"),
    of(90, "PRODUCER_FENCED", Class::NewProducer, ""),
    of(100, "UNKNOWN_TOPIC_ID", Class::Moved, ""),
    of(103, "INCONSISTENT_TOPIC_ID", Class::Moved, ""),
];

const fn of(code: i16, name: &'static str, class: Class, advice: &'static str) -> KafkaError {
    KafkaError { code, name, class, advice }
}

/// The error of this number.
pub fn error(code: i16) -> KafkaError {
    ERRORS.iter().find(|error| error.code == code).copied().unwrap_or(of(code, "an error of Kafka", Class::Retry, ""))
}

impl std::fmt::Display for KafkaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.code)?;
        if self.advice.is_empty() { Ok(()) } else { write!(f, ": {}", self.advice) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_what_it_does_not_have_is_tried_again() {
        assert!(ERRORS.is_sorted_by_key(|error| error.code));
        assert_eq!(error(20).class, Class::Retry);
        assert_eq!(error(9999).class, Class::Retry);
        assert_eq!(error(10).to_string(), "MESSAGE_TOO_LARGE (10): see `max.message.bytes` of the topic");
    }
}
