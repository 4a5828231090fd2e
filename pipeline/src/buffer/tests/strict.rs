//! `durability = "strict"`, room on the file system, and frames that are sent in parts.

use rustix::io::Errno;

use super::*;
use crate::frame::{Cut, Part};
use crate::fs::sim::Fault;

fn strict() -> BufferOptions {
    BufferOptions { strict: true, ..options() }
}

#[test]
fn what_was_handed_out_survives_every_power_loss() {
    for memory_bytes in [0, 1 << 20] {
        for seed in 0..200 {
            let fs = SimFs::new();
            let options = BufferOptions { memory_bytes, ..strict() };
            let (mut buffer, _) = open(&fs, options.clone());
            let mut sent = Vec::new();
            for n in 0..4 {
                append(&mut buffer, group_of(n, (n % 3 + 1) as u16, 300));
                sent.extend(buffer.next());
            }
            fs.lose_power(seed);
            let (mut buffer, recovered) = open(&fs, options);
            assert_eq!((recovered.damaged_frames, recovered.missing_frames), (0, 0));
            assert_eq!(drain(&mut buffer)[..4], sent[..], "the same frames under the same numbers");
            assert!((0..4).all(|n| holds(&buffer, n)));
        }
    }
}

#[test]
fn what_was_settled_and_removed_is_never_read_again() {
    for seed in 0..200 {
        let fs = SimFs::new();
        let (mut buffer, _) = open(&fs, strict());
        for n in 0..6 {
            append(&mut buffer, group(n));
            let seq = buffer.next().unwrap().header().seq;
            buffer.acknowledge(seq, None, seconds(0));
        }
        // Old enough for its segment to be closed, and so removed.
        buffer.tick(seconds(10));
        assert_eq!(segments(&fs).len(), 0);
        fs.lose_power(seed);
        let (mut buffer, recovered) = open(&fs, strict());
        assert!((0..6).all(|n| holds(&buffer, n)), "seed {seed}");
        assert_eq!((recovered.frames, buffer.next()), (0, None));
    }
}

#[test]
fn a_group_that_cannot_be_synced_is_not_taken_in() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, strict());
    append(&mut buffer, group(0));
    for after in 0..6 {
        fs.fault(Some(Fault::once(after, Errno::IO)));
        let group = group(after + 1);
        if let Appended::Full(again) = buffer.append(group.clone(), seconds(after * 2)) {
            assert_eq!(again, group);
            assert!(!holds(&buffer, after + 1));
            fs.fault(None);
            buffer.tick(seconds(after * 2 + 1));
            assert!(matches!(buffer.append(group, seconds(after * 2 + 1)), Appended::Kept));
        }
    }
    fs.fault(None);
    fs.lose_power(7);
    let (mut buffer, recovered) = open(&fs, strict());
    assert_eq!(recovered.damaged_frames, 0);
    assert_eq!(drain(&mut buffer).iter().map(group_number).collect::<Vec<_>>(), (0..7).collect::<Vec<_>>());
}

/// A group was written and not synced when the process was killed; the next one closed its segment, and then the power failed and
/// left a part of the group. That part went out, and its records once more with what was read again.
#[test]
fn a_group_that_two_deaths_left_in_part_does_not_go_out_in_part() {
    let mut torn = 0;
    for (first, second, seed) in (0..6).flat_map(|first| (0..16).flat_map(move |second| (0..40).map(move |seed| (first, second, seed)))) {
        let fs = SimFs::new();
        let (mut buffer, _) = open(&fs, strict());
        append(&mut buffer, group(0));
        fs.fault(Some(Fault::killed(first)));
        let _ = buffer.append(group_of(1, 2, 3000), seconds(0));
        drop(buffer);
        fs.fault(None);
        let (mut buffer, _) = open(&fs, strict());
        fs.fault(Some(Fault::killed(second)));
        (1..4).for_each(|at| _ = buffer.tick(seconds(at)));
        fs.fault(None);
        fs.lose_power(seed);
        let (mut buffer, recovered) = open(&fs, strict());
        torn += u64::from(recovered.damaged_frames > 0);
        let went_out = drain(&mut buffer).iter().filter(|frame| group_number(frame) == 1).count();
        assert!(went_out == if holds(&buffer, 1) { 2 } else { 0 }, "killed({first}), killed({second}), seed {seed}: {went_out} of 2");
    }
    assert!(torn > 10, "{torn} were torn");
}

#[test]
fn with_too_little_room_left_a_buffer_keeps_to_a_segment() {
    const MIB: u64 = 1 << 20;
    for (when_full, kept) in [(WhenFull::Block, 4), (WhenFull::DropNewest, 4), (WhenFull::DropOldest, 4)] {
        let fs = SimFs::new();
        fs.set_capacity_bytes(Some(40 * MIB));
        // Segments of 1 MiB.
        let options = BufferOptions { max_bytes: 16 * MIB, min_free_bytes: Some(30 * MIB), when_full, memory_bytes: 0, ..options() };
        let (mut buffer, _) = open(&fs, options);
        fs.create_dir_all(Path::new("/data")).unwrap();
        fs.replace(Path::new("/data/others"), &vec![0; 12 << 20]);
        let (mut taken, mut dropped) = (0, 0);
        for n in 0..40 {
            match buffer.append(group_of(n, 1, 1 << 18), seconds(n * 2)) {
                Appended::Kept => taken += 1,
                Appended::Dropped { records } => dropped += records,
                Appended::Full(_) => break,
            }
        }
        let size: u64 = segments(&fs).iter().map(|path| fs.contents()[path].len() as u64).sum();
        assert!(size <= 2 * MIB, "{when_full:?}: {size}");
        match when_full {
            WhenFull::Block => {
                assert_eq!((taken, buffer.has_room()), (kept, false));
                // It looks again by itself.
                let due = buffer.tick(seconds(100)).unwrap();
                fs.replace(Path::new("/data/others"), b"");
                buffer.tick(due.max(seconds(101)));
                assert!(buffer.has_room());
            }
            WhenFull::DropNewest => {
                assert_eq!((taken, dropped, buffer.losses().dropped_records), (kept, 40 - kept as u64, 40 - kept as u64))
            }
            WhenFull::DropOldest => {
                let left: Vec<u64> = drain(&mut buffer).iter().map(group_number).collect();
                assert_eq!((*left.last().unwrap(), taken), (39, 40));
                assert_eq!(buffer.losses().dropped_records, 40 - left.len() as u64);
            }
        }
    }
}

#[test]
fn how_a_frame_was_cut_is_known_until_it_is_settled() {
    let cut = |from, first, records: &[u32]| Cut { frame: group(0)[0].header().id, from, first, parts: vec![Part::new(0, records)] };
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    append(&mut buffer, group(0));
    append(&mut buffer, group(1));
    let frames = drain(&mut buffer);
    let (seq, id) = (frames[0].header().seq, frames[0].header().id);
    let cuts = [cut(0, 1, &[0, 1, 5]), cut(1, 2, &[2])];
    cuts.iter().for_each(|cut| buffer.cut(seq, cut.clone(), seconds(0)));
    let (mut buffer, _) = open(&fs, options());
    assert_eq!(buffer.cuts(seq, id), cuts);
    assert_eq!(buffer.cuts(seq, BatchId([0; 16])), [], "of another frame with this number");
    // It outlives the log being written anew.
    buffer.positions.rewrite_now(seconds(0));
    let (mut buffer, _) = open(&fs, options());
    assert_eq!(buffer.cuts(seq, id), cuts);
    drain(&mut buffer);
    buffer.acknowledge(seq, None, seconds(0));
    assert_eq!(buffer.cuts(seq, id), []);
    let (buffer, _) = open(&fs, options());
    assert_eq!(buffer.cuts(seq, id), []);

    let (mut buffer, _) = open(&SimFs::new(), memory());
    append(&mut buffer, group(0));
    let seq = drain(&mut buffer)[0].header().seq;
    buffer.cut(seq, cuts[0].clone(), seconds(0));
    assert_eq!(buffer.cuts(seq, id), [], "what is in memory is frozen anew");
}

#[test]
fn parts_list_their_records_and_refuse_what_is_not_there() {
    let part = Part::new(3, &[0, 1, 2, 7, 9, 10]);
    assert_eq!(part.records, [0..3, 7..8, 9..11]);
    assert_eq!(part.list(11).unwrap(), [0, 1, 2, 7, 9, 10]);
    assert_eq!(part.list(10), None);
    assert_eq!(Part::new(0, &[]).list(10), None);
    assert_eq!(Part { path: 0, records: vec![5..6, 2..3] }.list(10), None);
}
