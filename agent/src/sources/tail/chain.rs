//! The order of a log's generations.

use smallvec::SmallVec;

use super::generation::Generation;

/// The generations of one log. Most logs have one, and there are thousands of logs: it lies where the chain does.
pub(super) type Chain = SmallVec<[Generation; 1]>;

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
pub(super) fn merge(chain: Chain, new: Vec<(usize, Generation)>, places: &[(usize, usize)]) -> Chain {
    let end = chain.len();
    let place = |number: usize| places.iter().filter(|(listed, _)| *listed > number).map(|(_, at)| *at).min().unwrap_or(end);
    let mut merged = Chain::with_capacity(end + new.len());
    let mut new = new.into_iter().map(|(number, generation)| (place(number), generation)).peekable();
    for (at, link) in chain.into_iter().enumerate() {
        while let Some((_, generation)) = new.next_if(|(before, _)| *before <= at) {
            merged.push(generation);
        }
        merged.push(link);
    }
    merged.extend(new.map(|(_, generation)| generation));
    merged
}
