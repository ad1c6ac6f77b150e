//! The way along a queue's runs, from the newest to older ones.

use crate::directory::{Links, Run, RunRef};
use crate::queue::QueueState;

/// A place on the way: what was passed lies behind what is looked for.
///
/// A run is passed with all its links in hand: the run before, and one further back that is taken instead if it
/// lies behind what is looked for as well. So any run is reached in O(log n) steps over those of its queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// The run to look at.
    pub(crate) at: RunRef,
    /// One further back, to try first; [`RunRef::NONE`] at the beginning.
    pub(crate) jump: RunRef,
    /// Where the offsets begin that were passed.
    pub(crate) end: u64,
}

impl Way {
    /// All of the queue's way.
    pub(crate) fn from_newest(state: &QueueState) -> Self {
        Self { at: state.spine.newest(), jump: RunRef::NONE, end: state.next }
    }

    /// Goes on behind a run whose messages are not looked for.
    pub(crate) fn pass(self, run: &Run) -> Self {
        Self::behind(run.first, run.links)
    }

    /// The way from a run that begins at offset `first`.
    pub(crate) fn behind(first: u64, links: Links) -> Self {
        Self { at: links.previous, jump: links.jump, end: first }
    }
}
