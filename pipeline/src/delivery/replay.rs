//! Sending dead letters again: a buffer whose frames are letters, to put under the same delivery.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::dead_letters::{Bury, Letter};
use crate::body::{Compression, compress};
use crate::buffer::{Appended, Losses};
use crate::edge::Nanos;
use crate::frame::{BatchId, Frame, Header};
use crate::position::{FileKey, RangeSet};
use crate::queue::Buffer;
use crate::sink::Note;

/// A letter as far as it is needed to send it again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    /// See [`Letter::batch`].
    pub batch: BatchId,
    /// See [`Letter::index`].
    pub index: u32,
    /// See [`Letter::destination`].
    pub destination: Arc<str>,
    /// See [`Letter::body`].
    pub body: Vec<u8>,
}

/// Where letters are read from, one by one: there may be more than fit into memory.
pub trait Shelf: Send {
    /// The letter at `place`, counted from 0; `None` where there is none any more.
    ///
    /// # Errors
    /// Where that one cannot be read or sent again; it is left where it is.
    fn letter(&mut self, place: usize) -> io::Result<Option<Kept>>;
}

/// What became of the letters.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Places of those that the store has now.
    pub delivered: BTreeSet<usize>,
    /// Places of those that it refused again, with the status and reason of now.
    pub refused: BTreeMap<usize, (u16, String)>,
    /// How many cannot be sent again.
    pub unreadable: usize,
}

/// Dead letters as a buffer: each letter is a frame of its own, so that one that is refused again stops no other, and so
/// that it is the same frame to the store however often it is sent. Frame *n* is the letter at place *n* − 1.
pub struct Replay {
    shelf: Box<dyn Shelf>,
    compression: Compression,
    next: usize,
    /// The frame after those that were handed out: so that it is known when there is none.
    ahead: Option<Frame>,
    out: BTreeMap<u64, Frame>,
    back: BTreeSet<u64>,
    outcome: Arc<Mutex<Outcome>>,
    /// Which letter a frame is, by the frame's identity.
    places: Arc<Mutex<BTreeMap<BatchId, usize>>>,
}

/// Notes which letters are refused again. They stay where they are.
pub struct Refused {
    outcome: Arc<Mutex<Outcome>>,
    places: Arc<Mutex<BTreeMap<BatchId, usize>>>,
}

impl Replay {
    /// A buffer of the letters on `shelf`, whose bodies the sink wants in `compression`; and what to give the delivery in
    /// place of dead letters.
    pub fn new(shelf: Box<dyn Shelf>, compression: Compression) -> (Replay, Refused) {
        let (outcome, places) = (Arc::<Mutex<Outcome>>::default(), Arc::default());
        let refused = Refused { outcome: outcome.clone(), places: Arc::clone(&places) };
        let (out, back) = (BTreeMap::new(), BTreeSet::new());
        let mut replay = Replay { shelf, compression, next: 0, ahead: None, out, back, outcome, places };
        replay.ahead = replay.read();
        (replay, refused)
    }

    /// What has become of the letters so far, to be looked at when the delivery has ended.
    pub fn outcome(&self) -> Arc<Mutex<Outcome>> {
        self.outcome.clone()
    }

    fn read(&mut self) -> Option<Frame> {
        loop {
            let place = self.next;
            self.next += 1;
            match self.shelf.letter(place) {
                Ok(letter) => {
                    let frame = frame(place, &letter?, self.compression);
                    self.places.lock().unwrap_or_else(PoisonError::into_inner).insert(frame.header().id, place);
                    return Some(frame);
                }
                Err(error) => {
                    tracing::warn!(place, %error, "a dead letter cannot be sent again and stays");
                    self.outcome.lock().unwrap_or_else(PoisonError::into_inner).unreadable += 1;
                }
            }
        }
    }
}

/// The letter as a frame. Its identity is made of the letter's, so that it is the same whenever it is sent again.
fn frame(place: usize, letter: &Kept, compression: Compression) -> Frame {
    let header = Header {
        seq: place as u64 + 1,
        id: letter.batch,
        group_index: 0,
        group_len: 1,
        records: 1,
        raw_bytes: letter.body.len() as u64,
        compression,
        destination: letter.destination.clone(),
        ranges: Vec::new(),
    };
    Frame::from_parts(header, compress(compression, &[]).into()).part(letter.index, 1, &letter.body)
}

impl Buffer for Replay {
    fn has_room(&self) -> bool {
        false
    }
    fn append(&mut self, group: Vec<Frame>, _: Nanos) -> Appended {
        Appended::Full(group)
    }
    fn next(&mut self) -> Option<Frame> {
        if let Some(seq) = self.back.pop_first() {
            return self.out.get(&seq).cloned();
        }
        let frame = self.ahead.take()?;
        self.ahead = self.read();
        self.out.insert(frame.header().seq, frame.clone());
        Some(frame)
    }
    fn acknowledge(&mut self, seq: u64, _: Option<Note>, _: Nanos) {
        let Some(frame) = self.out.remove(&seq) else { return };
        self.places.lock().unwrap_or_else(PoisonError::into_inner).remove(&frame.header().id);
        let place = seq as usize - 1;
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        if !outcome.refused.contains_key(&place) {
            outcome.delivered.insert(place);
        }
    }
    fn put_back(&mut self, seq: u64) {
        self.back.insert(seq);
    }
    fn tick(&mut self, _: Nanos) -> Option<Nanos> {
        None
    }
    fn sync(&mut self, _: Nanos) {}
    fn is_empty(&self) -> bool {
        self.ahead.is_none() && self.out.is_empty()
    }
    fn waiting(&self) -> (u64, u64, u64) {
        (self.out.len() as u64, self.out.len() as u64, self.out.values().map(|frame| frame.body().len() as u64).sum())
    }
    fn losses(&self) -> Losses {
        Losses::default()
    }
    fn max_bytes(&self) -> u64 {
        0
    }
    fn is_degraded(&self) -> bool {
        false
    }
    fn held(&self, _: &FileKey) -> Option<&RangeSet> {
        None
    }
    fn files(&self) -> Vec<FileKey> {
        Vec::new()
    }
    fn is_delivered(&self, _: &FileKey) -> bool {
        true
    }
    fn forget(&mut self, _: &FileKey) {}
}

impl Bury for Refused {
    fn bury(&mut self, letters: &[Letter]) -> io::Result<()> {
        let places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let mut outcome = self.outcome.lock().unwrap_or_else(PoisonError::into_inner);
        for letter in letters {
            if let Some(place) = places.get(&letter.batch) {
                outcome.refused.insert(*place, (letter.status, letter.reason.clone()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Letters(Vec<Option<Kept>>);

    impl Shelf for Letters {
        fn letter(&mut self, place: usize) -> io::Result<Option<Kept>> {
            match self.0.get(place) {
                None => Ok(None),
                Some(None) => Err(io::ErrorKind::InvalidData.into()),
                Some(Some(letter)) => Ok(Some(letter.clone())),
            }
        }
    }

    fn letter(batch: u8, index: u32) -> Option<Kept> {
        Some(Kept { batch: BatchId([batch; 16]), index, destination: "logs".into(), body: format!("{batch}/{index}\n").into() })
    }

    #[test]
    fn letters_are_frames_with_an_identity_that_stays() {
        let shelf = || Box::new(Letters(vec![letter(1, 0), letter(1, 1), None, letter(2, 0)]));
        let (mut replay, mut refused) = Replay::new(shelf(), Compression::None);
        let frames: Vec<Frame> = std::iter::from_fn(|| replay.next()).collect();
        let (again, _) = &mut Replay::new(shelf(), Compression::None);
        let ids: Vec<BatchId> = std::iter::from_fn(|| again.next()).map(|frame| frame.header().id).collect();
        assert_eq!(frames.iter().map(|frame| frame.header().id).collect::<Vec<_>>(), ids);
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 3);
        assert_eq!(&frames[1].body()[..], b"1/1\n");

        replay.put_back(frames[0].header().seq);
        assert_eq!(replay.next().as_ref(), Some(&frames[0]));
        assert!(!replay.is_empty());
        let rejected = Letter {
            unix_nanos: 0,
            batch: ids[1],
            index: 0,
            destination: "logs".into(),
            status: 400,
            reason: "no".to_owned(),
            record: Vec::new(),
            body: Vec::new(),
        };
        refused.bury(&[rejected]).unwrap();
        frames.iter().for_each(|frame| replay.acknowledge(frame.header().seq, None, Nanos(0)));
        assert!(replay.is_empty());
        let outcome = replay.outcome();
        let outcome = outcome.lock().unwrap();
        assert_eq!(outcome.delivered, [0, 3].into());
        assert_eq!((outcome.refused.get(&1), outcome.unreadable), (Some(&(400, "no".to_owned())), 1));
    }
}
