//! Queue locks: who may consume a queue in order.
//!
//! A lock is a lease. Its owner renews it every 20 seconds and believes in it for 30; here it lasts 60, so that no
//! second consumer is let in while the first still believes. Leases are volatile, owners are not: a change of owner
//! is a record, and whoever owned a queue when the broker stopped is the only one to get it for [`LEASE`] after the
//! next start, unless it was released.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use skylark_storage::{AppendError, PhysicalOffset};

use crate::folds::LockOwners;
use crate::folds::locks::LocksChanged;

/// How long a lock outlives its last renewal.
pub const LEASE: Duration = Duration::from_secs(60);

/// A queue, as lock requests name it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LockedQueue {
    /// The topic.
    pub topic: String,
    /// The queue's number.
    pub queue: u32,
}

/// The locks of every group.
///
/// Owners are appended under the table's lock, so that the log tells them in the order in which they followed each
/// other.
///
/// Memory: one entry per (group, queue) that was ever locked and not released, swept once its lease has ended.
#[derive(Debug, Default)]
pub struct QueueLocks {
    groups: Mutex<HashMap<Arc<str>, HashMap<LockedQueue, Lock>>>,
}

#[derive(Debug)]
struct Lock {
    client: Box<str>,
    lease_ends: Duration,
    /// The record that names the owner lies before this.
    recorded: PhysicalOffset,
}

/// What was granted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// These queues.
    pub queues: Vec<LockedQueue>,
    /// Once everything before this is durable: a restart would give them to another owner else.
    pub durable: PhysicalOffset,
}

impl QueueLocks {
    /// Lets the owners that the log knows renew their locks first.
    pub fn restore(&self, now: Duration, owners: &LockOwners) {
        let mut groups = self.groups.lock();
        for (group, topic, queue, owner) in owners.iter() {
            let locks = of_group(&mut groups, group);
            let lock = Lock { client: owner.into(), lease_ends: now + LEASE, recorded: PhysicalOffset::ZERO };
            locks.insert(LockedQueue { topic: topic.to_owned(), queue }, lock);
        }
    }

    /// Grants `client` those of `queues` that are free, expired or already its own, and renews them. `record`
    /// appends a change of owners and says where it ends.
    ///
    /// # Errors
    /// When the change is not appended; nothing was granted.
    pub fn lock(
        &self,
        now: Duration,
        group: &str,
        client: &str,
        queues: &[LockedQueue],
        record: impl FnOnce(&LocksChanged) -> Result<PhysicalOffset, AppendError>,
    ) -> Result<Granted, AppendError> {
        let mut groups = self.groups.lock();
        let locks = of_group(&mut groups, group);
        let is_free = |queue: &LockedQueue| match locks.get(queue) {
            Some(lock) => *lock.client == *client || lock.lease_ends <= now,
            None => true,
        };
        let queues: Vec<LockedQueue> = queues.iter().filter(|queue| is_free(queue)).cloned().collect();
        let is_new = |queue: &&LockedQueue| locks.get(*queue).is_none_or(|lock| *lock.client != *client);
        let new: Vec<_> = queues.iter().filter(is_new).map(named).collect();
        let mut durable = PhysicalOffset::ZERO;
        if !new.is_empty() {
            let change =
                LocksChanged { group: group.to_owned(), owner: Some(client.to_owned()), queues: new };
            durable = record(&change)?;
        }
        for queue in &queues {
            let known = locks.get(queue).filter(|lock| *lock.client == *client);
            let recorded = known.map_or(durable, |lock| lock.recorded);
            durable = durable.max(recorded);
            locks.insert(queue.clone(), Lock { client: client.into(), lease_ends: now + LEASE, recorded });
        }
        Ok(Granted { queues, durable })
    }

    /// Gives up those of `queues` that `client` holds, and says before what position the record of it lies.
    ///
    /// # Errors
    /// When the change is not appended; the locks stay.
    pub fn unlock(
        &self,
        group: &str,
        client: &str,
        queues: &[LockedQueue],
        record: impl FnOnce(&LocksChanged) -> Result<PhysicalOffset, AppendError>,
    ) -> Result<PhysicalOffset, AppendError> {
        let mut groups = self.groups.lock();
        let Some(locks) = groups.get_mut(group) else { return Ok(PhysicalOffset::ZERO) };
        let is_held = |queue: &&LockedQueue| locks.get(*queue).is_some_and(|lock| *lock.client == *client);
        let held: Vec<&LockedQueue> = queues.iter().filter(is_held).collect();
        let mut end = PhysicalOffset::ZERO;
        if !held.is_empty() {
            end = record(&released(group, held.iter().copied()))?;
        }
        for queue in held {
            locks.remove(queue);
        }
        Ok(end)
    }

    /// Whether any queue is locked for the group: then it consumes in order.
    pub fn any_held(&self, now: Duration, group: &str) -> bool {
        let groups = self.groups.lock();
        groups.get(group).is_some_and(|locks| locks.values().any(|lock| lock.lease_ends > now))
    }

    /// Who holds a queue's lock, and how much longer unless it is renewed.
    pub fn holder(
        &self,
        now: Duration,
        group: &str,
        topic: &str,
        queue: u32,
    ) -> Option<(Box<str>, Duration)> {
        let groups = self.groups.lock();
        let lock = groups.get(group)?.get(&LockedQueue { topic: topic.to_owned(), queue })?;
        let left = lock.lease_ends.checked_sub(now).filter(|left| !left.is_zero())?;
        Some((lock.client.clone(), left))
    }

    /// Gives up what has expired. What is not appended is tried again with the next sweep.
    pub fn sweep(
        &self,
        now: Duration,
        record: impl Fn(&LocksChanged) -> Result<PhysicalOffset, AppendError>,
    ) {
        self.groups.lock().retain(|group, locks| {
            let expired = || locks.iter().filter(|(_, lock)| lock.lease_ends <= now).map(|(queue, _)| queue);
            if expired().next().is_some() && record(&released(group, expired())).is_ok() {
                locks.retain(|_, lock| lock.lease_ends > now);
            }
            !locks.is_empty()
        });
    }

    /// Forgets the locks on a topic that is gone.
    pub fn forget_topic(&self, topic: &str) {
        let mut groups = self.groups.lock();
        groups.values_mut().for_each(|locks| locks.retain(|queue, _| queue.topic != topic));
    }

    /// Forgets the locks of a group that is gone.
    pub fn forget_group(&self, group: &str) {
        self.groups.lock().remove(group);
    }
}

fn of_group<'a>(
    groups: &'a mut HashMap<Arc<str>, HashMap<LockedQueue, Lock>>,
    group: &str,
) -> &'a mut HashMap<LockedQueue, Lock> {
    if !groups.contains_key(group) {
        groups.insert(group.into(), HashMap::new());
    }
    groups.get_mut(group).expect("the group was inserted above")
}

fn named(queue: &LockedQueue) -> (String, u32) {
    (queue.topic.clone(), queue.queue)
}

/// The record of a release, the same for the same queues whatever their order in a hash table.
fn released<'a>(group: &str, queues: impl Iterator<Item = &'a LockedQueue>) -> LocksChanged {
    let sorted: BTreeMap<(String, u32), ()> = queues.map(|queue| (named(queue), ())).collect();
    LocksChanged { group: group.to_owned(), owner: None, queues: sorted.into_keys().collect() }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::folds::{Change, Event, Fold};

    /// A log that keeps the owners.
    #[derive(Default)]
    struct Log {
        owners: RefCell<LockOwners>,
        end: RefCell<u64>,
    }

    impl Log {
        fn record(&self, change: &LocksChanged) -> Result<PhysicalOffset, AppendError> {
            let change = Change::LocksChanged(change.clone());
            let event = Event { at: PhysicalOffset::ZERO, stored_at: 0, change };
            self.owners.borrow_mut().apply(&event).unwrap();
            *self.end.borrow_mut() += 8;
            Ok(PhysicalOffset::new(*self.end.borrow()))
        }
    }

    fn queue(queue: u32) -> LockedQueue {
        LockedQueue { topic: "T".to_owned(), queue }
    }

    #[test]
    fn a_lock_has_one_owner_until_it_expires_or_is_released() {
        let (locks, log) = (QueueLocks::default(), Log::default());
        let lock = |now, group: &str, client: &str, queues: &[LockedQueue]| {
            locks.lock(now, group, client, queues, |change| log.record(change)).unwrap().queues
        };
        let (zero, both) = (Duration::ZERO, [queue(0), queue(1)]);
        assert_eq!(lock(zero, "G", "one", &both[..1]), [queue(0)]);
        assert_eq!(lock(zero, "G", "two", &both), [queue(1)]);
        assert_eq!(lock(zero, "other group", "two", &both), both);
        locks.unlock("G", "two", &both, |change| log.record(change)).unwrap();
        assert_eq!(lock(zero, "G", "one", &both), both);
        assert_eq!(lock(LEASE - Duration::from_millis(1), "G", "two", &both), []);
        assert_eq!(lock(LEASE, "G", "two", &both), both);
        let owners: Vec<_> =
            log.owners.borrow().iter().map(|(group, _, _, owner)| format!("{group} {owner}")).collect();
        assert_eq!(owners, ["G two", "G two", "other group two", "other group two"]);
        let held = |now| ["G", "nobody"].map(|group| locks.any_held(now, group));
        assert_eq!((held(LEASE), held(LEASE * 2)), ([true, false], [false, false]));
        locks.sweep(LEASE * 2, |change| log.record(change));
        assert!(locks.groups.lock().is_empty());
        assert_eq!(*log.owners.borrow(), LockOwners::default());
    }

    #[test]
    fn renewals_are_not_recorded_and_wait_for_the_record_of_the_first() {
        let (locks, log) = (QueueLocks::default(), Log::default());
        let lock = || locks.lock(Duration::ZERO, "G", "one", &[queue(0)], |change| log.record(change));
        let first = lock().unwrap();
        assert_eq!(lock().unwrap(), first);
        assert_eq!(*log.end.borrow(), 8);
    }

    #[test]
    fn what_is_not_recorded_is_not_granted() {
        let (locks, log) = (QueueLocks::default(), Log::default());
        let refuse = |_: &LocksChanged| Err(AppendError::Closed);
        assert!(locks.lock(Duration::ZERO, "G", "one", &[queue(0)], refuse).is_err());
        let two = locks.lock(Duration::ZERO, "G", "two", &[queue(0)], |change| log.record(change)).unwrap();
        assert_eq!(two.queues, [queue(0)]);
        assert!(locks.unlock("G", "two", &[queue(0)], refuse).is_err());
        let one = locks.lock(Duration::ZERO, "G", "one", &[queue(0)], |change| log.record(change)).unwrap();
        assert_eq!(one.queues, []);
    }

    #[test]
    fn after_a_restart_the_last_owner_comes_first() {
        let (locks, log) = (QueueLocks::default(), Log::default());
        locks.lock(Duration::ZERO, "G", "one", &[queue(0), queue(1)], |change| log.record(change)).unwrap();
        locks.unlock("G", "one", &[queue(1)], |change| log.record(change)).unwrap();

        let restarted = QueueLocks::default();
        restarted.restore(Duration::ZERO, &log.owners.borrow());
        let both = [queue(0), queue(1)];
        let lock = |now, client: &str| {
            restarted.lock(now, "G", client, &both, |change| log.record(change)).unwrap().queues
        };
        assert_eq!(lock(LEASE - Duration::from_millis(1), "two"), [queue(1)], "what was released is free");
        assert_eq!(lock(LEASE - Duration::from_millis(1), "one"), [queue(0)]);
        assert_eq!(lock(LEASE * 2, "two"), both);
    }
}
