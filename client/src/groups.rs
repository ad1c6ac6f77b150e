//! The groups this client belongs to, and what its heartbeat says of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use skylark_protocol::command::heartbeat::{ConsumerData, Heartbeat, ProducerData};
use tokio::sync::Notify;

/// All groups of a client.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    producers: BTreeSet<String>,
    consumers: BTreeMap<String, Membership>,
}

/// How a consumer belongs to its group.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    pub(crate) data: ConsumerData,
    /// Told when the group's members have changed.
    pub(crate) members_changed: Arc<Notify>,
}

impl Groups {
    pub(crate) fn add_producer(&self, group: &str) {
        self.inner.lock().producers.insert(group.to_owned());
    }

    pub(crate) fn add_consumer(&self, membership: Membership) {
        self.inner.lock().consumers.insert(membership.data.group_name.clone(), membership);
    }

    pub(crate) fn remove_producer(&self, group: &str) {
        self.inner.lock().producers.remove(group);
    }

    pub(crate) fn remove_consumer(&self, group: &str) {
        self.inner.lock().consumers.remove(group);
    }

    pub(crate) fn is_empty(&self) -> bool {
        let inner = self.inner.lock();
        inner.producers.is_empty() && inner.consumers.is_empty()
    }

    /// A broker says that a group's members have changed.
    pub(crate) fn members_changed(&self, group: &str) {
        if let Some(membership) = self.inner.lock().consumers.get(group) {
            membership.members_changed.notify_one();
        }
    }

    /// The body of a heartbeat.
    pub(crate) fn heartbeat(&self, client_id: &str) -> Bytes {
        let inner = self.inner.lock();
        let producers = inner.producers.iter().map(|group| ProducerData { group_name: group.clone() });
        let heartbeat = Heartbeat {
            client_id: client_id.to_owned(),
            consumers: inner.consumers.values().map(|membership| membership.data.clone()).collect(),
            producers: producers.collect(),
            ..Heartbeat::default()
        };
        Bytes::from(heartbeat.encode())
    }
}
