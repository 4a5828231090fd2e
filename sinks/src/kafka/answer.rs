//! What brokers' answers mean.

use skidder_pipeline::sink::{Rejection, Response, Verdict};

use super::errors::{Class, error};
use super::transport::Fault;

/// Judges an answer to a batch of `records` records; `topic` is given where its name is the configuration's alone.
pub fn judge(response: &Response, records: u32, topic: Option<&str>) -> Verdict {
    if response.status == 0 {
        return Verdict::Delivered { duplicates: 0 };
    }
    let error = error(response.status as i16);
    let reason = error.to_string();
    match error.class {
        Class::Duplicate => Verdict::Delivered { duplicates: records },
        Class::Retry | Class::Moved | Class::NewProducer => Verdict::Retry { reason },
        Class::TooLarge => Verdict::Split,
        Class::Pause => Verdict::Pause { reason },
        Class::NoTopic => {
            let remedy = "make it, or let the brokers make it with `create_topic = true`";
            match topic {
                Some(topic) => Verdict::Pause { reason: format!("the topic `{topic}` does not exist: {remedy}") },
                // Other topics go on.
                None => Verdict::Retry { reason: format!("a topic does not exist: {remedy}") },
            }
        }
        Class::BadRecords => bad_records(response, error.code, &reason, records),
    }
}

fn bad_records(response: &Response, code: i16, reason: &str, records: u32) -> Verdict {
    let fault: Fault = serde_json::from_slice(&response.body).unwrap_or_default();
    let status = code as u16;
    let say = |why: &str| {
        let said: Vec<&str> = [reason, &fault.message, why].into_iter().filter(|part| !part.is_empty()).collect();
        said.join(": ")
    };
    let mut rejected: Vec<Rejection> = fault
        .records
        .iter()
        .filter(|(record, _)| *record < records)
        .map(|(record, why)| Rejection { record: *record, status, reason: say(why) })
        .collect();
    rejected.sort_by_key(|rejection| rejection.record);
    rejected.dedup_by_key(|rejection| rejection.record);
    if rejected.is_empty() {
        // Which are at fault is not said: halved until it is one.
        return if records > 1 { Verdict::Split } else { Verdict::Reject { status, reason: say("") } };
    }
    if rejected.len() as u64 == u64::from(records) {
        return Verdict::Partly { duplicates: 0, rejected, retry: Vec::new() };
    }
    // A batch is stored as a whole or not at all.
    let is_bad = |record: &u32| rejected.binary_search_by_key(record, |rejection| rejection.record).is_ok();
    let retry = (0..records).filter(|record| !is_bad(record)).collect();
    Verdict::Partly { duplicates: 0, rejected, retry }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: i16, fault: &str) -> Response {
        Response { status: code as u16, retry_after: None, body: fault.as_bytes().to_vec().into(), note: None }
    }

    #[test]
    fn each_class_of_error_has_its_outcome() {
        let judge = |code, fault: &str, records| judge(&answered(code, fault), records, Some("logs"));
        assert_eq!(judge(0, "", 3), Verdict::Delivered { duplicates: 0 });
        assert_eq!(judge(46, "", 3), Verdict::Delivered { duplicates: 3 });
        assert_eq!((judge(10, "", 3), judge(18, "", 3), judge(10, "", 1)), (Verdict::Split, Verdict::Split, Verdict::Split));
        for code in [-1, 2, 5, 6, 7, 13, 19, 20, 45, 56, 59, 74, 89, 9999] {
            assert!(matches!(judge(code, "", 3), Verdict::Retry { .. }), "{code}");
        }
        for code in [3, 17, 29, 31, 33, 35, 58, 76] {
            assert!(matches!(judge(code, "", 3), Verdict::Pause { .. }), "{code}");
        }
        let Verdict::Pause { reason } = judge(3, "", 1) else { panic!("no pause") };
        assert!(reason.starts_with("the topic `logs` does not exist"), "{reason}");
        assert!(matches!(super::judge(&answered(3, ""), 1, None), Verdict::Retry { .. }), "other topics go on");
    }

    #[test]
    fn records_at_fault_are_rejected_and_the_others_sent_again() {
        let judge = |code, fault: &str, records| judge(&answered(code, fault), records, None);
        let fault = r#"{"records":[[2,"too new"],[0,""],[9,"beyond"]],"message":"bad"}"#;
        let rejection = |record, reason: &str| Rejection { record, status: 32, reason: reason.to_owned() };
        let expected = vec![rejection(0, "INVALID_TIMESTAMP (32): bad"), rejection(2, "INVALID_TIMESTAMP (32): bad: too new")];
        assert_eq!(judge(32, fault, 4), Verdict::Partly { duplicates: 0, rejected: expected, retry: vec![1, 3] });
        assert_eq!(judge(87, "{}", 2), Verdict::Split);
        assert_eq!(judge(87, "", 1), Verdict::Reject { status: 87, reason: "INVALID_RECORD (87)".to_owned() });
    }
}
