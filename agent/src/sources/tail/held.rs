//! Which sinks hold which bytes of one file.

use skidder_pipeline::position::RangeSet;
use skidder_pipeline::source::SinkSet;

/// What each of some sinks holds of one file.
#[derive(Debug, Default)]
pub(super) struct HeldBy(Vec<(SinkSet, RangeSet)>);

impl HeldBy {
    pub(super) fn add(&mut self, sinks: SinkSet, set: RangeSet) {
        self.0.push((sinks, set));
    }

    /// Where the last stretch that anyone holds ends.
    pub(super) fn end(&self) -> u64 {
        self.0.iter().map(|(_, set)| set.high_mark()).max().unwrap_or(0)
    }

    /// Those of `sinks` that do not hold what is at `offset`, and the next offset at which that changes.
    pub(super) fn at(&self, offset: u64, sinks: SinkSet) -> (SinkSet, Option<u64>) {
        let (mut needs, mut edge) = (sinks, None::<u64>);
        for (holders, set) in &self.0 {
            if set.contains(offset) {
                needs = needs.without(*holders);
            }
            if let Some(next) = set.next_edge(offset) {
                edge = Some(edge.map_or(next, |edge| edge.min(next)));
            }
        }
        (needs, edge)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(stretches: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::default();
        for &(start, end) in stretches {
            set.insert(start, end, end);
        }
        set
    }

    #[test]
    fn needs_change_at_every_edge() {
        let mut by = HeldBy::default();
        by.add(SinkSet::only(0), set(&[(0, 10), (20, 30)]));
        by.add(SinkSet::only(1), set(&[(0, 5), (20, 25)]));
        let sinks = SinkSet::first(2);
        let seen: Vec<_> = [0, 5, 10, 20, 25, 30].map(|at| (by.at(at, sinks).0.0, by.at(at, sinks).1)).into();
        assert_eq!(seen, [(0, Some(5)), (2, Some(10)), (3, Some(20)), (0, Some(25)), (2, Some(30)), (3, None)]);
    }
}
