//! The loop with sources, transforms and buffers that are a few lines each.

use std::collections::VecDeque;
use std::sync::Mutex;

use super::*;
use crate::batch::Field;
use crate::body::{Bodies, BodyLimits, Compression};
use crate::buffer::Appended;
use crate::edge::SystemClock;
use crate::frame::{Frame, FrameScope};
use crate::position::Range;
use crate::sink::Encode;
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
    groups: Mutex<Vec<Vec<Frame>>>,
    refusals: Mutex<u32>,
}

impl Intake for Kept {
    fn has_room(&self) -> bool {
        true
    }

    fn append(&self, group: Vec<Frame>, _now: Nanos) -> Appended {
        let mut refusals = self.refusals.lock().unwrap();
        if *refusals > 0 {
            *refusals -= 1;
            return Appended::Full(group);
        }
        self.groups.lock().unwrap().push(group);
        Appended::Kept
    }
}

impl Kept {
    fn text(&self) -> String {
        let groups = self.groups.lock().unwrap();
        groups.iter().flatten().map(|frame| String::from_utf8_lossy(frame.body()).into_owned()).collect()
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
