//! Directories that were damaged: cut at every length, flipped at every byte.

use std::collections::BTreeSet;

use super::*;
use crate::buffer::format::{Salt, encode_header};

/// A small buffer with all that can be in one: two segments, groups of several frames, acknowledged frames among those that
/// wait, a group acknowledged in part, ranges in the log alone.
struct Specimen {
    fs: SimFs,
    /// All frames by group and place, with whether they were acknowledged.
    frames: BTreeMap<(u64, u16), (Frame, bool)>,
}

fn specimen() -> Specimen {
    let fs = SimFs::new();
    let mut frames = BTreeMap::new();
    let acknowledged = |group: u64, index: u16| matches!((group, index), (0 | 2, _) | (3, 1) | (5, 0));
    for numbers in [0..4, 4..8] {
        let (mut buffer, _) = open(&fs, options());
        numbers.for_each(|n| append(&mut buffer, group_of(n, [1, 2, 1, 3][n as usize % 4], 24)));
        for frame in drain(&mut buffer) {
            let place = (group_number(&frame), frame.header().group_index);
            if acknowledged(place.0, place.1) {
                buffer.acknowledge(frame.header().seq, None, seconds(0));
            }
            frames.insert(place, (frame, acknowledged(place.0, place.1)));
        }
    }
    Specimen { fs, frames }
}

impl Specimen {
    fn unsettled(&self) -> impl Iterator<Item = &Frame> {
        self.frames.values().filter(|(_, acknowledged)| !acknowledged).map(|(frame, _)| frame)
    }

    /// Opens a damaged copy, drains it, and checks what holds whatever the damage.
    fn check(&self, fs: &SimFs, case: &str) -> (Recovered, Vec<Frame>) {
        let (mut buffer, recovered) = open(fs, BufferOptions { memory_bytes: 0, ..options() });
        let out = drain(&mut buffer);
        assert_eq!(recovered.frames, out.len() as u64, "{case}");
        assert_eq!(recovered.records, out.iter().map(|f| u64::from(f.header().records)).sum::<u64>(), "{case}");
        assert_eq!(buffer.lost_records(), recovered.damaged_records, "{case}");
        let came: BTreeSet<_> = out.iter().map(|frame| (group_number(frame), frame.header().group_index)).collect();
        assert_eq!(came.len(), out.len(), "{case}: a frame came twice");
        for frame in &out {
            let written = &self.frames[&(group_number(frame), frame.header().group_index)].0;
            assert_eq!(frame, written, "{case}: this was never written");
        }
        // What is held is either still to come or was acknowledged, all of it.
        for n in 0..8 {
            if holds(&buffer, n) {
                let safe = self.frames.range((n, 0)..(n + 1, 0)).all(|(place, (_, acknowledged))| *acknowledged || came.contains(place));
                assert!(safe, "{case}: group {n} is held but a frame of it is lost");
            }
        }
        // The buffer goes on: something new comes out, also after another start.
        append(&mut buffer, group(90));
        assert_eq!(drain(&mut buffer).iter().map(group_number).collect::<Vec<_>>(), [90], "{case}");
        let (mut buffer, again) = open(fs, options());
        assert_eq!((again.torn_bytes, again.missing_frames), (0, 0), "{case}");
        assert_eq!(drain(&mut buffer).len(), out.len() + 1, "{case}");
        (recovered, out)
    }
}

/// Where each frame of a segment begins and ends, with its group and place.
fn places(specimen: &Specimen, path: &Path) -> Vec<(usize, usize, (u64, u16))> {
    let bytes = &specimen.fs.contents()[path];
    let mut starts: Vec<_> = specimen
        .frames
        .iter()
        .filter_map(|(place, (frame, _))| Some((memchr::memmem::find(bytes, &frame.header().id.0)? - 24, *place)))
        .collect();
    starts.sort_unstable();
    let ends = starts.iter().skip(1).map(|(start, _)| *start).chain([bytes.len()]);
    starts.iter().zip(ends).map(|((start, place), end)| (*start, end, *place)).collect()
}

#[test]
fn a_segment_cut_at_any_length_loses_what_was_cut_and_says_so() {
    let specimen = specimen();
    for (which, path) in segments(&specimen.fs).iter().enumerate() {
        let (bytes, places) = (specimen.fs.contents()[path].clone(), places(&specimen, path));
        for len in 0..bytes.len() {
            let fs = specimen.fs.fork();
            fs.replace(path, &bytes[..len]);
            let case = format!("{} cut to {len}", path.display());
            let (recovered, out) = specimen.check(&fs, &case);
            let cut: BTreeSet<_> = places.iter().filter(|(_, end, _)| *end > len).map(|(_, _, place)| *place).collect();
            let came = |frame: &&Frame| out.contains(frame);
            let missing = specimen.unsettled().filter(|frame| !came(frame)).map(|f| (group_number(f), f.header().group_index));
            for place in missing {
                // In the newest segment the whole of a group that is cut goes.
                let goes = cut.contains(&place) || (which == 1 && cut.iter().any(|(group, _)| *group == place.0));
                assert!(goes, "{case}: {place:?} was not cut and is lost");
            }
            if which == 1 {
                assert_eq!(recovered.damaged_frames, 0, "{case}");
                let kept = places.iter().filter(|(_, end, (g, _))| *end <= len && !cut.iter().any(|(group, _)| group == g));
                let end = kept.map(|(_, end, _)| *end).max().unwrap_or(64);
                assert_eq!(recovered.torn_bytes, len.saturating_sub(end) as u64, "{case}");
            } else {
                let lost = cut.iter().filter(|place| !specimen.frames[place].1).count() as u64;
                assert_eq!(recovered.damaged_frames + recovered.missing_frames, lost, "{case}");
            }
        }
    }
}

#[test]
fn a_flipped_byte_in_a_segment_costs_one_frame_at_most_and_is_counted() {
    let specimen = specimen();
    for (which, path) in segments(&specimen.fs).iter().enumerate() {
        let (bytes, places) = (specimen.fs.contents()[path].clone(), places(&specimen, path));
        for at in 0..bytes.len() {
            for flip in [0x01, 0xff] {
                let fs = specimen.fs.fork();
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                fs.replace(path, &damaged);
                let case = format!("{} flipped at {at} by {flip}", path.display());
                let (recovered, out) = specimen.check(&fs, &case);
                let missing: Vec<_> = specimen.unsettled().filter(|frame| !out.contains(frame)).collect();
                let hit = places.iter().find(|(start, end, _)| (*start..*end).contains(&at)).map(|(_, _, place)| *place);
                let in_last = which == 1 && hit.is_some_and(|(group, _)| group == 7);
                if in_last && recovered.torn_bytes > 0 {
                    // The last group of all: like a torn tail.
                    assert!(missing.iter().all(|frame| group_number(frame) == 7), "{case}");
                    continue;
                }
                assert_eq!(recovered.damaged_frames + recovered.missing_frames, missing.len() as u64, "{case}");
                assert!(missing.len() <= 1, "{case}");
                if let Some(frame) = missing.first() {
                    assert_eq!(Some((group_number(frame), frame.header().group_index)), hit, "{case}");
                    assert_eq!(files_named(&fs, ".bad").len(), 1, "{case}");
                    // All but the fixed part of its header still says how many records it had.
                    let start = places.iter().find(|(_, _, place)| Some(*place) == hit).unwrap().0;
                    let records = if at < start + 80 { 0 } else { u64::from(frame.header().records) };
                    assert_eq!(recovered.damaged_records, records, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_damaged_log_of_positions_means_to_send_again_and_never_to_lose() {
    let specimen = specimen();
    let path = Path::new(DIR).join("positions.wal");
    let bytes = specimen.fs.contents()[&path].clone();
    let mut cases = vec![("gone".to_owned(), None), ("zeroed".to_owned(), Some(vec![0; bytes.len()]))];
    cases.extend((0..bytes.len()).map(|len| (format!("cut to {len}"), Some(bytes[..len].to_vec()))));
    cases.extend((0..bytes.len()).map(|at| {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        (format!("flipped at {at}"), Some(damaged))
    }));
    for (case, bytes) in cases {
        let fs = specimen.fs.fork();
        match bytes {
            Some(bytes) => fs.replace(&path, &bytes),
            None => fs.unlink(&path).unwrap(),
        }
        let (_, out) = specimen.check(&fs, &case);
        for frame in specimen.unsettled() {
            assert!(out.contains(frame), "{case}: a frame is lost");
        }
    }
}

#[test]
fn a_segment_that_was_removed_is_missed_and_the_others_are_delivered() {
    let specimen = specimen();
    for (which, path) in segments(&specimen.fs).iter().enumerate() {
        let fs = specimen.fs.fork();
        fs.unlink(path).unwrap();
        let (recovered, out) = specimen.check(&fs, "removed");
        assert_eq!(recovered.missing_frames, [4, 0][which]);
        assert!(out.iter().all(|frame| (group_number(frame) >= 4) == (which == 0)));
    }
}

#[test]
fn damage_that_comes_while_the_buffer_is_open_is_skipped_counted_and_no_longer_held() {
    for offset in [0, 16, 80, 130] {
        let fs = SimFs::new();
        let (mut buffer, _) = open(&fs, BufferOptions { memory_bytes: 0, ..options() });
        (0..4).for_each(|n| append(&mut buffer, group_of(n, 2, 50)));
        let path = segments(&fs)[0].clone();
        let mut bytes = fs.contents()[&path].clone();
        let id = group_of(1, 2, 50)[0].header().id.0;
        let start = memchr::memmem::find(&bytes, &id).unwrap() - 24;
        bytes[start + offset] ^= 1;
        fs.replace(&path, &bytes);
        let out = drain(&mut buffer);
        assert_eq!(out.iter().map(group_number).collect::<Vec<_>>(), [0, 0, 1, 2, 2, 3, 3]);
        assert_eq!((0..4).map(|n| holds(&buffer, n)).collect::<Vec<_>>(), [true, false, true, true]);
        assert_eq!(files_named(&fs, ".bad").len(), 1);
        out.iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
        buffer.tick(seconds(30));
        assert!(buffer.is_empty());
        assert_eq!((buffer.lost_records(), buffer.waiting()), (1, (0, 0, 0)));
        let (buffer, recovered) = open(&fs, options());
        assert_eq!((recovered.damaged_frames, recovered.missing_frames), (0, 0));
        assert_eq!((0..4).map(|n| holds(&buffer, n)).collect::<Vec<_>>(), [true, false, true, true]);
    }
}

#[test]
fn the_bodies_of_synced_frames_are_not_read_at_a_start_and_damage_in_one_is_found_when_it_is_sent() {
    const BODY_BYTES: usize = 20_000;
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    (0..4).for_each(|n| append(&mut buffer, group_of(n, 1, BODY_BYTES)));
    buffer.sync(seconds(2));
    append(&mut buffer, group_of(4, 1, BODY_BYTES));
    drop(buffer);
    let path = segments(&fs)[0].clone();
    let mut bytes = fs.contents()[&path].clone();
    let start = memchr::memmem::find(&bytes, &group(1)[0].header().id.0).unwrap();
    bytes[start + 1000] ^= 1;
    fs.replace(&path, &bytes);

    let before = fs.read_bytes();
    let (mut buffer, recovered) = open(&fs, BufferOptions { memory_bytes: 0, ..options() });
    let read = (fs.read_bytes() - before) as usize;
    assert!((BODY_BYTES..2 * BODY_BYTES).contains(&read), "one body was not synced, and {read} bytes were read");
    assert_eq!((recovered.frames, recovered.damaged_frames), (5, 0));
    let out = drain(&mut buffer);
    assert_eq!(out.iter().map(group_number).collect::<Vec<_>>(), [0, 2, 3, 4]);
    assert_eq!((buffer.lost_records(), files_named(&fs, ".bad").len()), (1, 1));
    assert_eq!((0..5).map(|n| holds(&buffer, n)).collect::<Vec<_>>(), [true, false, true, true, true]);
    out.iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(3)));
    assert!(buffer.is_empty());
    let (buffer, recovered) = open(&fs, options());
    assert_eq!((recovered.frames, recovered.missing_frames, holds(&buffer, 1)), (0, 0, false));
}

#[test]
fn a_frame_planted_in_a_body_is_not_taken_for_one() {
    // A pod knows the format but not the epoch.
    let mut planted = Vec::new();
    let forged = group(66).remove(0);
    for _ in 0..20 {
        let salt = Salt::of(&[0; 16]);
        encode_header(forged.header(), 2, forged.body(), salt, &mut planted);
        planted.extend_from_slice(forged.body());
        planted.resize(planted.len().next_multiple_of(8), 0);
    }
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    append(&mut buffer, group(0));
    append(&mut buffer, vec![Frame::from_parts(group(1)[0].header().clone(), planted.into())]);
    append(&mut buffer, group(2));
    let path = segments(&fs)[0].clone();
    let mut bytes = fs.contents()[&path].clone();
    let id = group(1)[0].header().id.0;
    let at = memchr::memmem::find(&bytes, &id).unwrap();
    bytes[at] ^= 1;
    fs.replace(&path, &bytes);
    let (mut buffer, recovered) = open(&fs, options());
    assert_eq!(drain(&mut buffer).iter().map(group_number).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(recovered.damaged_frames, 1);
}

#[test]
fn old_frames_on_recycled_blocks_are_not_taken_for_new_ones() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    (0..3).for_each(|n| append(&mut buffer, group(n)));
    let old = fs.contents()[&segments(&fs)[0]].clone();
    let frames = drain(&mut buffer);
    frames.iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
    buffer.tick(seconds(11));
    append(&mut buffer, group(3));
    let path = segments(&fs)[0].clone();
    let mut bytes = fs.contents()[&path].clone();
    bytes.extend_from_slice(&old[64..]);
    fs.replace(&path, &bytes);
    let (mut buffer, recovered) = open(&fs, options());
    assert_eq!(drain(&mut buffer).iter().map(group_number).collect::<Vec<_>>(), [3]);
    assert_eq!(recovered.torn_bytes, old.len() as u64 - 64);
}

#[test]
fn a_frame_whose_number_cannot_be_right_is_not_taken_for_the_next() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    append(&mut buffer, group(0));
    let path = segments(&fs)[0].clone();
    let mut bytes = fs.contents()[&path].clone();
    // Eight bytes of damage cannot have held a hundred frames.
    bytes.extend_from_slice(&[7; 8]);
    let stray = group(1).remove(0);
    encode_header(stray.header(), 102, stray.body(), Salt::of(&EPOCH), &mut bytes);
    bytes.extend_from_slice(stray.body());
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    fs.replace(&path, &bytes);
    assert_eq!(drain(&mut open(&fs, options()).0).iter().map(group_number).collect::<Vec<_>>(), [0]);
}

#[test]
fn a_segment_that_was_closed_by_a_start_is_damaged_and_not_torn() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    (0..2).for_each(|n| append(&mut buffer, group_of(n, 2, 30)));
    open(&fs, options());
    let path = segments(&fs)[0].clone();
    let bytes = fs.contents()[&path].clone();
    for (len, flip) in [(bytes.len() - 60, None), (bytes.len(), Some(bytes.len() - 20))] {
        let fs = fs.fork();
        let mut damaged = bytes[..len].to_vec();
        flip.into_iter().for_each(|at| damaged[at] ^= 1);
        fs.replace(&path, &damaged);
        for start in 0..3 {
            let (mut buffer, recovered) = open(&fs, options());
            assert_eq!(drain(&mut buffer).iter().map(group_number).collect::<Vec<_>>(), [0, 0, 1], "start {start}");
            assert_eq!((recovered.torn_bytes, recovered.damaged_frames), (0, 1));
            assert!(holds(&buffer, 0) && !holds(&buffer, 1));
        }
    }
}
