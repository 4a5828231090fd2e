//! The loop with sources, transforms and buffers that are a few lines each.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::*;
use crate::batch::Field;
use crate::body::{Bodies, BodyLimits, Compression};
use crate::buffer::Appended;
use crate::edge::SystemClock;
use crate::frame::{Frame, FrameScope};
use crate::position::Range;
use crate::sink::Encode;
use crate::source::{Read, Source};
use crate::transform::Transform;
use crate::value::{Kind, Span};

const FILE: FileKey = FileKey([7; 16]);

/// Gives out one chunk for each list of lines, all of one file.
struct Lines {
    chunks: VecDeque<(Vec<&'static str>, SinkSet)>,
    at: u64,
}

impl Lines {
    fn new(chunks: &[(&[&'static str], SinkSet)]) -> Box<Lines> {
        Box::new(Lines { chunks: chunks.iter().map(|(lines, needs)| (lines.to_vec(), *needs)).collect(), at: 0 })
    }
}

impl Source for Lines {
    fn read(&mut self, chunk: &mut Chunk, _now: Nanos) -> Read {
        let Some((lines, needs)) = self.chunks.pop_front() else { return Read::End };
        chunk.batch.reset(Shared::empty(), FILE);
        chunk.covers.clear();
        chunk.needs = needs;
        let start = self.at;
        let key = chunk.batch.append(b"message");
        for line in lines {
            let value = chunk.batch.append(line.as_bytes());
            chunk.batch.push(self.at, &[Field { key, value, kind: Kind::Text }]);
            self.at += line.len() as u64 + 1;
        }
        chunk.bytes_read = self.at - start;
        chunk.covers.push(Range { file: FILE, start, end: self.at, marker: self.at });
        Read::Chunk
    }

    fn stop(&mut self) {
        self.chunks.clear();
    }
}

/// Writes the message and the route of each record, a line each.
struct Plain;

impl Encode for Plain {
    fn encode(&mut self, batch: &Batch, route: u8, out: &mut Bodies) {
        let mut text = Vec::new();
        for record in batch.records() {
            let (_, value) = record.iter().next().unwrap();
            text.extend_from_slice(value.raw);
            text.extend_from_slice(format!(" {route}\n").as_bytes());
        }
        out.write("", &text, batch.len() as u32);
    }
}

/// Replaces every message.
struct Shout;

impl Transform for Shout {
    fn apply(&mut self, batch: &mut Batch, report: &mut Report) {
        report.filtered += 1;
        batch.edit_values(|bytes, _, fields| {
            for field in fields {
                let start = bytes.len();
                let upper = field.value.of(bytes).to_ascii_uppercase();
                bytes.extend_from_slice(&upper);
                field.value = Span::new(start, bytes.len());
            }
        });
    }
}

/// Keeps groups; refuses the first `refusals` of them.
#[derive(Default)]
struct Kept {
    full: AtomicBool,
    groups: Mutex<Vec<Vec<Frame>>>,
    refusals: Mutex<u32>,
    promised: Mutex<Vec<Range>>,
}

impl Intake for Kept {
    fn has_room(&self) -> bool {
        !self.full.load(Ordering::Relaxed)
    }

    fn append(&self, group: Vec<Frame>, _now: Nanos) -> Appended {
        if !self.has_room() {
            return Appended::Full(group);
        }
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Appended::Full(group);
        }
        self.groups.lock().unwrap().push(group);
        Appended::Kept
    }

    fn promise(&self, ranges: Vec<Range>) {
        *self.promised.lock().unwrap() = ranges;
    }
}

impl Kept {
    fn text(&self) -> String {
        let groups = self.groups.lock().unwrap();
        groups.iter().flatten().map(|frame| String::from_utf8_lossy(frame.body()).into_owned()).collect()
    }

    /// Whether it holds these bytes of a file.
    fn holds(&self, file: FileKey, start: u64, end: u64) -> bool {
        let groups = self.groups.lock().unwrap();
        let promised = self.promised.lock().unwrap();
        let mut ranges = groups.iter().flatten().flat_map(|frame| &frame.header().ranges).chain(&*promised);
        ranges.any(|range| range.file == file && range.start <= start && end <= range.end)
    }

    fn ranges(&self) -> Vec<(u64, u64)> {
        let groups = self.groups.lock().unwrap();
        groups.iter().flatten().flat_map(|frame| &frame.header().ranges).map(|r| (r.start, r.end)).collect()
    }
}

fn run(source: Box<Lines>, program: Program, sinks: &[Arc<Kept>]) -> Report {
    let limits = BodyLimits { max_bytes: 1 << 20, max_records: 1000, linger: Duration::from_secs(3600), max_open: 8 };
    let outlet = |kept: &Arc<Kept>| {
        let scope = FrameScope::new([0; 16], "test".into(), [1; 16]);
        Outlet::new(Box::new(Plain), Bodies::new(Compression::None, limits), scope, kept.clone())
    };
    let stats = Arc::new(Stats::default());
    let feed = Feed::new(source, program);
    let outlets = sinks.iter().map(outlet).collect();
    Worker::new(vec![feed], outlets, Arc::new(SystemClock::new()), stats.clone(), Control::new()).run();
    stats.report()
}

fn sink(index: usize, route: u8) -> Edge {
    Edge::Sink { index, route }
}

fn shout(next: Vec<Edge>) -> Edge {
    Edge::Node(Box::new(Node::new(Box::new(Shout), Program::new(next))))
}

#[test]
fn every_sink_gets_its_own_version_and_all_the_positions() {
    let (plain, loud) = (Arc::new(Kept::default()), Arc::new(Kept::default()));
    let both = SinkSet::first(2);
    let program = Program::new(vec![shout(vec![sink(1, 0)]), shout(vec![sink(1, 1)]), sink(0, 0)]);
    run(Lines::new(&[(&["a", "b"], both), (&["c"], both)]), program, &[plain.clone(), loud.clone()]);
    assert_eq!(plain.text(), "a 0\nb 0\nc 0\n");
    assert_eq!(loud.text(), "A 0\nB 0\nA 1\nB 1\nC 0\nC 1\n");
    assert_eq!((plain.ranges(), loud.ranges()), (vec![(0, 6)], vec![(0, 6)]));
}

#[test]
fn a_sink_that_holds_a_chunk_does_not_get_it_again() {
    let (a, b) = (Arc::new(Kept::default()), Arc::new(Kept::default()));
    let chunks: &[(&[&str], SinkSet)] = &[(&["one"], SinkSet::only(1)), (&["two"], SinkSet::first(2))];
    let report = run(Lines::new(chunks), Program::new(vec![sink(0, 0), shout(vec![sink(1, 0)])]), &[a.clone(), b.clone()]);
    assert_eq!((a.text().as_str(), b.text().as_str()), ("two 0\n", "ONE 0\nTWO 0\n"));
    assert_eq!((a.ranges(), b.ranges()), (vec![(4, 8)], vec![(0, 8)]));
    assert_eq!(report.filtered, 2);
}

#[test]
fn a_group_that_the_buffer_refused_is_offered_until_it_is_in() {
    let kept = Arc::new(Kept { refusals: Mutex::new(2), ..Kept::default() });
    run(Lines::new(&[(&["a"], SinkSet::first(1))]), Program::new(vec![sink(0, 0)]), std::slice::from_ref(&kept));
    assert_eq!((kept.text().as_str(), kept.ranges()), ("a 0\n", vec![(0, 2)]));
}

#[test]
fn positions_move_without_records_too() {
    let kept = Arc::new(Kept::default());
    run(Lines::new(&[(&[], SinkSet::first(1)), (&[], SinkSet::first(1))]), Program::new(vec![sink(0, 0)]), std::slice::from_ref(&kept));
    assert_eq!(kept.ranges(), []);
    let mut source = Lines::new(&[(&[], SinkSet::first(1))]);
    source.at = 10;
    source.chunks[0].0.push("filtered");
    struct Nothing;
    impl Transform for Nothing {
        fn apply(&mut self, batch: &mut Batch, _: &mut Report) {
            batch.retain(|_| false);
        }
    }
    let program = Program::new(vec![Edge::Node(Box::new(Node::new(Box::new(Nothing), Program::new(vec![sink(0, 0)]))))]);
    run(source, program, std::slice::from_ref(&kept));
    assert_eq!(kept.ranges(), [(10, 19)]);
    assert_eq!(kept.groups.lock().unwrap()[0][0].header().records, 0);
}

/// A file of one-line chunks that can be read as often as one likes, each by its own way; it ends when told to.
struct Rereadable {
    key: FileKey,
    file: Arc<Mutex<Vec<&'static str>>>,
    sinks: SinkSet,
    buffers: Vec<Arc<Kept>>,
    from: u64,
    done: Arc<AtomicBool>,
}

impl Source for Rereadable {
    fn read(&mut self, chunk: &mut Chunk, now: Nanos) -> Read {
        let mut at = 0;
        for line in &*self.file.lock().unwrap() {
            let end = at + line.len() as u64;
            let held = |index: &usize| self.buffers[*index].holds(self.key, at, end);
            let holders = (0..self.buffers.len()).filter(held).fold(SinkSet::default(), |set, index| set.or(SinkSet::only(index)));
            let needs = if at >= self.from { self.sinks.without(holders) } else { SinkSet::default() };
            if !needs.is_empty() {
                chunk.batch.reset(Shared::empty(), self.key);
                let key = chunk.batch.append(b"message");
                let value = chunk.batch.append(line.as_bytes());
                chunk.batch.push(at, &[Field { key, value, kind: Kind::Text }]);
                chunk.covers = vec![Range { file: self.key, start: at, end, marker: 0 }];
                (chunk.needs, self.from) = (needs, end);
                return Read::Chunk;
            }
            at = end;
        }
        if self.done.load(Ordering::Relaxed) { Read::End } else { Read::Idle { until: now.after(Duration::from_millis(1)) } }
    }

    fn fork(&self, sinks: SinkSet) -> Option<Box<dyn Source>> {
        let Rereadable { key, file, buffers, done, .. } = self;
        Some(Box::new(Rereadable { key: *key, file: file.clone(), sinks, buffers: buffers.clone(), from: 0, done: done.clone() }))
    }

    fn restrict(&mut self, sinks: SinkSet) {
        self.sinks = sinks;
    }

    fn stop(&mut self) {}
}

/// What a full buffer does not take is neither lost nor read twice: the next worker brings it.
#[test]
fn a_worker_that_takes_over_brings_what_there_was_no_room_for() {
    let (kept, done) = (Arc::new(Kept::default()), Arc::new(AtomicBool::new(false)));
    let worker = |left: Option<Unsettled>| {
        let scope = FrameScope::new([1; 16], "sink".into(), [2; 16]);
        let limits = BodyLimits { max_bytes: 1000, max_records: 1000, max_open: 4, linger: Duration::from_secs(60) };
        let mut outlet = Outlet::new(Box::new(Plain), Bodies::new(Compression::None, limits), scope, kept.clone());
        outlet.take_over(left);
        let source = Rereadable {
            key: FileKey([5; 16]),
            file: Arc::new(Mutex::new(vec!["a", "b"])),
            sinks: SinkSet::first(1),
            buffers: vec![kept.clone()],
            from: 0,
            done: done.clone(),
        };
        let feed = Feed::new(Box::new(source), Program::new(vec![sink(0, 0)]));
        Worker::new(vec![feed], vec![outlet], Arc::new(SystemClock::new()), Arc::default(), Control::new())
    };
    let mut chunk = Chunk { batch: Batch::new(Shared::empty(), FileKey([0; 16])), covers: vec![], needs: SinkSet(0), bytes_read: 0 };
    let mut first = worker(None);
    assert!(first.round(&mut chunk, Nanos(1), false), "it has read `a`");
    kept.full.store(true, Ordering::Relaxed);
    let left = first.leave();
    assert_eq!((left.len(), kept.text().as_str()), (1, ""));
    // And so on, until there is room.
    let second = worker(left.into_iter().next());
    let left = second.leave();
    kept.full.store(false, Ordering::Relaxed);
    done.store(true, Ordering::Relaxed);
    assert_eq!(worker(left.into_iter().next()).run().len(), 0);
    assert_eq!((kept.text().as_str(), kept.ranges()), ("a 0\nb 0\n", vec![(0, 1), (1, 2)]));
    assert_eq!(kept.promised.lock().unwrap().len(), 0, "what is in is no promise any more");
}

/// A clock that a test moves.
#[derive(Default)]
struct Handmade(AtomicU64);

impl Clock for Handmade {
    fn now(&self) -> Nanos {
        Nanos(self.0.load(Ordering::Relaxed))
    }

    fn unix_nanos(&self) -> i64 {
        0
    }
}

/// A turn of the loop at the given second.
fn turn(worker: &mut Worker, clock: &Handmade, second: u64) {
    clock.0.store(second * 1_000_000_000, Ordering::Relaxed);
    let mut chunk = Chunk { batch: Batch::new(Shared::empty(), FILE), covers: Vec::new(), needs: SinkSet::default(), bytes_read: 0 };
    while worker.turn(&mut chunk, clock.now(), &mut Report::default()) {}
    worker.freeze_due(clock.now(), false);
}

#[test]
fn a_full_buffer_stops_the_reading_for_its_own_sink_alone_and_it_catches_up() {
    let buffers = vec![Arc::new(Kept::default()), Arc::new(Kept::default())];
    let file = Arc::new(Mutex::new(vec!["a", "b"]));
    let done = Arc::new(AtomicBool::new(false));
    let source =
        Rereadable { key: FILE, file: file.clone(), sinks: SinkSet::first(2), buffers: buffers.clone(), from: 0, done: done.clone() };
    let clock = Arc::new(Handmade::default());
    let limits = BodyLimits { max_bytes: 1 << 20, max_records: 1000, linger: Duration::from_millis(1), max_open: 8 };
    let outlet = |kept: &Arc<Kept>| {
        let scope = FrameScope::new([0; 16], "test".into(), [1; 16]);
        Outlet::new(Box::new(Plain), Bodies::new(Compression::None, limits), scope, kept.clone())
    };
    let feed = Feed::new(Box::new(source), Program::new(vec![sink(0, 0), sink(1, 0)]));
    let outlets = buffers.iter().map(outlet).collect();
    let mut worker = Worker::new(vec![feed], outlets, clock.clone(), Arc::default(), Control::new());

    turn(&mut worker, &clock, 1);
    turn(&mut worker, &clock, 2);
    assert_eq!((buffers[0].text(), buffers[1].text()), ("a 0\nb 0\n".to_owned(), "a 0\nb 0\n".to_owned()));

    // Written, read, encoded for both, and then one store goes away before its body is frozen.
    file.lock().unwrap().push("c");
    clock.0.store(3_000_000_000, Ordering::Relaxed);
    let mut chunk = Chunk { batch: Batch::new(Shared::empty(), FILE), covers: Vec::new(), needs: SinkSet::default(), bytes_read: 0 };
    assert!(worker.turn(&mut chunk, clock.now(), &mut Report::default()));
    buffers[1].full.store(true, Ordering::Relaxed);
    for second in 4..8 {
        file.lock().unwrap().push("d");
        turn(&mut worker, &clock, second);
        turn(&mut worker, &clock, second);
    }
    turn(&mut worker, &clock, 9);
    assert_eq!(buffers[0].text(), "a 0\nb 0\nc 0\nd 0\nd 0\nd 0\nd 0\n");
    assert_eq!(buffers[1].text(), "a 0\nb 0\n");

    buffers[1].full.store(false, Ordering::Relaxed);
    for second in 10..30 {
        turn(&mut worker, &clock, second);
    }
    assert_eq!(buffers[1].text(), buffers[0].text());

    // Together again: one reader, and both get what comes.
    file.lock().unwrap().push("e");
    turn(&mut worker, &clock, 31);
    turn(&mut worker, &clock, 32);
    assert_eq!((buffers[1].text(), worker.feeds[0].reader_count()), (buffers[0].text(), 1));
    assert!(buffers[0].text().ends_with("e 0\n"));
}

#[test]
fn a_sink_that_falls_behind_keeps_what_it_has_of_other_sources() {
    let buffers = vec![Arc::new(Kept::default()), Arc::new(Kept::default())];
    let files = [vec!["a"], vec!["x"]].map(|lines| Arc::new(Mutex::new(lines)));
    let done = Arc::new(AtomicBool::new(false));
    let source = |index: usize, sinks| {
        let (key, file) = (FileKey([index as u8; 16]), files[index].clone());
        Box::new(Rereadable { key, file, sinks, buffers: buffers.clone(), from: 0, done: done.clone() })
    };
    let clock = Arc::new(Handmade::default());
    let limits = BodyLimits { max_bytes: 1 << 20, max_records: 1000, linger: Duration::from_secs(3600), max_open: 8 };
    let outlet = |kept: &Arc<Kept>| {
        let scope = FrameScope::new([0; 16], "test".into(), [1; 16]);
        Outlet::new(Box::new(Plain), Bodies::new(Compression::None, limits), scope, kept.clone())
    };
    // The second source reaches the second sink alone.
    let both = Feed::new(source(0, SinkSet::first(2)), Program::new(vec![sink(0, 0), sink(1, 0)]));
    let one = Feed::new(source(1, SinkSet::only(1)), Program::new(vec![sink(1, 0)]));
    let outlets = buffers.iter().map(outlet).collect();
    let mut worker = Worker::new(vec![both, one], outlets, clock.clone(), Arc::default(), Control::new());
    turn(&mut worker, &clock, 1);

    // Encoded and not frozen when the second sink's buffer fills.
    buffers[1].full.store(true, Ordering::Relaxed);
    for second in 2..9 {
        files[0].lock().unwrap().push("b");
        turn(&mut worker, &clock, second);
    }
    assert_eq!(worker.feeds[0].reader_count(), 2);
    buffers[1].full.store(false, Ordering::Relaxed);
    for second in 10..30 {
        turn(&mut worker, &clock, second);
    }
    worker.freeze_due(clock.now(), true);
    let sorted = |kept: &Kept| {
        let text = kept.text();
        let mut lines: Vec<&str> = text.lines().collect();
        lines.sort_unstable();
        lines.join(",")
    };
    assert_eq!(sorted(&buffers[0]), "a 0,b 0,b 0,b 0,b 0,b 0,b 0,b 0");
    assert_eq!(sorted(&buffers[1]), "a 0,b 0,b 0,b 0,b 0,b 0,b 0,b 0,x 0", "each once");
}
