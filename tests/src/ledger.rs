//! The account of an end-to-end test: every record once, whole, and nothing else.

use std::fmt;

use serde_json::Value;

use crate::generate::Fleet;

/// The most examples of each fault that a verdict names: enough to see the pattern, few enough to read.
const EXAMPLES: usize = 5;

/// Which records of a fleet arrived, kept as one bit each.
pub struct Ledger<'a> {
    fleet: &'a Fleet,
    pods: Vec<Account>,
    faults: Faults,
}

struct Account {
    expected: u64,
    seen: Vec<u64>,
}

/// What is wrong with what arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Records that did not arrive: pod and number.
    pub lost: Vec<(usize, u64)>,
    /// Records that arrived again: pod and number, once for each time too often.
    pub twice: Vec<(usize, u64)>,
    /// Records that arrived changed: what differs.
    pub corrupt: Vec<String>,
    /// What arrived and is no record of the fleet.
    pub foreign: Vec<String>,
}

impl Faults {
    /// Whether there are none.
    pub fn is_none(&self) -> bool {
        *self == Faults::default()
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Faults { lost, twice, corrupt, foreign } = self;
        write!(f, "{} lost, {} twice, {} corrupt, {} foreign", lost.len(), twice.len(), corrupt.len(), foreign.len())?;
        for (name, list) in [("lost", lost), ("twice", twice)] {
            for (pod, seq) in list.iter().take(EXAMPLES) {
                write!(f, "\n  {name}: pod {pod}, record {seq}")?;
            }
        }
        for (name, list) in [("corrupt", corrupt), ("foreign", foreign)] {
            for what in list.iter().take(EXAMPLES) {
                write!(f, "\n  {name}: {what}")?;
            }
        }
        Ok(())
    }
}

impl<'a> Ledger<'a> {
    /// An account of `expected` records of each pod of `fleet`.
    pub fn new(fleet: &'a Fleet, expected: &[u64]) -> Ledger<'a> {
        let account = |expected: &u64| Account { expected: *expected, seen: vec![0; expected.div_ceil(64) as usize] };
        Ledger { fleet, pods: expected.iter().map(account).collect(), faults: Faults::default() }
    }

    /// Enters a record as it arrived: a JSON object with the fields of the record's own JSON and `pod_name`.
    pub fn enter(&mut self, record: &[u8]) {
        match self.identify(record) {
            Ok((pod, seq, arrived)) => self.count(pod, seq, &arrived),
            Err(why) => self.faults.foreign.push(format!("{why}: {}", shorten(record))),
        }
    }

    /// Enters each line of a JSON lines file.
    pub fn enter_lines(&mut self, text: &[u8]) {
        text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).for_each(|line| self.enter(line));
    }

    /// How many records arrived, each counted once.
    pub fn arrived(&self) -> u64 {
        self.pods.iter().flat_map(|pod| &pod.seen).map(|bits| u64::from(bits.count_ones())).sum()
    }

    /// What is wrong.
    pub fn close(mut self) -> Faults {
        for (pod, account) in self.pods.iter().enumerate() {
            self.faults.lost.extend((0..account.expected).filter(|seq| !account.has(*seq)).map(|seq| (pod, seq)));
        }
        self.faults
    }

    fn identify(&self, record: &[u8]) -> Result<(usize, u64, Value), String> {
        let arrived: Value = serde_json::from_slice(record).map_err(|error| format!("no JSON ({error})"))?;
        let name = arrived["pod_name"].as_str().or_else(|| arrived["kubernetes"]["pod_name"].as_str());
        let pod = self.fleet.pods().iter().position(|pod| Some(pod.name.as_str()) == name).ok_or("no pod of the fleet")?;
        let seq = arrived["seq"].as_u64().ok_or("no number")?;
        let expected = self.pods.get(pod).map_or(0, |account| account.expected);
        if seq < expected { Ok((pod, seq, arrived)) } else { Err(format!("record {seq} of {expected}")) }
    }

    fn count(&mut self, pod: usize, seq: u64, arrived: &Value) {
        if !self.pods[pod].set(seq) {
            self.faults.twice.push((pod, seq));
        }
        let mut text = Vec::new();
        self.fleet.message(pod, seq, &mut text);
        // What the fleet makes is JSON: its own tests say so.
        let Ok(Value::Object(written)) = serde_json::from_slice(&text) else { return };
        for (key, value) in &written {
            if arrived[key] != *value {
                self.faults.corrupt.push(format!("pod {pod}, record {seq}: {key} is {} and was {value}", arrived[key]));
            }
        }
    }
}

impl Account {
    fn has(&self, seq: u64) -> bool {
        self.seen[(seq / 64) as usize] >> (seq % 64) & 1 == 1
    }

    /// Enters record `seq`; false where it was there.
    fn set(&mut self, seq: u64) -> bool {
        let new = !self.has(seq);
        self.seen[(seq / 64) as usize] |= 1 << (seq % 64);
        new
    }
}

/// The beginning of a record, for a message.
fn shorten(record: &[u8]) -> String {
    const SHOWN_BYTES: usize = 200;
    let text = String::from_utf8_lossy(&record[..record.len().min(SHOWN_BYTES)]).into_owned();
    if record.len() > SHOWN_BYTES { text + "…" } else { text }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn arrived(fleet: &Fleet, pod: usize, seq: u64) -> Vec<u8> {
        let mut text = Vec::new();
        fleet.message(pod, seq, &mut text);
        text.pop();
        text.extend_from_slice(format!(",\"pod_name\":\"{}\"}}", fleet.pods()[pod].name).as_bytes());
        text
    }

    #[test]
    fn a_whole_delivery_has_no_faults() {
        let fleet = Fleet::new(1, 2);
        let mut ledger = Ledger::new(&fleet, &[100, 70]);
        for (pod, seq) in (0..100).map(|seq| (0, seq)).chain((0..70).map(|seq| (1, seq))) {
            ledger.enter(&arrived(&fleet, pod, seq));
        }
        assert_eq!(ledger.arrived(), 170);
        assert_eq!(ledger.close(), Faults::default());
    }

    #[test]
    fn every_fault_is_seen() {
        let fleet = Fleet::new(1, 2);
        let mut ledger = Ledger::new(&fleet, &[3, 1]);
        ledger.enter_lines(&[arrived(&fleet, 0, 0), arrived(&fleet, 0, 2), arrived(&fleet, 0, 2)].join(&b'\n'));
        let changed = String::from_utf8(arrived(&fleet, 1, 0)).unwrap().replace("\"service\":\"", "\"service\":\"x");
        ledger.enter(changed.as_bytes());
        ledger.enter(&arrived(&fleet, 1, 1));
        ledger.enter(b"{\"pod_name\":\"other\",\"seq\":0}");
        ledger.enter(b"{\"pod_name\":");
        let faults = ledger.close();
        assert_eq!((faults.lost.as_slice(), faults.twice.as_slice()), (&[(0, 1)][..], &[(0, 2)][..]));
        assert_eq!((faults.corrupt.len(), faults.foreign.len()), (1, 3), "{faults}");
        assert!(!faults.is_none());
    }
}
