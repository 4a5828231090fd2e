//! Records of every shape that real logs have, numbered: for tests of what a store has in the end, field by field.
//!
//! Record `seq` is a pure function of the seed and `seq`. Its time is its number: `seq` milliseconds (and some nanoseconds) after
//! the beginning, so that even an empty line can be told from every other. Files hold them out of order.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use serde_json::value::RawValue;

use crate::chance::Chance;

/// Between two records: no multiple of anything, so that no digit of the times is always 0.
const STEP_NANOS: i64 = 1_000_003;

/// Within so many lines of a file the order of times is by chance.
const SHUFFLED: u64 = 64;

/// A text of this many bytes is longer than what runtimes write at once.
const LONG_BYTES: usize = 300 << 10;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// Texts of the platform's languages, and of what logs hold beside them.
const TEXTS: [&str; 12] = [
    "GET /api/flights 200",
    "Бронирование подтверждено: рейс SU-100, места 12A и 12B",
    "การจองได้รับการยืนยันแล้ว เที่ยวบิน TG-930",
    "Đặt chỗ thành công: chuyến bay VN-255, giá 1.250.000 ₫",
    "予約が完了しました",
    "🛫 departed \u{200d}🧳",
    "a \"quoted\" text with \\ backslashes \\n and a\ttab",
    "key=value level=info msg=\"logfmt\"",
    "java.lang.IllegalStateException: no seat",
    "{\"broken\": json",
    "[1, 2, 3]",
    "\u{1}\u{7f} control characters \u{85}",
];

const NUMBERS: [&str; 14] = [
    "0",
    "-0",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "9007199254740993",
    "1.7976931348623157e308",
    "-1.7976931348623157E+308",
    "5e-324",
    "0.1",
    "1e400",
    "123456789012345678901234567890.123456789",
    "-1",
    "65536",
];

/// Mixed records in some pods.
#[derive(Clone, Debug)]
pub struct Mixed {
    seed: u64,
    pods: u64,
    begin_nanos: i64,
}

/// A record as it was written.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its time, in nanoseconds since 1970-01-01T00:00:00Z.
    pub nanos: i64,
    /// The line, without its end. May hold what is no UTF-8.
    pub line: Vec<u8>,
    /// The members of the object that the line is; none where it is no object.
    pub members: Option<Vec<(String, Box<RawValue>)>>,
}

impl Mixed {
    /// Records from `begin_nanos` (since 1970) on, in so many pods.
    pub fn new(seed: u64, pods: u64, begin_nanos: i64) -> Mixed {
        Mixed { seed, pods, begin_nanos }
    }

    /// Record `seq`.
    pub fn record(&self, seq: u64) -> Record {
        let mut line = Vec::new();
        let mut chance = Chance::of(self.seed, seq, 0);
        match chance.below(16) {
            _ if seq % 20_000 == 777 => {
                line.extend_from_slice(b"{\"long\":\"");
                while line.len() < LONG_BYTES {
                    line.extend_from_slice(chance.pick(&TEXTS[..6]).as_bytes());
                }
                line.extend_from_slice(b"\"}");
            }
            0..=2 => line.extend_from_slice(chance.pick(&TEXTS).as_bytes()),
            3 => {}
            4 => {
                line.extend_from_slice(chance.pick(&TEXTS).as_bytes());
                let bad: [&[u8]; 5] = [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f\x9b", b"\x80\xfe\xff"];
                line.extend_from_slice(chance.pick::<&[u8]>(&bad));
                line.extend_from_slice(b" after");
            }
            5 | 6 => line.extend_from_slice(nested(&mut chance, seq).as_bytes()),
            7 | 8 => line.extend_from_slice(numbers(&mut chance, seq).as_bytes()),
            9 | 10 => line.extend_from_slice(many_keys(&mut chance, seq).as_bytes()),
            _ => line.extend_from_slice(ordinary(&mut chance, seq).as_bytes()),
        }
        let members = members(&line);
        Record { nanos: self.record_nanos(seq), line, members }
    }

    /// The time of record `seq`.
    pub fn record_nanos(&self, seq: u64) -> i64 {
        self.begin_nanos + seq as i64 * STEP_NANOS
    }

    /// The number of the record of this time.
    pub fn seq(&self, nanos: i64) -> Option<u64> {
        let since = nanos.checked_sub(self.begin_nanos)?;
        (since >= 0 && since % STEP_NANOS == 0).then_some((since / STEP_NANOS) as u64)
    }

    /// The name of the pod that record `seq` is of.
    pub fn pod(&self, seq: u64) -> String {
        format!("web-7c9d6f5b8c-{:05}", seq % self.pods)
    }

    /// The stream that record `seq` goes to.
    pub fn stream(seq: u64) -> &'static str {
        if seq.is_multiple_of(7) { "stderr" } else { "stdout" }
    }

    /// The live log file of a pod below `root`.
    fn file(root: &Path, pod: u64) -> std::path::PathBuf {
        root.join(format!("shop_web-7c9d6f5b8c-{pod:05}_00000000-0000-4000-8000-{pod:012}")).join("app").join("0.log")
    }

    /// Writes records `from..to` to the files of the pods below `root`, as a container runtime does: appended to what is there.
    pub fn write(&self, root: &Path, from: u64, to: u64) -> io::Result<()> {
        for pod in 0..self.pods {
            let path = Self::file(root, pod);
            if let Some(above) = path.parent() {
                fs::create_dir_all(above)?;
            }
            let mut file = BufWriter::with_capacity(1 << 20, File::options().create(true).append(true).open(path)?);
            let ours: Vec<u64> = (from..to).filter(|seq| seq % self.pods == pod).collect();
            for block in ours.chunks(SHUFFLED as usize) {
                let mut block = block.to_vec();
                let mut chance = Chance::of(self.seed, block[0], 1);
                for at in (1..block.len()).rev() {
                    block.swap(at, chance.below(at as u64 + 1) as usize);
                }
                for seq in block {
                    let Record { nanos, line, .. } = self.record(seq);
                    write!(file, "{} {} F ", rfc3339(nanos), Self::stream(seq))?;
                    file.write_all(&line)?;
                    file.write_all(b"\n")?;
                }
            }
            file.flush()?;
        }
        Ok(())
    }
}

impl Record {
    /// What the agent has of the record's own, its time apart, after a `json` transform: names, and values as JSON.
    pub fn fields(&self) -> Vec<(String, String)> {
        match &self.members {
            Some(members) => members.iter().map(|(name, value)| (name.clone(), value.get().to_owned())).collect(),
            None => {
                let text = serde_json::Value::from(String::from_utf8_lossy(&self.line)).to_string();
                let mut fields = vec![("message".to_owned(), text), ("not_json".to_owned(), "true".to_owned())];
                if std::str::from_utf8(&self.line).is_err() {
                    fields.push(("invalid_utf8".to_owned(), "true".to_owned()));
                }
                fields
            }
        }
    }
}

/// The members of a JSON object in their order, with the values as they were written; none for what is no object.
pub fn members(json: &[u8]) -> Option<Vec<(String, Box<RawValue>)>> {
    serde_json::from_slice::<Members>(json).ok().map(|members| members.0)
}

/// The members of an object in their order, values as they were written.
struct Members(Vec<(String, Box<RawValue>)>);

impl<'de> serde::Deserialize<'de> for Members {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Members, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Members;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

fn text(chance: &mut Chance) -> String {
    serde_json::Value::from(*chance.pick(&TEXTS)).to_string()
}

fn ordinary(chance: &mut Chance, seq: u64) -> String {
    let levels = ["info", "WARN", "error", "debug", "Fatal"];
    let (level, text, trace, span) = (chance.pick(&levels), text(chance), chance.next(), chance.next() | 1);
    let took = chance.below(100_000) as f64 / 1000.0;
    format!(
        r#"{{"seq":{seq},"level":"{level}","message":{text},"took_ms":{took},"ok":{},"trace_id":"{trace:016x}{span:016x}","span_id":"{span:016x}","user":null}}"#,
        chance.per_mille(500)
    )
}

fn nested(chance: &mut Chance, seq: u64) -> String {
    let (inner, number) = (text(chance), chance.pick(&NUMBERS).to_owned());
    format!(
        r#"{{"seq":{seq},"http":{{"request":{{"headers":{{"x-id":[1,[2,{{"deep":{inner}}}]],"пусто":{{}}}},"method":"GET"}},"n":{number}}},"list":[{inner},null,true,{{"a":[]}}],"message":{inner}}}"#
    )
}

fn numbers(chance: &mut Chance, seq: u64) -> String {
    let mut out = format!(r#"{{"seq":{seq}"#);
    for index in 0..4 {
        out += &format!(r#","n{index}":{}"#, chance.pick(&NUMBERS));
    }
    out + "}"
}

fn many_keys(chance: &mut Chance, seq: u64) -> String {
    let mut out = format!(r#"{{"seq":{seq}"#);
    let first = chance.below(1000);
    for index in 0..8 {
        out += &format!(r#","key_{:04}":{}"#, (first + index * 37) % 1000, if index % 2 == 0 { text(chance) } else { index.to_string() });
    }
    out + "}"
}

/// A time as container runtimes write it: `2026-11-24T10:00:00.000000000Z`.
pub fn rfc3339(nanos: i64) -> String {
    let (seconds, fraction) = (nanos.div_euclid(NANOS_PER_SECOND), nanos.rem_euclid(NANOS_PER_SECOND));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", civil_from_days.
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{fraction:09}Z")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn has_every_shape_that_it_promises() {
        let mixed = Mixed::new(1, 4, 1_795_000_000_000_000_000);
        let records: Vec<Record> = (0..20_000).map(|seq| mixed.record(seq)).collect();
        let count = |is: &dyn Fn(&Record) -> bool| records.iter().filter(|record| is(record)).count();
        assert!(count(&|record| record.line.is_empty()) > 500);
        assert!(count(&|record| std::str::from_utf8(&record.line).is_err()) > 500);
        assert_eq!(count(&|record| record.line.len() >= LONG_BYTES), 1);
        let keys: BTreeSet<&str> = records.iter().flat_map(|record| record.members.iter().flatten()).map(|(key, _)| &**key).collect();
        assert!(keys.len() > 1000, "{}", keys.len());
        assert!(records.iter().enumerate().all(|(seq, record)| mixed.seq(record.nanos) == Some(seq as u64)));
        assert_eq!(mixed.seq(records[5].nanos + 1), None);
        assert_eq!(records[7].line, mixed.record(7).line);
    }

    #[test]
    fn writes_times_as_runtimes_do() {
        assert_eq!(rfc3339(1_790_928_930_123_456_789), "2026-10-02T08:15:30.123456789Z");
        assert_eq!(rfc3339(1_709_164_800 * NANOS_PER_SECOND), "2024-02-29T00:00:00.000000000Z");
    }
}
