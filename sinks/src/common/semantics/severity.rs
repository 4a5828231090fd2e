//! Levels, as loggers write them, and what OpenTelemetry calls them.

use skidder_pipeline::value::{Kind, Value};

/// A severity: OpenTelemetry's `severity_number`, 1 to 24 (Logs Data Model, "Field: SeverityNumber" and its appendix B).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct Severity(pub u8);

impl Severity {
    /// What a level means; `None` for what is none that is known.
    ///
    /// Words in any case, the single letters of klog and glog, and the numbers of pino and bunyan (10 to 60). Other numbers mean
    /// one thing in syslog and another elsewhere, so they mean nothing here.
    pub fn of(level: Value<'_>) -> Option<Severity> {
        if level.kind == Kind::Number {
            let number = match level.raw {
                b"10" => 1,
                b"20" => 5,
                b"30" => 9,
                b"40" => 13,
                b"50" => 17,
                b"60" => 21,
                _ => return None,
            };
            return Some(Severity(number));
        }
        let mut word = [0; 16];
        let text = level.raw.trim_ascii();
        let word = word.get_mut(..text.len())?;
        word.copy_from_slice(text);
        word.make_ascii_lowercase();
        let number = match &*word {
            b"trace" | b"trc" | b"t" | b"verbose" | b"finest" | b"silly" => 1,
            b"finer" => 2,
            b"debug" | b"dbg" | b"d" | b"fine" => 5,
            b"config" => 8,
            b"info" | b"inf" | b"i" | b"information" | b"informational" | b"log" => 9,
            b"notice" | b"note" => 10,
            b"warn" | b"warning" | b"wrn" | b"w" => 13,
            b"error" | b"err" | b"e" | b"eror" | b"severe" => 17,
            b"critical" | b"crit" | b"c" => 18,
            b"alert" => 19,
            b"fatal" | b"ftl" | b"f" | b"panic" | b"dpanic" | b"emerg" | b"emergency" => 21,
            _ => return None,
        };
        Some(Severity(number))
    }

    /// The name of the severity's range: `TRACE`, `DEBUG`, `INFO`, `WARN`, `ERROR` or `FATAL`.
    pub fn name(self) -> &'static str {
        match self.0 {
            0..=4 => "TRACE",
            5..=8 => "DEBUG",
            9..=12 => "INFO",
            13..=16 => "WARN",
            17..=20 => "ERROR",
            _ => "FATAL",
        }
    }
}
