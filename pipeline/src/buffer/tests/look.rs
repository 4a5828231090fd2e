//! Looking at a buffer from outside.

use super::*;
use crate::buffer::{Look, inspect};

fn look(fs: &SimFs) -> (crate::buffer::Inspection, Vec<u64>) {
    let mut numbers = Vec::new();
    let found = inspect(fs, std::path::Path::new(DIR), Look::Everything, &mut |frame| {
        numbers.push(group_number(&frame));
        Ok(())
    });
    (found.unwrap(), numbers)
}

#[test]
fn what_waits_is_seen_and_nothing_is_changed() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    for number in 0..6 {
        append(&mut buffer, group(number));
    }
    let frames: Vec<Frame> = (0..3).filter_map(|_| buffer.next()).collect();
    for frame in [&frames[0], &frames[2]] {
        buffer.acknowledge(frame.header().seq, None, seconds(0));
    }
    let before = fs.contents();
    let (found, numbers) = look(&fs);
    assert_eq!(numbers, [1, 3, 4, 5]);
    assert_eq!(found.waiting(), buffer.waiting());
    assert!(found.has_positions && !found.is_damaged() && found.segments[0].frames == 6);
    let headers = inspect(&fs, std::path::Path::new(DIR), Look::Headers, &mut |_| unreachable!()).unwrap();
    assert_eq!(headers, found);
    assert_eq!(fs.contents(), before);
}

#[test]
fn damage_is_seen_and_the_rest_too() {
    let fs = SimFs::new();
    let (mut buffer, _) = open(&fs, options());
    for number in 0..3 {
        append(&mut buffer, group(number));
    }
    let path = segments(&fs).remove(0);
    let mut bytes = fs.contents()[&path].clone();
    let at = memchr::memmem::find(&bytes, b"group 1 ").unwrap();
    bytes[at] ^= 1;
    fs.replace(&path, &bytes);
    let (found, numbers) = look(&fs);
    assert!(found.is_damaged());
    assert_eq!(numbers, [0, 2]);
}
