//! Who holds which queue for consuming it in order.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skylark_storage::Kind;

use super::fold::{Event, Fold, FoldError};
use super::groups::GroupDeleted;
use super::kinds::{self, Change};
use super::payload::Payload;
use super::topics::TopicDeleted;

/// Queues have been locked for a consumer, or released. Renewals of a lease are not recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocksChanged {
    /// The group that consumes.
    pub group: String,
    /// Whose the queues are; nobody's if absent.
    pub owner: Option<String>,
    /// Topic and number of each queue.
    pub queues: Vec<(String, u32)>,
}

impl Payload for LocksChanged {
    const KIND: Kind = kinds::LOCKS_CHANGED;
    const VERSION: u8 = 1;
}

/// The owner of each locked queue, by group, topic and queue.
///
/// A restart must not forget them: an owner believes in its lock for half a minute, and consumes on meanwhile.
///
/// Memory: about 60 bytes for each queue that is locked; released and expired ones are recorded as such and go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockOwners {
    groups: BTreeMap<String, BTreeMap<String, BTreeMap<u32, String>>>,
}

impl LockOwners {
    /// All locked queues, sorted: group, topic, queue, owner.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, u32, &str)> {
        self.groups.iter().flat_map(|(group, topics)| {
            topics.iter().flat_map(move |(topic, queues)| {
                queues.iter().map(move |(queue, owner)| (&**group, &**topic, *queue, &**owner))
            })
        })
    }
}

impl Fold for LockOwners {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        match &event.change {
            Change::LocksChanged(LocksChanged { group, owner, queues }) => {
                let topics = self.groups.entry(group.clone()).or_default();
                for (topic, queue) in queues {
                    let locked = topics.entry(topic.clone()).or_default();
                    match owner {
                        Some(owner) => drop(locked.insert(*queue, owner.clone())),
                        None => drop(locked.remove(queue)),
                    }
                }
                topics.retain(|_, queues| !queues.is_empty());
                if topics.is_empty() {
                    self.groups.remove(group);
                }
            }
            Change::TopicDeleted(TopicDeleted { topic }) => self.groups.retain(|_, topics| {
                topics.remove(topic);
                !topics.is_empty()
            }),
            Change::GroupDeleted(GroupDeleted { group, .. }) => drop(self.groups.remove(group)),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use skylark_storage::PhysicalOffset;

    use super::*;

    fn apply(owners: &mut LockOwners, change: Change<'_>) {
        owners.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
    }

    fn changed(group: &str, owner: Option<&str>, queues: &[(&str, u32)]) -> LocksChanged {
        LocksChanged {
            group: group.to_owned(),
            owner: owner.map(str::to_owned),
            queues: queues.iter().map(|(topic, queue)| ((*topic).to_owned(), *queue)).collect(),
        }
    }

    #[test]
    fn a_change_has_these_bytes() {
        let record = changed("G", Some("c@1"), &[("T", 300), ("U", 0)]);
        #[rustfmt::skip]
        let bytes = [
            1,                          // version
            1, b'G',
            1, 3, b'c', b'@', b'1',     // an owner
            2,                          // two queues
            1, b'T', 0xac, 0x02,
            1, b'U', 0,
        ];
        assert_eq!(record.encode(), bytes);
        assert_eq!(Change::decode(kinds::LOCKS_CHANGED, &bytes), Ok(Change::LocksChanged(record)));
    }

    #[test]
    fn the_latest_owner_counts_until_the_queue_is_released_or_gone() {
        let mut owners = LockOwners::default();
        for record in [
            changed("g", Some("a"), &[("t", 0), ("t", 1), ("u", 0)]),
            changed("g", Some("b"), &[("t", 1)]),
            changed("h", Some("c"), &[("t", 0)]),
            changed("g", None, &[("u", 0)]),
        ] {
            apply(&mut owners, Change::LocksChanged(record));
        }
        let all: Vec<_> = owners.iter().collect();
        assert_eq!(all, [("g", "t", 0, "a"), ("g", "t", 1, "b"), ("h", "t", 0, "c")]);
        let mut after = owners.clone();
        apply(&mut after, Change::TopicDeleted(TopicDeleted { topic: "t".to_owned() }));
        assert_eq!(after, LockOwners::default(), "nothing is kept of what is not locked");
        let gone = GroupDeleted { group: "g".to_owned(), with_offsets: false };
        apply(&mut owners, Change::GroupDeleted(gone));
        assert_eq!(owners.iter().collect::<Vec<_>>(), [("h", "t", 0, "c")]);
    }
}
