//! Random histories against a model that only remembers what was done: appends, acknowledgements in any order, time, faults,
//! deaths in the middle of calls, power losses. Each history is made of its seed alone; `BUFFER_SEED=n` runs one again,
//! and `BUFFER_HISTORIES=n` as many as that.

use rustix::io::Errno;

use super::*;
use crate::fs::sim::Fault;

const HISTORIES: u64 = 2000;
const STEPS: u64 = 40;

/// What became of a frame, as far as the one who calls the buffer knows.
#[derive(Clone, Debug)]
struct Tracked {
    frame: Frame,
    appended_at: u64,
    /// Whether a power loss must not take it.
    is_durable: bool,
    /// When it was acknowledged.
    acknowledged_at: Option<u64>,
    /// Whether the acknowledgement must survive a power loss.
    ack_is_durable: bool,
    /// The process died in the call that appended it, or acknowledged it: it may be there or not.
    append_unsure: bool,
    ack_unsure: bool,
}

struct History {
    seed: u64,
    chance: u64,
    fs: SimFs,
    options: BufferOptions,
    buffer: SinkBuffer,
    millis: u64,
    next_group: u64,
    frames: BTreeMap<(u64, u16), Tracked>,
    /// Frames of groups that are not held any more; a power loss may bring them back with their segment.
    past: BTreeMap<(u64, u16), Tracked>,
    /// Frames that the buffer handed out and that are not acknowledged.
    out: Vec<((u64, u16), u64)>,
    /// A call failed: what is durable is not known any more.
    is_faulty: bool,
    had_power_loss: bool,
    trace: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Crash {
    Killed,
    PowerLoss,
}

impl History {
    fn new(seed: u64) -> History {
        let fs = SimFs::new();
        let mut chance = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let memory_bytes = [0, 1500, 1 << 20][roll(&mut chance, 3) as usize];
        let options = BufferOptions { memory_bytes, ..options() };
        let mut history = History {
            seed,
            chance,
            buffer: open(&fs, options.clone()).0,
            fs,
            options,
            millis: 0,
            next_group: 0,
            frames: BTreeMap::new(),
            past: BTreeMap::new(),
            out: Vec::new(),
            is_faulty: false,
            had_power_loss: false,
            trace: Vec::new(),
        };
        history.buffer.segment_bytes = 3000;
        history
    }

    fn roll(&mut self, bound: u64) -> u64 {
        roll(&mut self.chance, bound)
    }

    fn now(&self) -> Nanos {
        Nanos(self.millis * 1_000_000)
    }

    fn run(&mut self) {
        for _ in 0..STEPS {
            match self.roll(40) {
                0..10 => self.append(),
                10..20 => self.take(),
                20..28 => self.acknowledge(),
                28..30 => self.put_back(),
                30..34 => self.tick(),
                34 => self.sync(),
                35 => self.fail_once(),
                36..38 => self.die(),
                38 => self.crash(Crash::Killed),
                _ => self.crash(Crash::PowerLoss),
            }
        }
        self.crash(Crash::Killed);
    }

    fn append(&mut self) {
        let (number, len, bytes) = (self.next_group, self.roll(3) as u16 + 1, self.roll(1200) as usize);
        self.trace.push(format!("append group {number} of {len} frames of {bytes} bytes at {}", self.millis));
        self.next_group += 1;
        let group = group_of(number, len, bytes);
        let now = self.now();
        match self.buffer.append(group.clone(), now) {
            Appended::Kept => self.track(group, false),
            Appended::Full(again) => {
                self.check(again == group, "the group came back as it was");
                self.check(self.is_faulty || self.fs.is_faulty(), "there was room");
                // If the process is dying, what it wrote may be there or not.
                if self.fs.is_faulty() {
                    self.track(group, true);
                }
            }
            Appended::Dropped { .. } => self.check(false, "nothing is dropped"),
        }
    }

    fn track(&mut self, group: Vec<Frame>, append_unsure: bool) {
        for frame in group {
            let place = (group_number(&frame), frame.header().group_index);
            let tracked = Tracked {
                frame,
                appended_at: self.millis,
                is_durable: false,
                acknowledged_at: None,
                ack_is_durable: false,
                append_unsure,
                ack_unsure: false,
            };
            self.frames.insert(place, tracked);
        }
    }

    fn take(&mut self) {
        let Some(frame) = self.buffer.next() else {
            let waits = self.frames.values().filter(|t| t.acknowledged_at.is_none() && !t.append_unsure).count();
            self.check(waits == self.out.len() || self.fs.is_faulty(), "nothing waits but what is out");
            return;
        };
        self.received(&frame);
    }

    fn received(&mut self, frame: &Frame) {
        let place = (group_number(frame), frame.header().group_index);
        self.trace.push(format!("got {place:?} as number {}", frame.header().seq));
        let known = self.frames.get(&place).map(|tracked| content(&tracked.frame));
        self.check(known.as_ref() == Some(&content(frame)), "what comes out was put in");
        self.check(self.frames[&place].acknowledged_at.is_none(), "it was not acknowledged");
        self.out.retain(|(out, _)| *out != place);
        self.out.push((place, frame.header().seq));
    }

    fn acknowledge(&mut self) {
        if self.out.is_empty() {
            return;
        }
        let at = self.roll(self.out.len() as u64) as usize;
        let (place, seq) = self.out.remove(at);
        self.trace.push(format!("acknowledge {place:?}, number {seq}, at {}", self.millis));
        let now = self.now();
        self.buffer.acknowledge(seq, None, now);
        let unsure = self.fs.is_faulty() || self.is_faulty;
        if let Some(tracked) = self.frames.get_mut(&place) {
            (tracked.acknowledged_at, tracked.ack_unsure) = (Some(self.millis), unsure);
        }
    }

    fn put_back(&mut self) {
        if let Some(last) = self.out.pop() {
            self.trace.push(format!("put back {last:?}"));
            self.buffer.put_back(last.1);
            let frame = self.buffer.next();
            match frame {
                Some(frame) => {
                    self.check(frame.header().seq == last.1, "what was put back comes first");
                    self.out.push(last);
                }
                None => self.check(self.is_faulty, "what was put back comes again"),
            }
        }
    }

    fn tick(&mut self) {
        self.millis += [10, 300, 1000, 1500, 11_000][self.roll(5) as usize];
        self.trace.push(format!("tick at {}", self.millis));
        let now = self.now();
        self.buffer.tick(now);
        if self.is_faulty || self.fs.is_faulty() {
            return;
        }
        for tracked in self.frames.values_mut() {
            let waits = tracked.acknowledged_at.is_none();
            tracked.is_durable |= waits && tracked.appended_at + 1000 <= self.millis;
            tracked.ack_is_durable |= tracked.acknowledged_at.is_some_and(|at| at + 1000 <= self.millis);
        }
    }

    fn sync(&mut self) {
        self.trace.push("sync".to_owned());
        let now = self.now();
        self.buffer.sync(now);
        if self.is_faulty || self.fs.is_faulty() {
            return;
        }
        for tracked in self.frames.values_mut() {
            tracked.is_durable |= tracked.acknowledged_at.is_none();
            tracked.ack_is_durable |= tracked.acknowledged_at.is_some();
        }
    }

    fn fail_once(&mut self) {
        let after = self.roll(6);
        let errno = [Errno::NOSPC, Errno::IO][self.roll(2) as usize];
        self.trace.push(format!("call {after} from here fails with {errno:?}"));
        self.fs.fault(Some(Fault::once(after, errno)));
        self.is_faulty = true;
    }

    /// The process dies in the middle of something.
    fn die(&mut self) {
        let after = self.roll(5);
        self.trace.push(format!("dies in call {after} from here, in:"));
        self.fs.fault(Some(Fault::killed(after)));
        match self.roll(4) {
            0 => self.append(),
            1 => self.acknowledge(),
            2 => self.tick(),
            _ => self.sync(),
        }
        let crash = if self.roll(4) == 0 { Crash::PowerLoss } else { Crash::Killed };
        self.crash(crash);
    }

    fn crash(&mut self, crash: Crash) {
        self.trace.push(format!("{crash:?}"));
        self.fs.fault(None);
        if crash == Crash::PowerLoss {
            let seed = self.roll(u64::MAX);
            self.fs.lose_power(seed);
        }
        let was_faulty = std::mem::take(&mut self.is_faulty);
        let (buffer, recovered) = SinkBuffer::open(Arc::new(self.fs.clone()), self.options.clone(), EPOCH, self.now());
        self.buffer = buffer;
        self.buffer.segment_bytes = 3000;
        self.out.clear();
        self.had_power_loss |= crash == Crash::PowerLoss;
        if !self.had_power_loss && !was_faulty {
            self.check(recovered.damaged_frames + recovered.missing_frames == 0, "a crash damages nothing");
        }
        let left: Vec<Frame> = drain(&mut self.buffer);
        self.check(left.len() as u64 == recovered.frames, "as many frames come as were found");
        self.check(left.iter().map(|f| f.header().seq).is_sorted_by(|a, b| a < b), "they come in order");
        let mut came = BTreeMap::new();
        for frame in &left {
            let place = (group_number(frame), frame.header().group_index);
            self.trace.push(format!("left: {place:?} as number {}", frame.header().seq));
            if crash == Crash::PowerLoss && self.past.contains_key(&place) {
                let group: Vec<_> = self.past.range((place.0, 0)..(place.0 + 1, 0)).map(|(place, t)| (*place, t.clone())).collect();
                self.frames.extend(group);
                self.past.retain(|past, _| past.0 != place.0);
            }
            let known = self.frames.get(&place).map(|tracked| content(&tracked.frame));
            self.check(known.as_ref() == Some(&content(frame)), "what is left was put in");
            came.insert(place, frame.header().seq);
        }
        self.check(came.len() == left.len(), "nothing is left twice");
        self.check_frames(crash, was_faulty, &came);
        self.check_held(crash, was_faulty, &came);
        self.forget_what_is_gone(&came);
        self.out = came.into_iter().collect();
    }

    fn check_frames(&mut self, crash: Crash, was_faulty: bool, came: &BTreeMap<(u64, u16), u64>) {
        for (place, tracked) in self.frames.clone() {
            let came = came.contains_key(&place);
            let is_known = match crash {
                Crash::Killed => !tracked.append_unsure,
                Crash::PowerLoss => tracked.is_durable && !was_faulty,
            };
            if is_known && tracked.acknowledged_at.is_none() {
                self.check(came, &format!("{place:?} is not lost"));
            }
            let ack_is_known = match crash {
                Crash::Killed => !tracked.ack_unsure,
                Crash::PowerLoss => tracked.ack_is_durable && !was_faulty,
            };
            if ack_is_known && tracked.acknowledged_at.is_some() && !was_faulty {
                self.check(!came, &format!("{place:?} is not sent again"));
            }
        }
    }

    fn check_held(&mut self, crash: Crash, was_faulty: bool, came: &BTreeMap<(u64, u16), u64>) {
        for number in 0..self.next_group {
            let frames: Vec<_> = self.frames.range((number, 0)..(number + 1, 0)).map(|(place, t)| (*place, t.clone())).collect();
            let held = holds(&self.buffer, number);
            if held {
                let is_whole = frames.first().is_some_and(|(_, t)| frames.len() == usize::from(t.frame.header().group_len));
                let is_safe = is_whole && frames.iter().all(|(place, t)| came.contains_key(place) || t.acknowledged_at.is_some());
                self.check(is_safe, &format!("group {number} is held, and each of its frames waits or was acknowledged"));
            }
            let whole = frames.first().is_some_and(|(_, t)| frames.len() == usize::from(t.frame.header().group_len));
            let must_hold = whole
                && !was_faulty
                && frames.iter().all(|(place, t)| match crash {
                    Crash::Killed => came.contains_key(place) || (t.acknowledged_at.is_some() && !t.ack_unsure),
                    Crash::PowerLoss => came.contains_key(place) || t.ack_is_durable,
                });
            // With a failure before, an acknowledgement may be on the disk without the one that came before it.
            if must_hold && !frames.iter().any(|(_, t)| t.append_unsure || t.ack_unsure) {
                self.check(held, &format!("group {number} is held"));
            }
        }
    }

    /// What is neither left nor held is read again from its source, under another number here.
    fn forget_what_is_gone(&mut self, came: &BTreeMap<(u64, u16), u64>) {
        let held: Vec<bool> = (0..self.next_group).map(|number| holds(&self.buffer, number)).collect();
        self.frames.retain(|place, tracked| {
            let came = came.contains_key(place);
            tracked.append_unsure = false;
            tracked.ack_unsure = false;
            // What was recovered counts as new: it may not have been synced.
            if tracked.acknowledged_at.is_some() {
                tracked.acknowledged_at = Some(self.millis);
            }
            if came {
                // Sent again though it was acknowledged: allowed above.
                tracked.acknowledged_at = None;
                tracked.ack_is_durable = false;
                tracked.appended_at = self.millis;
            }
            let stays = came || held[place.0 as usize];
            if !stays {
                self.past.insert(*place, tracked.clone());
            }
            stays
        });
    }

    fn check(&self, holds: bool, what: &str) {
        assert!(holds, "BUFFER_SEED={}: not so: {what}\n{}", self.seed, self.trace.join("\n"));
    }
}

fn roll(chance: &mut u64, bound: u64) -> u64 {
    *chance = chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *chance;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % bound
}

#[test]
fn no_history_of_crashes_loses_a_frame_or_takes_one_for_another() {
    if let Ok(seed) = std::env::var("BUFFER_SEED") {
        return History::new(seed.parse().expect("a number")).run();
    }
    let histories = std::env::var("BUFFER_HISTORIES").map_or(HISTORIES, |count| count.parse().expect("a number"));
    for seed in 0..histories {
        History::new(seed).run();
    }
}

/// In memory mode the log alone survives: each of its records whole or not at all.
#[test]
fn in_memory_mode_no_crash_parts_a_note_from_its_ranges() {
    let (mut held_after_power_loss, mut lost_after_power_loss) = (0, 0);
    for seed in 0..1000 {
        let mut chance = seed;
        let fs = SimFs::new();
        let (mut buffer, _) = open(&fs, memory());
        let groups = roll(&mut chance, 12);
        let (mut done, mut synced) = (0, 0);
        let killed = roll(&mut chance, 2) == 0;
        for number in 0..groups {
            append(&mut buffer, group_of(number, roll(&mut chance, 3) as u16 + 1, 5));
            if killed && number + 1 == groups {
                fs.fault(Some(Fault::killed(roll(&mut chance, 2))));
            }
            for frame in drain(&mut buffer) {
                buffer.acknowledge(frame.header().seq, Some(note("length", &number.to_string())), seconds(number));
            }
            done = number + 1;
            if !killed && roll(&mut chance, 4) == 0 {
                buffer.tick(seconds(number + 1));
                synced = done;
            }
        }
        fs.fault(None);
        if !killed {
            fs.lose_power(seed);
        }
        let (buffer, recovered) = open(&fs, memory());
        let held: Vec<u64> = (0..done).filter(|n| holds(&buffer, *n)).collect();
        let noted: Vec<u64> = recovered.notes.iter().map(|note| std::str::from_utf8(&note.value).unwrap().parse().unwrap()).collect();
        assert_eq!(held.last(), noted.last(), "seed {seed}: the note is that of the last group that is held");
        if killed {
            assert!(held.len() as u64 >= done.saturating_sub(1), "seed {seed}");
        } else {
            assert!((0..synced).all(|n| held.contains(&n)), "seed {seed}");
            held_after_power_loss += held.len();
            lost_after_power_loss += done as usize - held.len();
        }
    }
    assert!(held_after_power_loss > 100 && lost_after_power_loss > 100);
}
