//! Who a generation is, and where its reading begins: at the first sight, after a pause, and when its content was replaced.

use std::io;

use skidder_pipeline::edge::Nanos;
use skidder_pipeline::position::{FileKey, Held, Range, RangeSet};
use skidder_pipeline::source::SinkSet;

use super::super::super::claims::Claim;
use super::super::super::framing::{Framing, first_line};
use super::super::super::identity::{MAX_HEAD_BYTES, Text, marker_before, still_holds};
use super::super::Env;
use super::super::held::HeldBy;
use super::Generation;

/// What is known of a generation once its first line is.
pub(super) struct Known {
    pub key: FileKey,
    pub framing: Framing,
}

/// What a generation that was closed is remembered by, to go on where it stood should it be opened again.
#[derive(Debug)]
pub(in super::super) struct Memory {
    pub size: u64,
    pub modified: i64,
    /// As long as it is remembered, no other source reads it.
    _claim: Claim,
    key: FileKey,
    cursor: u64,
    marker: Option<u64>,
    framing: Framing,
}

impl Memory {
    pub(in super::super) fn key(&self) -> FileKey {
        self.key
    }
}

impl Generation {
    /// Goes on where an earlier opening of the same file ended, if the file is still what it was.
    pub(in super::super) fn resume(&mut self, memory: &Memory) {
        let same = self.facts.size >= memory.cursor
            && (memory.marker.is_none() || matches!(marker_before(&self.content, memory.cursor), Ok(marker) if marker == memory.marker));
        if same {
            self.known = Some(Known { key: memory.key, framing: memory.framing });
            (self.cursor, self.marker) = (memory.cursor, memory.marker);
        } else {
            self.rare().former.push(memory.key);
        }
    }

    /// The same file held open once more, to be read by `env`'s sinks from where they stand.
    pub(in super::super) fn fork(&self, env: &Env) -> io::Result<Generation> {
        self.pass_to(env, self.claim.clone())
    }

    /// The same with another claim.
    pub(in super::super) fn pass_to(&self, env: &Env, claim: Claim) -> io::Result<Generation> {
        let content = self.content.try_clone()?;
        let (path, place) = (self.path.clone(), self.place.clone());
        let mut fork = Generation::new(content, self.facts, path, place, claim, self.grown);
        (fork.format, fork.unlisted) = (self.format, self.unlisted);
        if let Some(rare) = self.rare.as_ref().filter(|rare| !rare.former.is_empty()) {
            fork.rare().former = rare.former.clone();
        }
        fork.compressed = self.compressed.clone();
        match &self.known {
            Some(known) => {
                fork.begin(env, known.key)?;
                fork.known = Some(Known { key: known.key, framing: known.framing });
            }
            None => fork.from_end = self.from_end,
        }
        Ok(fork)
    }

    /// What to remember when it is closed.
    pub(in super::super) fn memory(&self) -> Option<Memory> {
        let known = self.known.as_ref()?;
        let on_disk = (self.facts.size, self.facts.modified);
        let (size, modified) = self.compressed.as_ref().map_or(on_disk, |entry| (entry.size, entry.modified));
        Some(Memory {
            size,
            modified,
            _claim: self.claim.clone(),
            key: known.key,
            cursor: self.cursor,
            marker: self.marker,
            framing: known.framing,
        })
    }

    /// Finds out who the file is and where to begin. Says whether that is known: not before its first line is complete.
    pub(in super::super) fn identify(&mut self, env: &Env, take_open: bool) -> io::Result<bool> {
        if self.facts.size == 0 {
            return Ok(false);
        }
        let mut head = vec![0; MAX_HEAD_BYTES.min(usize::try_from(self.facts.size).unwrap_or(MAX_HEAD_BYTES))];
        let read = self.content.read_text(&mut head, 0)?;
        head.truncate(read);
        let first = match first_line(&head) {
            Some(first) => first,
            None if head.len() == MAX_HEAD_BYTES || take_open && !head.is_empty() => &head,
            None => return Ok(false),
        };
        let (size, content) = (self.facts.size, &self.content);
        let former = self.former();
        let is_compressed = self.is_compressed();
        let fits = |key: &FileKey| -> io::Result<bool> {
            let held = env.held.held(key);
            // The end of a compressed text costs decompressing all of it. Where the sinks hold just as much as it has, its
            // first line and its length have to do: nothing of it will be read.
            let all_held = is_compressed && !held.is_empty() && held.iter().all(|(_, set)| set.high_mark() == size);
            Ok(!former.contains(key) && (all_held || still_holds(content, size, held.iter().map(|(_, set)| set))?))
        };
        let path = self.path.to_path();
        let origin = env.describe.describe(&path, &self.place);
        let key = match &origin.run {
            Some(run) => {
                let mut variant = 0;
                while !fits(&run.key(&head, variant))? {
                    variant += 1;
                }
                // What they were of is not to be forgotten, or they would be given again.
                let others = (0..variant).map(|other| run.key(&head, other)).collect();
                self.is_none_of(others);
                run.key(&head, variant)
            }
            None => env.identify(&self.facts, &path, &head, fits)?,
        };
        self.begin(env, key)?;
        self.shared = Some(origin.shared);
        self.known = Some(Known { key, framing: self.format.unwrap_or(env.format).decide(first) });
        Ok(true)
    }

    /// Decides where reading begins, given what the sinks hold, and notes what they should be told.
    fn begin(&mut self, env: &Env, key: FileKey) -> io::Result<()> {
        let mut held: Vec<(usize, RangeSet)> = env.held.held(&key);
        held.retain(|(sink, set)| env.sinks.contains(*sink) && !set.is_empty());
        let holding = held.iter().fold(SinkSet::default(), |all, (sink, _)| all.or(SinkSet::only(*sink)));
        let mut told = Vec::new();
        if held.is_empty() && self.from_end && self.facts.size > 0 {
            let mut set = RangeSet::default();
            set.insert(0, self.facts.size, marker_before(&self.content, self.facts.size)?.unwrap_or_default());
            told.push((env.sinks, set));
        }
        // A sink that is new starts where the others are.
        let new = env.new_sinks.and(env.sinks).without(holding);
        if !held.is_empty() && !new.is_empty() {
            let set = RangeSet::intersection(held.iter().map(|(_, set)| set));
            if !set.is_empty() {
                told.push((new, set));
            }
        }
        let mut by = HeldBy::default();
        for (sink, set) in held {
            by.add(SinkSet::only(sink), set);
        }
        for (sinks, set) in told {
            let range = |h: &Held| Range { file: key, start: h.start, end: h.end, marker: h.marker };
            self.rare().announcements.push((sinks, set.stretches().iter().map(range).collect()));
            by.add(sinks, set);
        }
        // What all hold is skipped when it is met, but for a record that is open then: see `try_step`.
        self.cursor = 0;
        if by.end() > 0 {
            self.rare().held = by;
        }
        Ok(())
    }

    /// Begins anew with a file that was cut or written over. Says how many bytes are known to be lost.
    pub(in super::super) fn restart(&mut self, now: Nanos) -> u64 {
        if let Some(known) = self.known.take() {
            self.rare().former.push(known.key);
        }
        (self.cursor, self.tried, self.marker, self.from_end) = (0, 0, None, false);
        let rare = self.rare();
        rare.scanned = 0;
        rare.held = HeldBy::default();
        rare.announcements.clear();
        self.refresh(now);
        std::mem::take(&mut self.rare().lost)
    }
}
