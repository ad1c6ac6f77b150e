//! By which requests groups get their messages: pulls, or pops.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skylark_storage::Kind;

use super::fold::{Event, Fold, FoldError};
use super::groups::GroupDeleted;
use super::kinds::{self, Change};
use super::payload::Payload;
use super::topics::TopicDeleted;

/// How a group gets a topic's messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestMode {
    /// By pops, instead of pulls.
    pub pops: bool,
    /// How many other consumers' queues each may pop from; all of them if not above 0.
    pub share: i32,
}

/// An operator said how a group gets a topic's messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestModeSet {
    /// The topic.
    pub topic: String,
    /// The group.
    pub group: String,
    /// How.
    pub mode: RequestMode,
}

impl Payload for RequestModeSet {
    const KIND: Kind = kinds::REQUEST_MODE_SET;
    const VERSION: u8 = 1;
}

/// What operators have said, by topic and group.
///
/// Memory: the names, and about 50 bytes for each pair. Deleting the topic or the group gives it back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestModes {
    topics: BTreeMap<String, BTreeMap<String, RequestMode>>,
}

impl RequestModes {
    /// What was said about a group in a topic.
    pub fn get(&self, topic: &str, group: &str) -> Option<RequestMode> {
        self.topics.get(topic)?.get(group).copied()
    }

    /// Everything, sorted: topic, group and mode.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, RequestMode)> {
        self.topics.iter().flat_map(|(topic, groups)| {
            groups.iter().map(move |(group, mode)| (topic.as_str(), group.as_str(), *mode))
        })
    }
}

impl Fold for RequestModes {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match &event.change {
            Change::RequestModeSet(RequestModeSet { topic, group, mode }) => {
                self.topics.entry(topic.clone()).or_default().insert(group.clone(), *mode);
            }
            Change::TopicDeleted(TopicDeleted { topic }) => drop(self.topics.remove(topic)),
            Change::GroupDeleted(GroupDeleted { group, .. }) => self.topics.retain(|_, groups| {
                groups.remove(group);
                !groups.is_empty()
            }),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use skylark_storage::PhysicalOffset;

    use super::*;

    #[test]
    fn modes_go_with_their_topic_or_group() {
        let mut modes = RequestModes::default();
        let mut apply =
            |change| modes.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
        let mode = RequestMode { pops: true, share: 2 };
        for (topic, group) in [("t", "g"), ("t", "h"), ("u", "g")] {
            let set = RequestModeSet { topic: topic.to_owned(), group: group.to_owned(), mode };
            apply(Change::RequestModeSet(set));
        }
        apply(Change::TopicDeleted(TopicDeleted { topic: "u".to_owned() }));
        apply(Change::GroupDeleted(GroupDeleted { group: "h".to_owned(), with_offsets: false }));
        assert_eq!(modes.iter().collect::<Vec<_>>(), [("t", "g", mode)]);
        assert_eq!(modes.get("t", "g"), Some(mode));
        assert_eq!(RequestModes::restore(&modes.snapshot()).unwrap(), modes);
    }

    #[test]
    fn golden_bytes() {
        let set = RequestModeSet {
            topic: "t".to_owned(),
            group: "g".to_owned(),
            mode: RequestMode { pops: true, share: -1 },
        };
        assert_eq!(set.encode(), [1, 1, b't', 1, b'g', 1, 1]);
        assert_eq!(RequestModeSet::decode(&set.encode()).unwrap(), set);
    }
}
