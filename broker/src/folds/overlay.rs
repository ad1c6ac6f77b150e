//! Commits that are not in the log yet.

use std::collections::BTreeMap;
use std::mem;

use skylark_storage::PhysicalOffset;

use super::offsets::{Offsets, OffsetsCommitted, TopicCommits};

/// Offsets that consumers committed, in front of [`Offsets`] until that has them.
///
/// A commit is answered at once, is visible to every read that follows, and reaches the log with many others in one
/// record. So a crash may redeliver what was consumed since the last record, and a message still costs no record
/// of its own to consume.
///
/// ```text
///            take_dirty           appended            settle
///   Dirty ──────────────► Taken ───────────► Appended ──────► gone: the fold has it
///     ▲                     │
///     └────── put_back ─────┘     a commit makes an entry Dirty from any state
/// ```
///
/// Memory: about 40 bytes for each queue that a group has committed since the log was last told, and names.
#[derive(Debug, Default)]
pub struct OffsetsOverlay {
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<u32, Pending>>>,
    /// The lowest end among what was appended: below it there is nothing to settle.
    appended_end: Option<PhysicalOffset>,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    offset: u64,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Dirty,
    Taken,
    Appended { end: PhysicalOffset },
}

impl OffsetsOverlay {
    /// The group goes on at `offset` in this queue. Lower offsets than before are taken too: a consumer may go back.
    pub fn commit(&mut self, folded: &Offsets, group: &str, topic: &str, queue: u32, offset: u64) {
        // Idle consumers repeat themselves every few seconds; that is no news.
        if self.get(folded, group, topic, queue) == Some(offset) {
            return;
        }
        self.insist(group, topic, queue, offset);
    }

    /// Like [`commit`](Self::commit), and reaches the log even if it is what the fold has already.
    pub fn insist(&mut self, group: &str, topic: &str, queue: u32, offset: u64) {
        let pending = Pending { offset, stage: Stage::Dirty };
        if let Some(queues) = self.groups.get_mut(group).and_then(|topics| topics.get_mut(topic)) {
            queues.insert(queue, pending);
        } else {
            let topics = self.groups.entry(group.to_owned()).or_default();
            topics.entry(topic.to_owned()).or_default().insert(queue, pending);
        }
    }

    /// Whether there is a commit for this queue that the fold may not have.
    pub fn contains(&self, group: &str, topic: &str, queue: u32) -> bool {
        let queues = self.groups.get(group).and_then(|topics| topics.get(topic));
        queues.is_some_and(|queues| queues.contains_key(&queue))
    }

    /// Where the group goes on in this queue, by its latest commit.
    pub fn get(&self, folded: &Offsets, group: &str, topic: &str, queue: u32) -> Option<u64> {
        let pending = self.groups.get(group).and_then(|topics| topics.get(topic)?.get(&queue));
        pending.map(|pending| pending.offset).or_else(|| folded.get(group, topic, queue))
    }

    /// Everything committed that the fold may not have yet, sorted: group, topic, queue and offset.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u32, u64)> {
        self.groups.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, queues)| {
                let offset = move |(&queue, pending): (&u32, &Pending)| {
                    (group.as_str(), topic.as_str(), queue, pending.offset)
                };
                queues.iter().map(offset)
            })
        })
    }

    /// The topics of which the group has committed something that the fold may not have yet.
    pub fn topics_of(&self, group: &str) -> impl Iterator<Item = &str> {
        let topics = self.groups.get(group).into_iter().flatten();
        topics.filter(|(_, queues)| !queues.is_empty()).map(|(topic, _)| topic.as_str())
    }

    /// The groups that have committed something of the topic that the fold may not have yet.
    pub fn groups_of(&self, topic: &str) -> impl Iterator<Item = &str> {
        let has = move |topics: &BTreeMap<String, BTreeMap<u32, Pending>>| {
            topics.get(topic).is_some_and(|queues| !queues.is_empty())
        };
        self.groups.iter().filter(move |(_, topics)| has(topics)).map(|(group, _)| group.as_str())
    }

    /// Up to `limit` commits that the log has not been told yet, for one record; none if there are none. Follow it
    /// with [`appended`](Self::appended) or [`put_back`](Self::put_back).
    pub fn take_dirty(&mut self, limit: usize) -> Option<OffsetsCommitted> {
        let mut left = limit;
        let mut commits = Vec::new();
        for (group, topics) in &mut self.groups {
            for (topic, queues) in topics {
                let dirty = queues.iter_mut().filter(|(_, pending)| pending.stage == Stage::Dirty).take(left);
                let offsets: Vec<(u32, u64)> = dirty
                    .map(|(&queue, pending)| {
                        pending.stage = Stage::Taken;
                        (queue, pending.offset)
                    })
                    .collect();
                left -= offsets.len();
                if !offsets.is_empty() {
                    commits.push(TopicCommits { group: group.clone(), topic: topic.clone(), offsets });
                }
            }
        }
        (!commits.is_empty()).then_some(OffsetsCommitted { commits })
    }

    /// What was taken lies in the log below `end`.
    pub fn appended(&mut self, end: PhysicalOffset) {
        self.turn_taken(Stage::Appended { end });
        self.appended_end = Some(self.appended_end.map_or(end, |lowest| lowest.min(end)));
    }

    /// What was taken did not get into the log.
    pub fn put_back(&mut self) {
        self.turn_taken(Stage::Dirty);
    }

    /// The folds have applied the log up to `folded_end`: what was appended below it can be read there.
    pub fn settle(&mut self, folded_end: PhysicalOffset) {
        if self.appended_end.is_none_or(|lowest| lowest > folded_end) {
            return;
        }
        let mut lowest: Option<PhysicalOffset> = None;
        self.retain(|_, _, pending| match pending.stage {
            Stage::Appended { end } if end <= folded_end => false,
            Stage::Appended { end } => {
                lowest = Some(lowest.map_or(end, |lowest| lowest.min(end)));
                true
            }
            Stage::Dirty | Stage::Taken => true,
        });
        self.appended_end = lowest;
    }

    /// Drops the group's commit for a queue whose offset an operator sets by a record of its own. No commit may be on
    /// its way into the log meanwhile, or it would follow that record.
    pub fn forget(&mut self, group: &str, topic: &str, queue: u32) {
        if let Some(queues) = self.groups.get_mut(group).and_then(|topics| topics.get_mut(topic)) {
            queues.remove(&queue);
        }
    }

    /// Drops all commits in a topic that was deleted, as [`forget`](Self::forget) does.
    pub fn forget_topic(&mut self, topic: &str) {
        self.retain(|_, other, _| other != topic);
    }

    /// Drops all commits of a group that was deleted with its offsets, as [`forget`](Self::forget) does.
    pub fn forget_group(&mut self, group: &str) {
        self.groups.remove(group);
    }

    fn turn_taken(&mut self, stage: Stage) {
        let entries = self.groups.values_mut().flat_map(BTreeMap::values_mut).flat_map(BTreeMap::values_mut);
        for pending in entries.filter(|pending| pending.stage == Stage::Taken) {
            pending.stage = stage;
        }
    }

    /// Keeps the entries (group, topic, pending) that `keep` says, and no empty maps.
    fn retain(&mut self, mut keep: impl FnMut(&str, &str, &Pending) -> bool) {
        for (group, mut topics) in mem::take(&mut self.groups) {
            topics.retain(|topic, queues| {
                queues.retain(|_, pending| keep(&group, topic, pending));
                !queues.is_empty()
            });
            if !topics.is_empty() {
                self.groups.insert(group, topics);
            }
        }
    }
}

#[cfg(test)]
mod tests;
