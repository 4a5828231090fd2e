//! A store that runs: its door, and what it holds.

use std::io;
use std::sync::Arc;

use super::door::{Behind, Door};
use super::kept::Tally;
use super::{Faults, Seen};

/// What a store that counts records holds.
pub trait Holds: Behind + Sized {
    /// Nothing yet.
    ///
    /// # Errors
    /// Where there is no room for a file.
    fn new() -> io::Result<Self>;

    /// What it counted.
    fn tally(&self) -> Tally;

    /// Gives each record that it holds. After this it takes none any more.
    ///
    /// # Errors
    /// Where they cannot be read back.
    fn each(&self, each: &mut dyn FnMut(&[u8])) -> io::Result<()>;
}

/// A store on a free port. Stops when dropped.
pub struct Running<B> {
    door: Door,
    behind: Arc<B>,
}

impl<B: Holds> Running<B> {
    /// Starts one that does nothing wrong yet.
    ///
    /// # Errors
    /// Where there is no port or no room for a file.
    pub fn start() -> io::Result<Running<B>> {
        let behind = Arc::new(B::new()?);
        Ok(Running { door: Door::open(behind.clone())?, behind })
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        self.door.url()
    }

    /// Makes it misbehave from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.door.set_faults(faults);
    }

    /// Takes it down, or brings it back.
    pub fn set_down(&self, down: bool) {
        self.door.set_down(down);
    }

    /// What came to it.
    pub fn seen(&self) -> Seen {
        self.door.seen()
    }

    /// What it counted.
    pub fn tally(&self) -> Tally {
        self.behind.tally()
    }

    /// Gives each record that it holds. After this it takes none any more.
    ///
    /// # Errors
    /// Where they cannot be read back.
    pub fn each(&self, each: &mut dyn FnMut(&[u8])) -> io::Result<()> {
        self.behind.each(each)
    }
}
