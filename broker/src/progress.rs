//! Where groups go on: what the log says, and in front of it what it has not been told yet.

use std::collections::{BTreeMap, BTreeSet};

use parking_lot::{Mutex, MutexGuard};
use skylark_storage::PhysicalOffset;

use crate::folds::offsets::OffsetsReset;
use crate::folds::{Offsets, OffsetsOverlay};

/// The offsets of all groups, as clients see them.
///
/// ```text
/// commit of a consumer ──► overlay ──every 200 ms──► log ──► folded
/// reset by an operator ─────────────────────────────► log ──► folded, pending ──a pull takes it──► overlay
/// ```
///
/// While a reset is pending, commits of consumers are not taken: they speak of where the group was before.
#[derive(Debug, Default)]
pub struct Progress {
    /// The fold.
    pub folded: Offsets,
    /// Commits on their way into the log.
    overlay: OffsetsOverlay,
    /// Resets that lie in the log and not in the fold yet, with the end of their record.
    resetting: Vec<(PhysicalOffset, OffsetsReset)>,
}

/// What became of a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Commit {
    /// The group goes on there.
    Taken {
        /// Where it would have gone on before, if that was further on.
        back_from: Option<u64>,
    },
    /// An operator has moved the group, and it goes on there.
    Ignored,
}

/// Where an operator wants a consumer to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// Nowhere else.
    None,
    /// The fold has to apply the reset first.
    After(PhysicalOffset),
    /// There. The reset is no longer pending.
    To(u64),
}

impl From<Offsets> for Progress {
    fn from(folded: Offsets) -> Self {
        Self { folded, ..Self::default() }
    }
}

impl Progress {
    /// Where a group goes on in a queue, by its latest commit or reset.
    pub fn get(&self, group: &str, topic: &str, queue: u32) -> Option<u64> {
        let reset = self.resetting(group, topic, queue).map(|(_, offset)| offset);
        reset.or_else(|| self.overlay.get(&self.folded, group, topic, queue))
    }

    /// The topics of which a group has committed something.
    pub fn topics_of(&self, group: &str) -> BTreeSet<String> {
        let topics = self.folded.topics_of(group).chain(self.overlay.topics_of(group));
        topics.map(str::to_owned).collect()
    }

    /// The groups that have committed something of a topic.
    pub fn groups_of(&self, topic: &str) -> BTreeSet<String> {
        let groups = self.folded.groups_of(topic).chain(self.overlay.groups_of(topic));
        groups.map(str::to_owned).collect()
    }

    /// Everything committed: group, topic, queue and offset, each at its latest.
    pub fn all(&self) -> BTreeMap<(&str, &str, u32), u64> {
        let commits = self.folded.iter().chain(self.overlay.iter());
        commits.map(|(group, topic, queue, offset)| ((group, topic, queue), offset)).collect()
    }

    /// A group goes on at `offset`, says one of its consumers.
    pub fn commit(&mut self, group: &str, topic: &str, queue: u32, offset: u64) -> Commit {
        if self.is_reset(group, topic, queue) {
            return Commit::Ignored;
        }
        let before = self.overlay.get(&self.folded, group, topic, queue);
        self.overlay.commit(&self.folded, group, topic, queue, offset);
        Commit::Taken { back_from: before.filter(|before| *before > offset) }
    }

    /// Where the next pull of the group has to go on, if an operator has moved it.
    pub fn take_reset(&mut self, group: &str, topic: &str, queue: u32) -> Reset {
        if let Some((end, _)) = self.resetting(group, topic, queue) {
            return Reset::After(end);
        }
        if !self.is_reset(group, topic, queue) {
            return Reset::None;
        }
        let Some(offset) = self.folded.get(group, topic, queue) else { return Reset::None };
        // The commit tells the log that the reset is no longer pending.
        self.overlay.insist(group, topic, queue, offset);
        Reset::To(offset)
    }

    /// Whether an operator has moved the group in this queue, and none of its consumers has gone there yet.
    pub fn is_reset(&self, group: &str, topic: &str, queue: u32) -> bool {
        let is_folded = self.folded.is_reset(group, topic, queue);
        self.resetting(group, topic, queue).is_some()
            || is_folded && !self.overlay.contains(group, topic, queue)
    }

    fn resetting(&self, group: &str, topic: &str, queue: u32) -> Option<(PhysicalOffset, u64)> {
        let newest_first = self.resetting.iter().rev();
        let mut concerned = newest_first.filter(|(_, reset)| reset.group == group && reset.topic == topic);
        concerned.find_map(|(end, reset)| {
            let found = reset.offsets.iter().find(|(number, _)| *number == queue);
            found.map(|(_, offset)| (*end, *offset))
        })
    }

    /// The commits on their way into the log.
    pub fn overlay(&mut self) -> &mut OffsetsOverlay {
        &mut self.overlay
    }

    /// A reset lies in the log below `end`; the folds have applied everything before `folded_end`.
    pub fn reset(&mut self, reset: OffsetsReset, end: PhysicalOffset, folded_end: PhysicalOffset) {
        for (queue, _) in &reset.offsets {
            self.overlay.forget(&reset.group, &reset.topic, *queue);
        }
        if folded_end < end {
            self.resetting.push((end, reset));
        }
    }

    /// The folds have applied the log up to `folded_end`.
    pub fn settle(&mut self, folded_end: PhysicalOffset) {
        self.overlay.settle(folded_end);
        self.resetting.retain(|(end, _)| *end > folded_end);
    }
}

/// Orders the records about offsets: what consumers committed before a reset must not follow it into the log. Held
/// from looking at the overlay until the record is appended.
#[derive(Debug, Default)]
pub struct CommitOrder(Mutex<()>);

impl CommitOrder {
    /// Waits for the records about offsets that are being appended.
    pub fn enter(&self) -> MutexGuard<'_, ()> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::folds::{Change, Event, Fold};

    const END: PhysicalOffset = PhysicalOffset::new(100);

    fn fold(progress: &mut Progress, change: Change<'_>, end: PhysicalOffset) {
        progress.folded.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
        progress.settle(end);
    }

    fn reset(offset: u64) -> OffsetsReset {
        OffsetsReset { group: "g".to_owned(), topic: "t".to_owned(), offsets: vec![(0, offset)] }
    }

    #[test]
    fn a_reset_holds_until_a_pull_has_taken_it() {
        let mut progress = Progress::default();
        let taken = |back_from| Commit::Taken { back_from };
        assert_eq!(progress.commit("g", "t", 0, 9), taken(None));
        progress.reset(reset(4), END, PhysicalOffset::ZERO);
        assert_eq!(progress.get("g", "t", 0), Some(4), "it is seen at once");
        assert_eq!(progress.commit("g", "t", 0, 10), Commit::Ignored);
        assert_eq!(progress.take_reset("g", "t", 0), Reset::After(END));
        fold(&mut progress, Change::OffsetsReset(reset(4)), END);
        assert_eq!(progress.commit("g", "t", 0, 10), Commit::Ignored);
        assert_eq!(progress.commit("g", "t", 1, 10), taken(None), "another queue goes on");
        assert_eq!(progress.overlay().take_dirty(9).unwrap().commits.len(), 1, "nothing old follows a reset");
        progress.overlay().appended(END);

        assert_eq!(progress.take_reset("g", "t", 0), Reset::To(4));
        assert_eq!(progress.take_reset("g", "t", 0), Reset::None);
        let record = progress.overlay().take_dirty(9).expect("the log is told that the reset is over");
        progress.overlay().appended(END.advance(8));
        fold(&mut progress, Change::OffsetsCommitted(record), END.advance(8));
        assert_eq!(progress.commit("g", "t", 0, 6), taken(None));
        assert_eq!(progress.commit("g", "t", 0, 5), taken(Some(6)));
        assert_eq!(progress.get("g", "t", 0), Some(5));
    }

    #[test]
    fn the_latest_of_several_resets_counts() {
        let mut progress = Progress::default();
        progress.reset(reset(4), END, PhysicalOffset::ZERO);
        progress.reset(reset(7), END.advance(8), PhysicalOffset::ZERO);
        assert_eq!(progress.get("g", "t", 0), Some(7));
        fold(&mut progress, Change::OffsetsReset(reset(4)), END);
        assert_eq!(
            (progress.get("g", "t", 0), progress.take_reset("g", "t", 0)),
            (Some(7), Reset::After(END.advance(8)))
        );
        fold(&mut progress, Change::OffsetsReset(reset(7)), END.advance(8));
        assert_eq!(progress.take_reset("g", "t", 0), Reset::To(7));
    }
}
