//! What was written, and where it was: kept by the writers, and asked by nobody before the end.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::lives::Life;

/// One content of one log file, from the time that a runtime opened it to the time that its last name was removed; that of
/// its compressed form counts.
#[derive(Clone, Debug)]
pub struct Generation {
    /// The name that it was born with.
    pub born_as: String,
    pub born: Instant,
    /// When it was removed.
    pub gone: Option<Instant>,
    /// What was done to it, for a message.
    pub story: Vec<(Instant, String)>,
}

/// A record that was begun.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// The generations of its first and its last line.
    pub first: usize,
    pub last: usize,
    /// Whether its end was written; it was not where its container died before.
    pub whole: bool,
    /// When its last line was written.
    pub written: Instant,
}

/// One output of one container.
#[derive(Clone, Debug)]
pub struct StreamLog {
    pub pod_uid: String,
    pub output: &'static str,
    pub entries: Vec<Entry>,
}

/// All that was written.
#[derive(Debug, Default)]
pub struct Book {
    pub streams: Vec<StreamLog>,
    pub generations: Vec<Generation>,
    /// By the hash of a record's text from its second, or third, line on: whose end it is.
    pub ends: HashMap<u64, (u32, u32)>,
    pub bytes: u64,
    pub rotations: u64,
    pub renamed_back: u64,
    pub compressed: u64,
    pub removed: u64,
    pub restarts: u64,
    pub pods: u64,
}

/// The book, shared by those who write in it.
#[derive(Clone, Debug, Default)]
pub struct Journal(Arc<Mutex<Book>>);

impl Journal {
    /// The book, for one entry or for the account at the end.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a file that a runtime opened.
    pub fn born(&self, name: String) -> usize {
        let mut book = self.book();
        book.generations.push(Generation { born_as: name, born: Instant::now(), gone: None, story: Vec::new() });
        book.generations.len() - 1
    }

    /// Enters that the last name of a generation was removed.
    pub fn gone(&self, generation: usize) {
        let mut book = self.book();
        book.removed += 1;
        book.generations[generation].gone = Some(Instant::now());
    }

    /// Enters something that was done to a generation.
    pub fn note(&self, generation: usize, what: impl Into<String>) {
        self.book().generations[generation].story.push((Instant::now(), what.into()));
    }

    /// Enters a new stream; its number.
    pub fn stream(&self, pod_uid: &str, output: &'static str) -> u32 {
        let mut book = self.book();
        book.streams.push(StreamLog { pod_uid: pod_uid.to_owned(), output, entries: Vec::new() });
        book.streams.len() as u32 - 1
    }
}

/// How soon an agent that runs must have opened a file that was made: it asks inotify ten times a second.
const OPENED_AFTER: Duration = Duration::from_millis(400);
/// How soon a record of an open file must be safe from a kill: the longest time between two looks at a log that slept, and the
/// batch's time.
const SAFE_AFTER: Duration = Duration::from_millis(2_500);

/// Why a record may be missing: how what it lay in was really gone. Each is read off the journal, in which a generation is gone
/// only once its last name was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Excuse {
    /// It had no name any more when the agent, which had it open, was killed.
    UnlinkedBeforeKill,
    /// Its last name was removed while no agent ran: the last that had it open had ended, the next had not looked yet.
    UnlinkedWhileDown,
    /// It came and went while no agent could open it: none ran, or it was there for less than the time between two looks.
    NeverOpen,
}

impl Generation {
    /// How it is excused that a record that was written to it at `written` did not arrive, if it is.
    fn excuse(&self, written: Instant, lives: &[Life]) -> Option<Excuse> {
        let gone = self.gone.filter(|_| !self.must_arrive(written, lives))?;
        let last = lives.iter().rfind(|life| self.was_open_in(life, gone));
        Some(match last {
            None => Excuse::NeverOpen,
            Some(life) if gone < life.end => Excuse::UnlinkedBeforeKill,
            Some(_) => Excuse::UnlinkedWhileDown,
        })
    }

    /// Whether an agent had it open in this life: it was there when that looked, or came later and stayed until it looked again.
    fn was_open_in(&self, life: &Life, gone: Instant) -> bool {
        let seen_from = if self.born <= life.looked { life.looked } else { self.born + OPENED_AFTER };
        seen_from < gone.min(life.end)
    }

    /// Whether a record that was written to it at `written` must arrive: the file is there still, or an agent lived that had
    /// it open and had the time to read on, or that was told to stop when it had no name any more.
    fn must_arrive(&self, written: Instant, lives: &[Life]) -> bool {
        let Some(gone) = self.gone else { return true };
        lives.iter().any(|life| {
            let is_safe = life.end.saturating_duration_since(written.max(life.looked)) >= SAFE_AFTER;
            let read_at_the_end = !life.killed && gone < life.end;
            self.was_open_in(life, gone) && (is_safe || read_at_the_end)
        })
    }

    /// The directory that it was born in.
    fn directory(&self) -> &str {
        self.born_as.rsplit_once('/').map_or("", |(directory, _)| directory)
    }
}

impl Book {
    /// Why a record may be missing, if it may: what it lay in was removed before an agent could read it.
    pub fn excuse(&self, entry: &Entry, lives: &[Life]) -> Option<Excuse> {
        let directory = self.generations[entry.first].directory();
        let mut lies_in = self.generations[entry.first..=entry.last].iter().filter(|generation| generation.directory() == directory);
        lies_in.find_map(|generation| generation.excuse(entry.written, lives))
    }

    /// The story of a generation, in seconds since `start`.
    pub fn story(&self, generation: usize, start: Instant) -> String {
        let one = &self.generations[generation];
        let at = |instant: Instant| format!("{:.3}", instant.duration_since(start).as_secs_f64());
        let mut story = format!("{} born {}", one.born_as, at(one.born));
        for (when, what) in &one.story {
            story += &format!(", {what} {}", at(*when));
        }
        story + &one.gone.map_or(", there to the end".to_owned(), |gone| format!(", gone {}", at(gone)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a generation and the agent did, in seconds: when it was born, when the record was written, when it was gone; each
    /// life by when it looked and ended, with whether it was killed; and what follows of that, with why.
    type Case = (f64, f64, Option<f64>, &'static [(f64, f64, bool)], Option<Excuse>, &'static str);

    const CASES: &[Case] = &[
        (1.0, 2.0, None, &[(0.0, 2.1, true)], None, "it is there: the next agent reads it"),
        (1.0, 2.0, Some(2.1), &[(0.0, 2.2, true)], Some(Excuse::UnlinkedBeforeKill), "it had no name when the kill came"),
        (1.0, 2.0, Some(2.1), &[(0.0, 2.2, false)], None, "a stop reads what has no name"),
        (1.0, 2.0, Some(6.0), &[(0.0, 5.0, true)], None, "the agent had the time to read it before it was killed"),
        (1.0, 2.0, Some(3.0), &[(0.0, 2.2, true), (4.0, 9.0, false)], Some(Excuse::UnlinkedWhileDown), "the next agent came too late"),
        (1.0, 2.0, Some(4.5), &[(0.0, 2.2, true), (4.0, 9.0, false)], None, "it was there still when the next agent looked"),
        (1.0, 2.0, Some(4.5), &[(0.0, 2.2, true), (4.0, 4.6, true)], Some(Excuse::UnlinkedBeforeKill), "killed twice before it was read"),
        (1.0, 2.0, Some(3.0), &[(0.0, 2.2, false), (4.0, 9.0, false)], Some(Excuse::UnlinkedWhileDown), "a stop leaves what has a name"),
        (1.0, 1.1, Some(1.2), &[(0.0, 9.0, false)], Some(Excuse::NeverOpen), "nobody can open what is gone before it is looked for"),
        (1.0, 1.1, Some(1.7), &[(0.0, 9.0, false)], None, "an agent that runs sees what is there for half a second"),
        (1.0, 2.0, Some(3.0), &[(4.0, 9.0, false)], Some(Excuse::NeverOpen), "no agent ran"),
    ];

    #[test]
    fn only_what_was_really_gone_is_excused() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        for (born, written, gone, lives, expected, why) in CASES {
            let generation = Generation { born_as: "pod/0.log".into(), born: at(*born), gone: gone.map(at), story: Vec::new() };
            let lives: Vec<Life> =
                lives.iter().map(|(looked, end, killed)| Life { looked: at(*looked), end: at(*end), killed: *killed }).collect();
            assert_eq!(generation.excuse(at(*written), &lives), *expected, "{why}");
        }
    }
}
