//! The course of things without faults: round trips, restarts, order, memory, syncs.

use super::*;
use crate::buffer::format::{FileHeader, Kind};

#[test]
fn frames_come_out_as_they_went_in_from_memory_from_disk_and_after_a_restart() {
    for memory_bytes in [0, 700, 1 << 20] {
        let fs = SimFs::new();
        let options = BufferOptions { memory_bytes, ..options() };
        let (mut buffer, _) = open(&fs, options.clone());
        let groups: Vec<Vec<Frame>> = (0..9).map(|n| group_of(n, (n % 3 + 1) as u16, 100 * n as usize)).collect();
        groups.iter().for_each(|group| append(&mut buffer, group.clone()));
        let written: Vec<Frame> = groups.concat();
        assert_eq!(buffer.waiting().0, written.len() as u64);
        let first = drain(&mut buffer);
        assert_eq!(contents(&first), contents(&written));
        assert!(first.iter().map(|f| f.header().seq).is_sorted_by(|a, b| a + 1 == *b));
        // Handed out is not delivered: all of it comes again, and in the next run too, but for what is acknowledged.
        for frame in &first[..4] {
            buffer.acknowledge(frame.header().seq, None, seconds(0));
        }
        let (mut buffer, recovered) = open(&fs, options.clone());
        assert_eq!((recovered.frames, recovered.torn_bytes, recovered.damaged_frames, recovered.missing_frames), (14, 0, 0, 0));
        assert_eq!(recovered.records, written[4..].iter().map(|f| u64::from(f.header().records)).sum::<u64>());
        let second = drain(&mut buffer);
        assert_eq!(second, first[4..]);
        assert!((0..9).all(|n| holds(&buffer, n)));
        second.iter().rev().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
        assert!(buffer.is_empty());
        assert_eq!(buffer.waiting(), (0, 0, 0));
        assert_eq!(segments(&fs), Vec::<PathBuf>::new());
        let (mut buffer, recovered) = open(&fs, options);
        assert_eq!((recovered.frames, recovered.missing_frames), (0, 0));
        assert!(buffer.next().is_none() && (0..9).all(|n| holds(&buffer, n)));
    }
}

#[test]
fn a_number_is_never_given_twice() {
    let fs = SimFs::new();
    let mut last = 0;
    for run in 0..5 {
        let (mut buffer, _) = open(&fs, options());
        append(&mut buffer, group(run));
        let seq = drain(&mut buffer).last().unwrap().header().seq;
        assert!(seq > last);
        last = seq;
        if run % 2 == 0 {
            buffer.acknowledge(seq, None, seconds(0));
        }
    }
}

#[test]
fn what_is_put_back_comes_again_before_newer_frames() {
    for memory_bytes in [0, 1 << 20] {
        let (mut buffer, _) = open(&SimFs::new(), BufferOptions { memory_bytes, ..options() });
        (0..4).for_each(|n| append(&mut buffer, group(n)));
        let taken: Vec<Frame> = (0..3).map(|_| buffer.next().unwrap()).collect();
        buffer.put_back(taken[2].header().seq);
        buffer.put_back(taken[0].header().seq);
        buffer.put_back(77);
        let again: Vec<u64> = drain(&mut buffer).iter().map(group_number).collect();
        assert_eq!(again, [0, 2, 3]);
        buffer.put_back(taken[1].header().seq);
        buffer.acknowledge(taken[1].header().seq, None, seconds(0));
        assert!(buffer.next().is_none());
    }
}

#[test]
fn only_so_much_is_kept_in_memory() {
    let options = BufferOptions { memory_bytes: 10_000, ..options() };
    let (mut buffer, _) = open(&SimFs::new(), options);
    for n in 0..200 {
        append(&mut buffer, group_of(n, 2, 1000));
        assert!(buffer.hot_bytes <= 10_000);
    }
    assert_eq!(drain(&mut buffer).len(), 400);
    assert_eq!((buffer.hot_bytes, buffer.hot.len()), (0, 0));
}

#[test]
fn frames_without_records_move_positions_and_are_never_handed_out() {
    for options in [options(), memory()] {
        let fs = SimFs::new();
        let (mut buffer, _) = open(&fs, options.clone());
        let mut header = group(5)[0].header().clone();
        header.records = 0;
        append(&mut buffer, vec![Frame::from_parts(header, Bytes::new())]);
        assert!(buffer.is_empty() && buffer.next().is_none() && holds(&buffer, 5));
        let (buffer, _) = open(&fs, options);
        assert!(holds(&buffer, 5));
    }
}

#[test]
fn a_healthy_sink_never_syncs_a_segment_and_leaves_none_behind() {
    let fs = SimFs::new();
    let options = BufferOptions { max_bytes: 16 << 20, ..options() };
    let (mut buffer, _) = open(&fs, options);
    let syncs = fs.syncs();
    for n in 0..300 {
        let now = Nanos(n * 10_000_000);
        assert!(matches!(buffer.append(group_of(n, 1, 20_000), now), Appended::Kept));
        let frame = buffer.next().unwrap();
        buffer.acknowledge(frame.header().seq, None, now);
        buffer.tick(now);
        assert!(segments(&fs).len() <= 1);
    }
    // Three seconds: the positions, once a second.
    assert_eq!(fs.syncs() - syncs, 2);
    buffer.tick(seconds(20));
    assert_eq!(segments(&fs), Vec::<PathBuf>::new());
}

#[test]
fn old_frames_are_synced_and_young_ones_are_not() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    append(&mut buffer, group(0));
    let due = buffer.tick(Nanos(1)).unwrap();
    assert_eq!(due, seconds(1));
    let survives = |fs: &SimFs| {
        let left = fs.fork();
        (0..20).all(|seed| {
            let fs = left.fork();
            fs.lose_power(seed);
            drain(&mut open(&fs, options()).0).len() == 1
        })
    };
    assert!(!survives(&fs));
    buffer.tick(due);
    assert!(survives(&fs));
}

#[test]
fn sync_makes_frames_and_acknowledgements_last() {
    for seed in 0..30 {
        let fs = SimFs::new();
        let (mut buffer, _) = open(&fs, options());
        (0..6).for_each(|n| append(&mut buffer, group(n)));
        let frames = drain(&mut buffer);
        buffer.acknowledge(frames[1].header().seq, None, seconds(0));
        buffer.sync(seconds(0));
        fs.lose_power(seed);
        let (mut buffer, _) = open(&fs, options());
        assert_eq!(drain(&mut buffer).iter().map(group_number).collect::<Vec<_>>(), [0, 2, 3, 4, 5]);
        assert!((0..6).all(|n| holds(&buffer, n)));
    }
}

#[test]
fn in_memory_mode_ranges_and_notes_of_a_group_are_kept_together_or_not_at_all() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, memory());
    append(&mut buffer, group_of(0, 3, 10));
    let frames = drain(&mut buffer);
    let ack = |buffer: &mut SinkBuffer, i: usize| {
        buffer.acknowledge(frames[i].header().seq, Some(note(&format!("f{i}"), &format!("length {i}"))), seconds(0));
    };
    // The last frame, which has the ranges, is acknowledged first.
    for i in [2, 0] {
        ack(&mut buffer, i);
        let (other, recovered) = open(&fs.fork(), memory());
        assert!(!holds(&other, 0) && recovered.notes.is_empty());
    }
    let before = fs.contents()[&Path::new(DIR).join("positions.wal")].len();
    ack(&mut buffer, 1);
    let log = fs.contents()[&Path::new(DIR).join("positions.wal")].clone();
    for len in before..=log.len() {
        let fs = fs.fork();
        fs.replace(&Path::new(DIR).join("positions.wal"), &log[..len]);
        let (other, recovered) = open(&fs, memory());
        let all = len == log.len();
        assert_eq!((holds(&other, 0), recovered.notes.len()), (all, if all { 3 } else { 0 }));
    }
    assert!(buffer.is_empty());
}

#[test]
fn the_last_note_of_a_key_is_handed_back_and_an_empty_one_removes_it() {
    for options in [options(), memory()] {
        let fs = SimFs::new();
        let (mut buffer, _) = open(&fs, options.clone());
        let notes = [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1"), ("b", "")];
        for (n, (key, value)) in notes.iter().enumerate() {
            append(&mut buffer, group(n as u64));
            let frame = buffer.next().unwrap();
            buffer.acknowledge(frame.header().seq, Some(note(key, value)), seconds(0));
        }
        let (_, recovered) = open(&fs, options);
        assert_eq!(recovered.notes, [note("a", "2"), note("c", "1")]);
    }
}

#[test]
fn what_is_on_disk_is_delivered_though_the_buffer_is_in_memory_now() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    (0..3).for_each(|n| append(&mut buffer, group(n)));
    let (mut buffer, _) = open(&fs, memory());
    append(&mut buffer, group(3));
    let frames = drain(&mut buffer);
    assert_eq!(frames.iter().map(group_number).collect::<Vec<_>>(), [0, 1, 2, 3]);
    frames.iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
    assert_eq!(segments(&fs), Vec::<PathBuf>::new());
    let (buffer, recovered) = open(&fs, options());
    assert!(recovered.frames == 0 && (0..4).all(|n| holds(&buffer, n)));
}

#[test]
fn a_forgotten_file_stays_forgotten_though_frames_of_it_are_acknowledged_later() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    (0..2).for_each(|n| append(&mut buffer, group(n)));
    let frames = drain(&mut buffer);
    buffer.acknowledge(frames[0].header().seq, None, seconds(0));
    buffer.forget(&file(0));
    buffer.forget(&file(1));
    buffer.acknowledge(frames[1].header().seq, None, seconds(0));
    assert_eq!(buffer.files(), []);
    let (buffer, _) = open(&fs, options());
    assert_eq!(buffer.files(), []);
}

#[test]
fn the_log_of_positions_is_written_anew_and_does_not_grow_without_end() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, memory());
    for n in 0..40_000 {
        append(&mut buffer, group_of(n, 1, 0));
        let seq = buffer.next().unwrap().header().seq;
        buffer.acknowledge(seq, Some(note("length", &n.to_string())), seconds(n / 1000));
        if n % 1000 == 0 {
            buffer.tick(seconds(n / 1000));
        }
    }
    assert!(fs.contents()[&Path::new(DIR).join("positions.wal")].len() < 1_300_000);
    let (buffer, recovered) = open(&fs, memory());
    assert_eq!(recovered.notes, [note("length", "39999")]);
    assert!((0..40_000).step_by(977).all(|n| holds(&buffer, n)));
    assert_eq!(buffer.held(&file(0)).unwrap().stretches().len(), 1);
}

#[test]
fn a_newer_layout_is_kept_aside_and_a_new_buffer_begun() {
    for name in ["0000000000000001.seg", "positions.wal"] {
        let fs = SimFs::new();
        let (mut buffer, _) = open(&fs, options());
        append(&mut buffer, group(0));
        let path = Path::new(DIR).join(name);
        let kind = if name.ends_with(".seg") { Kind::Segment } else { Kind::Positions };
        let newer = FileHeader { major: 2, ..FileHeader::new(kind, 0, EPOCH, 1) };
        let written = fs.contents()[&path].clone();
        let bytes = [&newer.encode()[..], &written[64..]].concat();
        for kept in ["sink-es.v2.kept", "sink-es.v2.1.kept"] {
            fs.replace(&path, &bytes);
            let (mut buffer, recovered) = open(&fs, options());
            assert_eq!((recovered.frames, buffer.held(&file(0))), (0, None));
            append(&mut buffer, group(1));
            assert_eq!(fs.contents()[&Path::new("/data").join(kept).join(name)], bytes);
            assert_eq!(drain(&mut open(&fs, options()).0).len(), 1);
        }
    }
}

#[test]
fn works_on_a_real_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let options = BufferOptions { dir: dir.path().join("sink-es"), memory_bytes: 0, ..options() };
    let real: Arc<dyn Fs> = Arc::new(crate::fs::RealFs);
    let (mut buffer, _) = SinkBuffer::open(real.clone(), options.clone(), EPOCH, seconds(0));
    (0..50).for_each(|n| append(&mut buffer, group_of(n, 2, 5000)));
    let first = drain(&mut buffer);
    first[..30].iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
    buffer.tick(seconds(5));
    buffer.sync(seconds(5));
    drop(buffer);
    let (mut buffer, recovered) = SinkBuffer::open(real.clone(), options.clone(), EPOCH, seconds(0));
    assert_eq!(recovered.frames, 70);
    assert_eq!(drain(&mut buffer), first[30..]);
    first[30..].iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
    let left: Vec<_> = std::fs::read_dir(&options.dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["positions.wal"]);
}
