//! How far groups have consumed.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use skylark_storage::Kind;

use super::fold::{Event, Fold, FoldError};
use super::groups::GroupDeleted;
use super::kinds::{self, Change};
use super::payload::Payload;
use super::topics::TopicDeleted;

/// Groups have consumed up to these offsets. Later commits win, lower ones too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsCommitted {
    /// Grouped, so that names are not repeated for each queue.
    pub commits: Vec<TopicCommits>,
}

/// What a group has consumed of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicCommits {
    /// Who.
    pub group: String,
    /// What.
    pub topic: String,
    /// Number of the queue, and the offset of the next message to consume.
    pub offsets: Vec<(u32, u64)>,
}

/// An operator moved a group in a topic. It goes on there with its next pull, whatever its consumers commit until then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OffsetsReset {
    /// Who.
    pub group: String,
    /// In which topic.
    pub topic: String,
    /// Number of the queue, and the offset of the next message to consume.
    pub offsets: Vec<(u32, u64)>,
}

impl Payload for OffsetsReset {
    const KIND: Kind = kinds::OFFSETS_RESET;
    const VERSION: u8 = 1;
}

impl Payload for OffsetsCommitted {
    const KIND: Kind = kinds::OFFSETS_COMMITTED;
    const VERSION: u8 = 1;
}

/// The offset of the next message to consume, by group, topic and queue.
///
/// Memory: about 16 bytes for each queue that a group has committed, and the names of group and topic once for each
/// pair. Deleting a topic or a group gives it back. Folds do not read each other, so a commit that reaches the log
/// behind such a deletion stays until the next one; it then points below the minimum of a topic made anew.
///
/// A reset is *pending* until the group's next commit for the queue: while it is, the broker appends no commit of a
/// consumer, so the next one tells that a consumer has gone where it was sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offsets {
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<u32, u64>>>,
    pending: BTreeMap<String, BTreeMap<String, BTreeSet<u32>>>,
}

impl Offsets {
    /// Where the group goes on in this queue, if it ever committed.
    pub fn get(&self, group: &str, topic: &str, queue: u32) -> Option<u64> {
        self.groups.get(group)?.get(topic)?.get(&queue).copied()
    }

    /// Whether an operator has moved the group in this queue, and none of its consumers has gone there yet.
    pub fn is_reset(&self, group: &str, topic: &str, queue: u32) -> bool {
        let queues = self.pending.get(group).and_then(|topics| topics.get(topic));
        queues.is_some_and(|queues| queues.contains(&queue))
    }

    /// What the group has committed of the topic: queue and offset, by queue.
    pub fn of_topic(&self, group: &str, topic: &str) -> impl Iterator<Item = (u32, u64)> {
        let queues = self.groups.get(group).and_then(|topics| topics.get(topic));
        queues.into_iter().flatten().map(|(&queue, &offset)| (queue, offset))
    }

    /// The topics of which the group has committed something, sorted by name.
    pub fn topics_of(&self, group: &str) -> impl Iterator<Item = &str> {
        self.groups.get(group).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    /// Everything committed, sorted: group, topic, queue and offset.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u32, u64)> {
        self.groups.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, queues)| {
                queues.iter().map(move |(&queue, &offset)| (group.as_str(), topic.as_str(), queue, offset))
            })
        })
    }

    /// The groups that have committed something of the topic, sorted by name.
    pub fn groups_of(&self, topic: &str) -> impl Iterator<Item = &str> {
        self.groups
            .iter()
            .filter(move |(_, topics)| topics.contains_key(topic))
            .map(|(group, _)| group.as_str())
    }
}

impl Offsets {
    /// Consumers have gone where they were sent.
    fn arrived(&mut self, group: &str, topic: &str, offsets: &[(u32, u64)]) {
        let Some(topics) = self.pending.get_mut(group) else { return };
        let Some(queues) = topics.get_mut(topic) else { return };
        for (queue, _) in offsets {
            queues.remove(queue);
        }
        if queues.is_empty() {
            topics.remove(topic);
            if topics.is_empty() {
                self.pending.remove(group);
            }
        }
    }
}

impl Fold for Offsets {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match &event.change {
            Change::OffsetsCommitted(OffsetsCommitted { commits }) => {
                for TopicCommits { group, topic, offsets } in commits {
                    if offsets.is_empty() {
                        continue;
                    }
                    let topics = self.groups.entry(group.clone()).or_default();
                    topics.entry(topic.clone()).or_default().extend(offsets.iter().copied());
                    self.arrived(group, topic, offsets);
                }
            }
            Change::OffsetsReset(OffsetsReset { group, topic, offsets }) => {
                let topics = self.groups.entry(group.clone()).or_default();
                topics.entry(topic.clone()).or_default().extend(offsets.iter().copied());
                let topics = self.pending.entry(group.clone()).or_default();
                topics.entry(topic.clone()).or_default().extend(offsets.iter().map(|(queue, _)| *queue));
            }
            Change::TopicDeleted(TopicDeleted { topic }) => {
                remove_topic(&mut self.groups, topic);
                remove_topic(&mut self.pending, topic);
            }
            Change::GroupDeleted(GroupDeleted { group, with_offsets: true }) => {
                self.groups.remove(group);
                self.pending.remove(group);
            }
            _ => {}
        }
        Ok(())
    }
}

fn remove_topic<V>(groups: &mut BTreeMap<String, BTreeMap<String, V>>, topic: &str) {
    groups.retain(|_, topics| {
        topics.remove(topic);
        !topics.is_empty()
    });
}

#[cfg(test)]
mod tests;
