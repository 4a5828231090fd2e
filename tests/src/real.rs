//! What the tests on real servers have in common: sites with one sink, kills on the way to it, and the account of what arrived.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::time::Duration;

use crate::agent::Ended;
use crate::chance::Chance;
use crate::mixed::Mixed;
use crate::servers::Server;
use crate::site::Site;
use crate::store::{Fault, Faults};

/// A site that ships what pods write, its JSON taken apart, to the sink `store`, whose table has these lines.
pub fn pods_site(sink: &str) -> Result<Site, String> {
    site("type = \"kubernetes_logs\"\nroot = \"pods\"", sink)
}

/// A site that ships one file of JSON lines, `app.log`, to the sink `store`, whose table has these lines.
pub fn file_site(sink: &str) -> Result<Site, String> {
    site("type = \"file\"\ninclude = [\"app.log\"]", sink)
}

fn site(source: &str, sink: &str) -> Result<Site, String> {
    let parse = "[transforms.parse]\ntype = \"json\"\ninputs = [\"logs\"]";
    let config = format!("data_dir = \"state\"\n[sources.logs]\n{source}\n{parse}\n[sinks.store]\ninputs = [\"parse\"]\n{sink}\n");
    Site::new(config).map_err(|error| error.to_string())
}

/// `run --once` that cannot deliver within some seconds, and says so by its exit code.
pub fn fails(site: &Site) -> Result<Ended, String> {
    let ended = site.once_with(&["--timeout", "4"])?;
    if ended.code() == Some(1) { Ok(ended) } else { Err(format!("it should not have delivered: {ended}")) }
}

/// Faults by chance that every store must bear: each with some of 1000 requests, besides `more`.
pub fn faults(seed: u64, more: &[(u32, Fault)]) -> Faults {
    let mut by_chance = vec![
        (40, Fault::TooMany { retry_after_s: None }),
        (40, Fault::Unavailable),
        (40, Fault::CloseBefore),
        (60, Fault::CloseAfter),
        (40, Fault::HalfRead),
    ];
    by_chance.extend(more);
    Faults { by_chance, seed, ..Faults::default() }
}

/// How agent and server are killed while records are shipped.
pub struct Torment {
    /// Records, written in as many pieces as the agent is killed.
    pub records: u64,
    /// Kills of the agent.
    pub kills: u64,
    /// In which of them, counted from 0, the server is killed too.
    pub server_kills: Vec<u64>,
    /// The longest that the agent has for a piece.
    pub pause: Duration,
}

impl Torment {
    /// Ships by starting the agent, writing a piece, and killing it after a while, again and again; and once more to the end. `back`
    /// is called whenever the server is up again.
    pub fn ship(
        &self,
        server: &mut Server,
        site: &Site,
        mixed: &Mixed,
        chance: &mut Chance,
        back: impl Fn(&Server),
    ) -> Result<Ended, String> {
        let piece = self.records.div_ceil(self.kills);
        for kill in 0..self.kills {
            let agent = site.start()?;
            let (from, to) = (kill * piece, ((kill + 1) * piece).min(self.records));
            mixed.write(&site.path("pods"), from, to).map_err(|error| error.to_string())?;
            std::thread::sleep(Duration::from_millis(100 + chance.below(self.pause.as_millis() as u64)));
            if self.server_kills.contains(&kill) {
                server.kill()?;
                std::thread::sleep(Duration::from_millis(chance.below(500)));
                agent.kill()?;
                server.restart()?;
                back(server);
            } else {
                agent.kill()?;
            }
        }
        site.once_with(&["--timeout", "110"])?.expect_success()
    }
}

/// The account of what a store has of mixed records: which are lost, which are there twice, which changed.
pub struct Account<'m> {
    mixed: &'m Mixed,
    seen: Vec<u32>,
    /// Of each kind of difference the last.
    wrong: BTreeMap<&'static str, String>,
}

impl<'m> Account<'m> {
    /// An account of records 0 to `records`.
    pub fn new(mixed: &'m Mixed, records: u64) -> Account<'m> {
        Account { mixed, seen: vec![0; records as usize], wrong: BTreeMap::new() }
    }

    /// Enters what the store has of the record of this time, with what `compare` finds different in it.
    pub fn enter(&mut self, nanos: i64, compare: impl FnOnce(u64, &mut Differences<'_>)) {
        match self.mixed.seq(nanos).filter(|seq| (*seq as usize) < self.seen.len()) {
            Some(seq) => {
                self.seen[seq as usize] += 1;
                compare(seq, &mut Differences { seq, wrong: &mut self.wrong });
            }
            None => drop(self.wrong.insert("time", format!("no record has the time {nanos}"))),
        }
    }

    /// How many copies there are too many, where nothing was lost or changed.
    pub fn close(self) -> Result<u64, String> {
        let lost = self.seen.iter().filter(|count| **count == 0).count();
        let first = self.seen.iter().position(|count| *count == 0);
        if lost > 0 || !self.wrong.is_empty() {
            return Err(format!("{lost} lost (first {first:?}); of each difference the last: {:#?}", self.wrong));
        }
        Ok(self.seen.iter().map(|count| u64::from(*count) - 1).sum())
    }
}

/// What differs between a record as it was read and as the store has it.
pub struct Differences<'a> {
    seq: u64,
    wrong: &'a mut BTreeMap<&'static str, String>,
}

impl Differences<'_> {
    /// Notes that `what` is not as it was.
    pub fn differ<T: PartialEq + Debug + ?Sized>(&mut self, what: &'static str, is: &T, was: &T) {
        if is != was {
            let short = |value: &T| format!("{value:?}").chars().take(300).collect::<String>();
            self.note(what, format!("is {} and was {}", short(is), short(was)));
        }
    }

    /// Notes a difference in words.
    pub fn note(&mut self, what: &'static str, how: String) {
        self.wrong.insert(what, format!("record {}: {how}", self.seq));
    }
}

/// OpenTelemetry's number of a level that mixed records have.
pub fn severity(level: &str) -> u64 {
    match level.to_ascii_lowercase().as_str() {
        "" => 0,
        "debug" => 5,
        "info" => 9,
        "warn" => 13,
        "error" => 17,
        _ => 21,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_account_finds_what_is_lost_changed_or_there_twice() {
        let mixed = Mixed::new(1, 1, 0);
        let account = |entries: &[u64]| {
            let mut account = Account::new(&mixed, 3);
            entries.iter().for_each(|seq| account.enter(mixed.record_nanos(*seq), |_, differences| differences.differ("x", &1, &1)));
            account.close()
        };
        assert_eq!(account(&[2, 0, 1]), Ok(0));
        assert_eq!(account(&[2, 0, 1, 2, 2]), Ok(2));
        assert!(account(&[0, 2]).unwrap_err().contains("1 lost (first Some(1))"));
        assert!(account(&[0, 1, 2, 3]).unwrap_err().contains("no record has the time"));
        let mut changed = Account::new(&mixed, 1);
        changed.enter(0, |seq, differences| differences.differ("x", &seq, &7));
        assert!(changed.close().unwrap_err().contains("record 0: is 0 and was 7"));
    }
}
