//! The order of a log's generations.

use std::collections::VecDeque;

use super::generation::Generation;

/// What a compressed log turned out to be.
pub(super) enum Found {
    /// The generation of this index.
    Open(usize),
    /// One that nobody has open.
    Unread(Box<Generation>),
    /// Nothing to read.
    Nothing,
}

/// Puts `new` generations, each with its number in a listing, into a chain. `places` says which numbers its links have there.
///
/// The links keep their order, whatever happens to their names: they were written one after the other, and they vanish in any
/// order. A new one goes before the next that is listed after it: what is not listed any more was rotated away or removed,
/// and is older.
pub(super) fn merge(chain: Vec<Generation>, new: Vec<(usize, Generation)>, places: &[(usize, usize)]) -> VecDeque<Generation> {
    let end = chain.len();
    let place = |number: usize| places.iter().filter(|(listed, _)| *listed > number).map(|(_, at)| *at).min().unwrap_or(end);
    let mut new: VecDeque<(usize, Generation)> = new.into_iter().map(|(number, generation)| (place(number), generation)).collect();
    let mut merged = VecDeque::with_capacity(end + new.len());
    for (at, link) in chain.into_iter().enumerate() {
        while let Some((_, generation)) = new.pop_front_if(|(before, _)| *before <= at) {
            merged.push_back(generation);
        }
        merged.push_back(link);
    }
    merged.extend(new.into_iter().map(|(_, generation)| generation));
    merged
}
