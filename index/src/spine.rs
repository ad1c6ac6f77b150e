//! What a queue must remember of its runs so that the next one can be linked without reading any.

use smallvec::SmallVec;

use crate::directory::{Links, RunRef, jump_depth};

/// The newest run of a queue, the run that one jumps to, the one that jumps to in turn, and so on to the first.
///
/// That is all a next run's links are made of: its predecessor is the newest, and its jump is either the newest too
/// or two jumps behind it. There are at most about log₂ of the depth, so a push reads no file, whatever its queue
/// has in files.
///
/// Invariant: the runs are at the depths `depth`, `jump_depth(depth)`, and so on. One that nothing is known of is
/// [`RunRef::NONE`]; it was trimmed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spine {
    depth: u32,
    /// Oldest first, so that the newest is added and taken at the end.
    runs: SmallVec<[RunRef; 2]>,
}

impl Spine {
    /// The spine of these runs, oldest first, if there are as many as the depth asks for.
    pub(crate) fn new(depth: u32, runs: &[RunRef]) -> Option<Self> {
        (runs.len() == levels(depth)).then(|| Self { depth, runs: SmallVec::from_slice(runs) })
    }

    /// How many runs the queue had.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// The runs, oldest first.
    pub(crate) fn runs(&self) -> &[RunRef] {
        &self.runs
    }

    /// The newest run.
    pub(crate) fn newest(&self) -> RunRef {
        self.runs.last().copied().unwrap_or(RunRef::NONE)
    }

    /// The links of the run that comes next.
    pub(crate) fn next(&self) -> Links {
        let depth = self.depth + 1;
        let previous = self.newest();
        let jump = if jump_depth(depth) == self.depth {
            previous
        } else {
            self.runs.len().checked_sub(3).map_or(RunRef::NONE, |two_behind| self.runs[two_behind])
        };
        Links { depth, previous, jump }
    }

    /// Goes on to the next run, which is `run`.
    pub(crate) fn push(&mut self, run: RunRef) {
        if jump_depth(self.depth + 1) != self.depth {
            self.runs.truncate(self.runs.len() - 2);
        }
        self.depth += 1;
        self.runs.push(run);
    }

    /// What is known of the runs before one with these links.
    pub(crate) fn before(links: Links) -> Self {
        let depth = links.depth.saturating_sub(1);
        let mut runs = SmallVec::from_elem(RunRef::NONE, levels(depth));
        if jump_depth(links.depth) != depth
            && links.previous != RunRef::NONE
            && let Some(two_behind) = runs.len().checked_sub(3)
        {
            runs[two_behind] = links.jump;
        }
        if let Some(newest) = runs.last_mut() {
            *newest = links.previous;
        }
        Self { depth, runs }
    }

    /// Goes on to `run`, which has these links. Where they are not what this spine says, some runs between were
    /// trimmed unseen, and the links lead.
    pub(crate) fn follow(&mut self, run: RunRef, links: Links) {
        if self.next() != links {
            *self = Self::before(links);
        }
        self.push(run);
    }

    /// Bytes allocated outside of the value itself.
    pub(crate) fn memory_bytes(&self) -> usize {
        if self.runs.spilled() { self.runs.capacity() * size_of::<RunRef>() } else { 0 }
    }
}

/// A queue with so many runs has lived for as long as there are numbers for segments.
pub(crate) const DEPTH_MAX: u32 = 1 << 31;

/// How many runs the spine at `depth` has.
fn levels(depth: u32) -> usize {
    std::iter::successors(Some(depth), |&depth| Some(jump_depth(depth)))
        .take_while(|&depth| depth > 0)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spine_knows_every_next_link() {
        let at = |depth: u32| if depth == 0 { RunRef::NONE } else { RunRef { segment: depth, slot: 7 } };
        let mut spine = Spine::default();
        for depth in 1..5000 {
            let expected = Links { depth, previous: at(depth - 1), jump: at(jump_depth(depth)) };
            assert_eq!(spine.next(), expected);
            assert_eq!(Spine::before(expected).next(), expected);
            spine.push(at(depth));
            assert_eq!(spine.runs().len(), levels(depth));
            assert!(spine.runs().len() <= 13, "{} runs at depth {depth}", spine.runs().len());
        }
        assert!(levels(u32::MAX) <= 33);
    }

    #[test]
    fn links_lead_where_runs_went_unseen() {
        let run = |segment| RunRef { segment, slot: 0 };
        let mut seen = Spine::default();
        (1..=20).for_each(|segment| seen.push(run(segment)));
        let mut partly = Spine::default();
        (1..=5).for_each(|segment| partly.push(run(segment)));
        partly.follow(run(21), seen.next());
        seen.push(run(21));
        assert_eq!((partly.newest(), partly.depth()), (seen.newest(), 21));
        // From here on both know the same predecessors, and the same jumps to what was seen.
        assert_eq!(partly.next().previous, seen.next().previous);
    }
}
