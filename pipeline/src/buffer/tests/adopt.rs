//! A buffer that takes over another.

use super::*;
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
