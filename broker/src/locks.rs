//! Queue locks: who may consume a queue in order.
//!
//! A lock is a lease. Its owner renews it every 20 seconds and believes in it for 30; here it lasts 60, so that no
//! second consumer is let in while the first still believes. A restart forgets all locks: until their owners have
//! renewed them another consumer may be let in early.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// How long a lock outlives its last renewal.
pub const LEASE: Duration = Duration::from_secs(60);

/// A queue, as lock requests name it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LockedQueue {
    /// The topic.
    pub topic: String,
    /// The queue's number.
    pub queue: i32,
}

/// The locks of every group.
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
}

impl QueueLocks {
    /// Grants `client` those of `queues` that are free, expired or already its own, and renews them.
    pub fn lock(&self, now: Duration, group: &str, client: &str, queues: &[LockedQueue]) -> Vec<LockedQueue> {
        let mut groups = self.groups.lock();
        if !groups.contains_key(group) {
            groups.insert(group.into(), HashMap::new());
        }
        let locks = groups.get_mut(group).expect("the group was inserted above");
        let granted = queues.iter().filter(|queue| match locks.get_mut(queue) {
            Some(lock) if *lock.client != *client && lock.lease_ends > now => false,
            Some(lock) => {
                *lock = Lock { client: client.into(), lease_ends: now + LEASE };
                true
            }
            None => {
                locks.insert((*queue).clone(), Lock { client: client.into(), lease_ends: now + LEASE });
                true
            }
        });
        granted.cloned().collect()
    }

    /// Gives up those of `queues` that `client` holds.
    pub fn unlock(&self, group: &str, client: &str, queues: &[LockedQueue]) {
        let mut groups = self.groups.lock();
        let Some(locks) = groups.get_mut(group) else { return };
        for queue in queues {
            if locks.get(queue).is_some_and(|lock| *lock.client == *client) {
                locks.remove(queue);
            }
        }
    }

    /// Whether any queue is locked for the group: then it consumes in order.
    pub fn any_held(&self, now: Duration, group: &str) -> bool {
        let groups = self.groups.lock();
        groups.get(group).is_some_and(|locks| locks.values().any(|lock| lock.lease_ends > now))
    }

    /// Forgets what has expired.
    pub fn sweep(&self, now: Duration) {
        self.groups.lock().retain(|_, locks| {
            locks.retain(|_, lock| lock.lease_ends > now);
            !locks.is_empty()
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(number: i32) -> LockedQueue {
        LockedQueue { topic: "T".to_owned(), queue: number }
    }

    #[test]
    fn a_lock_has_one_owner_until_it_expires_or_is_released() {
        let locks = QueueLocks::default();
        let (zero, both) = (Duration::ZERO, [queue(0), queue(1)]);
        assert_eq!(locks.lock(zero, "G", "one", &both[..1]), [queue(0)]);
        assert_eq!(locks.lock(zero, "G", "two", &both), [queue(1)]);
        assert_eq!(locks.lock(zero, "other group", "two", &both), both);
        locks.unlock("G", "two", &both);
        assert_eq!(locks.lock(zero, "G", "one", &both), both);
        assert_eq!(locks.lock(LEASE - Duration::from_millis(1), "G", "two", &both), []);
        assert_eq!(locks.lock(LEASE, "G", "two", &both), both);
        let held = |now| ["G", "nobody"].map(|group| locks.any_held(now, group));
        assert_eq!((held(LEASE), held(LEASE * 2)), ([true, false], [false, false]));
        locks.sweep(LEASE * 2);
        assert!(locks.groups.lock().is_empty());
    }
}
