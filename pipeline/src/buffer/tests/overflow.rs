//! A buffer that is full.

use super::*;

const MIB: usize = 1 << 20;

fn small(when_full: WhenFull) -> BufferOptions {
    BufferOptions { max_bytes: 4 << 20, when_full, memory_bytes: 1 << 20, ..options() }
}

fn records(group: &[Frame]) -> u64 {
    group.iter().map(|frame| u64::from(frame.header().records)).sum()
}

#[test]
fn block_gives_the_group_back_and_takes_it_when_there_is_room() {
    for options in [small(WhenFull::Block), BufferOptions { disk: false, ..small(WhenFull::Block) }] {
        let (mut buffer, _) = open(&SimFs::new(), options);
        let mut n = 0;
        while buffer.has_room() {
            append(&mut buffer, group_of(n, 1, MIB / 2));
            n += 1;
        }
        assert_eq!(n, 8);
        let Appended::Full(group) = buffer.append(group_of(n, 1, MIB / 2), seconds(0)) else { panic!("there was no room") };
        assert_eq!(group, group_of(n, 1, MIB / 2));
        assert!(!holds(&buffer, n));
        let frames = drain(&mut buffer);
        frames[..2].iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
        assert!(buffer.has_room());
        append(&mut buffer, group);
        assert_eq!(buffer.lost_records(), 0);
    }
}

#[test]
fn a_segment_larger_than_the_whole_buffer_does_not_stop_it() {
    let (mut buffer, _) = open(&SimFs::new(), BufferOptions { max_bytes: 2000, ..options() });
    for n in 0..50 {
        assert!(buffer.has_room(), "group {n}");
        append(&mut buffer, group_of(n, 2, 700));
        let frames = drain(&mut buffer);
        frames.iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
    }
}

#[test]
fn drop_newest_gives_up_the_new_and_keeps_its_positions() {
    for disk in [true, false] {
        let fs = SimFs::new();
        let options = BufferOptions { disk, ..small(WhenFull::DropNewest) };
        let (mut buffer, _) = open(&fs, options.clone());
        let (mut kept, mut lost) = (Vec::new(), 0);
        for n in 0..20 {
            assert!(buffer.has_room());
            let group = group_of(n, (n % 2 + 1) as u16, MIB / 3);
            match buffer.append(group.clone(), seconds(0)) {
                Appended::Kept => kept.extend(group),
                Appended::Dropped { records: count } => {
                    assert_eq!(count, records(&group));
                    lost += count;
                }
                Appended::Full(_) => panic!("it drops instead"),
            }
            assert!(holds(&buffer, n));
        }
        assert!(lost > 0);
        assert_eq!(buffer.lost_records(), lost);
        assert_eq!(contents(&drain(&mut buffer)), contents(&kept));
        if disk {
            let (mut buffer, _) = open(&fs, options);
            assert!((0..20).all(|n| holds(&buffer, n)));
            assert_eq!(contents(&drain(&mut buffer)), contents(&kept));
        }
    }
}

#[test]
fn drop_oldest_gives_up_the_oldest_unsent_and_counts_exactly() {
    for (disk, restart) in [(true, false), (true, true), (false, false)] {
        let fs = SimFs::new();
        let options = BufferOptions { disk, ..small(WhenFull::DropOldest) };
        let (mut buffer, _) = open(&fs, options.clone());
        let mut written = 0;
        let mut in_flight = Vec::new();
        let mut lost_before = 0;
        for n in 0..40 {
            if restart && n == 20 {
                lost_before = buffer.lost_records();
                buffer = open(&fs, options.clone()).0;
                in_flight = Vec::new();
            }
            let group = group_of(n, (n % 3 + 1) as u16, MIB / 5);
            written += records(&group);
            append(&mut buffer, group);
            if n % 20 == 0 {
                in_flight.extend(buffer.next());
            }
            let size: usize = fs.contents().values().map(Vec::len).sum();
            assert!(size < 6 * MIB, "{size} bytes on disk");
        }
        let left = drain(&mut buffer);
        assert!(left.iter().map(|f| f.header().seq).is_sorted());
        assert_eq!(group_number(left.last().unwrap()), 39);
        let lost = lost_before + buffer.lost_records();
        assert!(lost > 0);
        // What is in flight is not dropped.
        assert_eq!(records(&left) + records(&in_flight) + lost, written);
        assert_eq!(buffer.waiting().1, records(&left) + records(&in_flight));
        assert!((0..40).all(|n| holds(&buffer, n)));
        left.iter().chain(&in_flight).for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
        assert!(buffer.is_empty());
        let (buffer, recovered) = open(&fs, options);
        assert_eq!((recovered.frames, recovered.missing_frames), (0, 0));
        assert!((0..40).all(|n| holds(&buffer, n)));
    }
}

#[test]
fn drop_oldest_drops_the_new_where_everything_older_is_in_flight() {
    let (mut buffer, _) = open(&SimFs::new(), BufferOptions { max_bytes: 1000, ..small(WhenFull::DropOldest) });
    append(&mut buffer, group_of(0, 1, 2000));
    let frame = buffer.next().unwrap();
    assert!(matches!(buffer.append(group(1), seconds(0)), Appended::Dropped { records: 1 }));
    buffer.acknowledge(frame.header().seq, None, seconds(0));
    append(&mut buffer, group(2));
    assert_eq!((buffer.lost_records(), drain(&mut buffer).len()), (1, 1));
}
