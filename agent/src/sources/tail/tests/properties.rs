//! What must hold for whatever is in the files and however they are read.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A line of a log, by what is special about it.
#[derive(Clone, Debug)]
enum Written {
    Cri { stderr: bool, partial: bool, message: String },
    Odd(Vec<u8>),
}

fn written() -> impl Strategy<Value = Written> {
    let message = prop_oneof![4 => "[a-z ]{0,12}", 1 => "[ä-ü]{1,8}", 1 => "[x]{60,90}"];
    let odd = prop_oneof![
        Just(b"no header".to_vec()),
        Just(Vec::new()),
        Just(vec![0; 5]),
        Just(b"2026-03-10T15:48:15.217676062Z stdout F bad \xff byte".to_vec()),
        Just(b"2026-03-10T15:48:15.217676062+08:00 stdout 2026-03-10T16:03:15.223186693+08:00 stdout F + true".to_vec()),
        Just(b"2026-03-10T15:48:15.217676062Z stderr F crlf\r".to_vec()),
    ];
    prop_oneof![
        5 => (any::<bool>(), prop::bool::weighted(0.3), message).prop_map(|(stderr, partial, message)| Written::Cri { stderr, partial, message }),
        1 => odd.prop_map(Written::Odd),
    ]
}

/// The text of a log; `number` makes its first line its own.
fn text(number: u32, lines: &[Written]) -> Vec<u8> {
    let mut text = cri_first(number, "first").into_bytes();
    for line in lines {
        match line {
            Written::Cri { stderr, partial, message } => {
                let line = cri(if *stderr { "stderr" } else { "stdout" }, if *partial { "P" } else { "F" }, message);
                text.extend_from_slice(line.as_bytes());
            }
            Written::Odd(bytes) => {
                text.extend_from_slice(bytes);
                text.push(b'\n');
            }
        }
    }
    text
}

const CONFIGS: [&str; 4] = [
    "",
    "max_record_bytes = 256",
    "max_record_bytes = 256\nmax_record_action = \"split\"",
    "multiline = { mode = \"halt_before\", condition_pattern = \"^[a-m]\", max_lines = 4, timeout_ms = 3600000 }",
];

fn config(index: usize) -> String {
    format!("type = \"kubernetes_logs\"\nroot = \"pods\"\n{}", CONFIGS[index])
}

const LOG: &str = "pods/ns_pod_uid/app/0.log";

fn records(chunks: &[Got]) -> Vec<Seen> {
    chunks.iter().flat_map(|got| got.records.clone()).collect()
}

/// Reads a rig to its end once, with its last part not given out.
fn read_all(rig: &mut Rig, which: usize, block_bytes: usize) -> Vec<Got> {
    rig.block_bytes = block_bytes;
    rig.start(&config(which));
    let mut chunks = rig.drain();
    for _ in 0..30 {
        rig.now = rig.now.after(Duration::from_millis(100));
        chunks.extend(rig.drain());
    }
    chunks
}

/// Lets so much time pass that no record of several lines is waited for any longer.
fn expire(rig: &mut Rig) -> Vec<Got> {
    rig.now = rig.now.after(Duration::from_secs(7_200));
    rig.drain()
}

/// The stretches that no chunk covered: of records that are open, and of a last line without its newline.
fn pending(rig: &Rig) -> u64 {
    let tailer = rig.tailer.as_ref().unwrap();
    tailer.streams.iter().flatten().map(|stream| stream.count_unread() + stream.joiner.pending_bytes()).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Records and covers are the same however the file is cut into blocks and however it grew; each byte is covered once,
    /// and what is not covered is pending.
    #[test]
    fn blocks_leave_no_trace(
        lines in prop::collection::vec(written(), 0..60),
        which in 0..CONFIGS.len(),
        blocks in 100..2_000_usize,
        steps in prop::collection::vec(1..400_usize, 0..12),
    ) {
        let text = text(1, &lines);
        let mut whole = Rig::new();
        whole.append(LOG, &text);
        let expected = read_all(&mut whole, which, BLOCK_BYTES);
        let total: u64 = covered(expected.iter()).values().flat_map(|set| set.stretches().to_vec()).map(|h| h.end - h.start).sum();
        prop_assert_eq!(total + pending(&whole), text.len() as u64);

        let mut rig = Rig::new();
        rig.block_bytes = blocks;
        rig.start(&config(which));
        let (mut chunks, mut at) = (Vec::new(), 0);
        for step in steps.into_iter().chain([usize::MAX]) {
            let end = at + step.min(text.len() - at);
            rig.append(LOG, &text[at..end]);
            at = end;
            rig.now = rig.now.after(Duration::from_secs(3));
            chunks.extend(rig.drain());
            rig.now = rig.now.after(Duration::from_secs(10));
            chunks.extend(rig.drain());
        }
        prop_assert_eq!(records(&chunks), records(&expected));
        prop_assert_eq!(covered(chunks.iter()), covered(expected.iter()));
    }

    /// Killed anywhere, with any part of what was read on disk for each sink, every sink gets each record once in the end:
    /// over two rotations, with records that cross them.
    #[test]
    fn starts_bring_what_is_missing_and_nothing_else(
        generations in prop::collection::vec(prop::collection::vec(written(), 0..20), 1..4),
        which in 0..CONFIGS.len(),
        lives in prop::collection::vec((100..1_000_usize, prop::collection::vec(any::<u8>(), 1..40)), 1..5),
    ) {
        let mut rig = Rig::new();
        rig.sinks = SinkSet::first(3);
        for (number, lines) in generations.iter().enumerate() {
            let last = number + 1 == generations.len();
            let name = if last { LOG.to_owned() } else { format!("{LOG}.20260310-15481{number}") };
            rig.append(&name, text(number as u32 + 1, lines));
        }
        let mut expected = read_all(&mut rig, which, BLOCK_BYTES);
        expected.extend(expire(&mut rig));
        let mut expected = records(&expected);
        expected.sort();

        let mut delivered: BTreeMap<usize, Vec<Seen>> = (0..3).map(|sink| (sink, Vec::new())).collect();
        let last = lives.len();
        for (life, (block_bytes, kept)) in lives.into_iter().chain([(700, vec![7])]).enumerate() {
            let mut chunks = read_all(&mut rig, which, block_bytes);
            if life == last {
                // What would have ended an open record may be held already, and is not read again: then time ends it.
                chunks.extend(expire(&mut rig));
            }
            // Each chunk reaches the disk for some of the sinks before the next kill; in the last life for all.
            for (chunk, keep) in chunks.iter().zip(kept.iter().cycle()) {
                let sinks = if life == last { SinkSet::first(3) } else { SinkSet(u64::from(*keep & 7)) };
                let sinks = chunk.needs.and(sinks);
                rig.held.hold(sinks, &chunk.covers);
                for (sink, seen) in &mut delivered {
                    if sinks.contains(*sink) {
                        seen.extend(chunk.records.iter().cloned());
                    }
                }
            }
        }
        for (sink, mut seen) in delivered {
            seen.sort();
            prop_assert_eq!(&seen, &expected, "sink {}", sink);
        }
    }

    /// Records that were given out because their time was over are never joined again in another way: whatever each sink
    /// holds of them, it gets each line once. Here records of the same lines differ from life to life, so lines are counted.
    #[test]
    fn lines_given_out_early_come_once(
        lives in prop::collection::vec(
            (prop::collection::vec((prop::collection::vec(any::<bool>(), 0..5), any::<bool>()), 1..6), any::<u64>()), 1..6
        ),
    ) {
        const CONFIG: &str = "type = \"file\"\ninclude = [\"a.log\"]\nmultiline = { mode = \"indent\", timeout_ms = 500 }\n";
        let mut rig = Rig::new();
        rig.sinks = SinkSet::first(2);
        let mut delivered: [Vec<u32>; 2] = Default::default();
        let (mut written, mut kept) = (0, 0_u64);
        for (steps, seed) in lives.into_iter().chain([(vec![(vec![true], true)], u64::MAX)]) {
            rig.start(CONFIG);
            let mut chunks = Vec::new();
            for (lines, wait) in steps {
                for indented in lines {
                    rig.append("a.log", format!("{}{written}\n", if indented { " " } else { "" }));
                    written += 1;
                }
                for _ in 0..if wait { 30 } else { 3 } {
                    rig.now = rig.now.after(Duration::from_millis(100));
                    chunks.extend(rig.drain());
                }
            }
            kept ^= seed;
            for (number, chunk) in chunks.iter().enumerate() {
                let sinks = SinkSet(if seed == u64::MAX { 3 } else { kept.rotate_left(number as u32 * 7) & 3 }).and(chunk.needs);
                rig.held.hold(sinks, &chunk.covers);
                for (_, lines) in delivered.iter_mut().enumerate().filter(|(sink, _)| sinks.contains(*sink)) {
                    let texts = chunk.records.iter().flat_map(|(_, _, text)| text.split('\n'));
                    lines.extend(texts.map(|line| line.trim_start().parse::<u32>().unwrap()));
                }
            }
        }
        for mut lines in delivered {
            lines.sort_unstable();
            prop_assert_eq!(lines, (0..written).collect::<Vec<_>>());
        }
    }
}
