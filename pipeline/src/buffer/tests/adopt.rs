//! A buffer that takes over another.

use super::*;
use crate::buffer::{has_begun, held};
use crate::frame::{Cut, Part};

#[test]
fn frames_come_under_their_identities_and_what_either_holds_is_held() {
    let fs = SimFs::new();
    let old_options = BufferOptions { dir: PathBuf::from("/data/sink-old"), ..options() };
    let (mut old, _) = open(&fs, old_options.clone());
    (0..4).for_each(|n| append(&mut old, group_of(n, 2, 50)));
    // One group is done with, of another one frame, and one frame is sent as parts.
    let taken: Vec<Frame> = (0..5).filter_map(|_| old.next()).collect();
    taken[..3].iter().for_each(|frame| old.acknowledge(frame.header().seq, None, seconds(0)));
    let cut = Cut { frame: taken[4].header().id, from: 0, first: 1, parts: vec![Part::new(1, &[0])] };
    old.cut(taken[4].header().seq, cut.clone(), seconds(0));
    old.sync(seconds(0));
    drop(old);

    let (mut new, _) = open(&fs, options());
    (10..12).for_each(|n| append(&mut new, group(n)));
    let (mut old, _) = open(&fs, old_options);
    assert_eq!(new.adopt(&mut old, seconds(1)).unwrap(), (5, 2 + 1 + 2 + 1 + 2));
    drop(new);

    let (mut new, recovered) = open(&fs, options());
    assert_eq!((recovered.frames, recovered.damaged_frames, recovered.torn_bytes), (7, 0, 0));
    assert!((0..4).chain(10..12).all(|n| holds(&new, n)) && !holds(&new, 4) && !holds(&new, 12));
    let frames = drain(&mut new);
    let names: Vec<(u64, u8)> = frames.iter().map(|frame| (group_number(frame), frame.header().id.0[8])).collect();
    assert_eq!(names, [(10, 0), (11, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1)]);
    assert_eq!(new.cuts(frames[3].header().seq, frames[3].header().id), [cut]);
    assert_eq!(frames[3].body(), taken[4].body());
    frames.iter().for_each(|frame| new.acknowledge(frame.header().seq, None, seconds(2)));
    let (new, recovered) = open(&fs, options());
    assert!(recovered.frames == 0 && (0..4).chain(10..12).all(|n| holds(&new, n)));
}

#[test]
fn what_is_damaged_is_not_held_so_that_it_is_read_again() {
    let fs = SimFs::new();
    let old_options = BufferOptions { dir: PathBuf::from("/data/sink-old"), ..options() };
    let (mut old, _) = open(&fs, old_options.clone());
    (0..3).for_each(|n| append(&mut old, group(n)));
    drop(old);
    let path = segments(&fs).remove(0);
    let mut bytes = fs.contents().remove(&path).unwrap();
    let at = bytes.windows(8).position(|window| window == b"group 1 ").unwrap();
    bytes[at] ^= 1;
    fs.replace(&path, &bytes);
    let (mut new, _) = open(&fs, options());
    let (mut old, _) = open(&fs, old_options);
    assert_eq!(new.adopt(&mut old, seconds(1)).unwrap().0, 2);
    assert!(holds(&new, 0) && !holds(&new, 1) && holds(&new, 2));
}

#[test]
fn what_is_held_is_told_from_outside_as_from_within() {
    let fs = SimFs::new();
    assert!(!has_begun(&fs, Path::new(DIR)).unwrap());
    let (mut buffer, _) = open(&fs, options());
    assert!(!has_begun(&fs, Path::new(DIR)).unwrap());
    [0, 1, 2, 3, 5, 6, 8].into_iter().for_each(|n| append(&mut buffer, group_of(n, 2, 50)));
    assert!(has_begun(&fs, Path::new(DIR)).unwrap());
    let taken: Vec<Frame> = (0..7).filter_map(|_| buffer.next()).collect();
    taken.iter().for_each(|frame| buffer.acknowledge(frame.header().seq, None, seconds(0)));
    buffer.forget(&file(1));
    let seen = held(&fs, Path::new(DIR)).unwrap();
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), buffer.files());
    assert!(seen.iter().all(|(file, set)| buffer.held(file) == Some(set)), "{seen:?}");
    drop(buffer);

    // The first frame of a group that waits is damaged: what the group holds is to be read again.
    let path = segments(&fs).remove(0);
    let mut bytes = fs.contents().remove(&path).unwrap();
    let at = memchr::memmem::find(&bytes, b"group 6 frame 0").unwrap();
    bytes[at] ^= 1;
    fs.replace(&path, &bytes);
    let before = fs.contents();
    let seen = held(&fs, Path::new(DIR)).unwrap();
    assert_eq!(fs.contents(), before);
    let (buffer, _) = open(&fs, options());
    assert!(!holds(&buffer, 6) && holds(&buffer, 8));
    assert!(seen.iter().all(|(file, set)| buffer.held(file) == Some(set)), "{seen:?}");
}

#[test]
fn a_buffer_begins_where_another_stands_and_remembers_it() {
    let fs = SimFs::new();
    let old_options = BufferOptions { dir: PathBuf::from("/data/sink-old"), ..options() };
    let (mut old, _) = open(&fs, old_options.clone());
    (0..4).for_each(|n| append(&mut old, group(n)));
    let first = old.next().unwrap();
    old.acknowledge(first.header().seq, None, seconds(0));
    drop(old);
    let (mut new, _) = open(&fs, options());
    new.begin_at(&held(&fs, &old_options.dir).unwrap(), seconds(0));
    assert!((0..4).all(|n| holds(&new, n)) && !holds(&new, 4) && new.is_empty() && has_begun(&fs, Path::new(DIR)).unwrap());
    append(&mut new, group(4));
    drop(new);
    fs.lose_power(1);

    // What waits under the old name is not read for the new one, and still comes to it when it is adopted.
    let (mut new, _) = open(&fs, options());
    assert!((0..4).all(|n| holds(&new, n)));
    let (mut old, _) = open(&fs, old_options);
    assert!(old.waiting().0 <= 3);
    new.adopt(&mut old, seconds(1)).unwrap();
    assert!((0..4).all(|n| holds(&new, n)));
}
