//! Key–value configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use skylark_protocol::command::kv::KvTable;

/// A change of the key–value configuration.
///
/// Serialized by the order of its variants: journals keep it, so they stay as they are and others go behind them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum KvChange {
    /// A key has this value from now on.
    Put {
        /// The namespace.
        namespace: String,
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// A key is gone.
    Delete {
        /// The namespace.
        namespace: String,
        /// The key.
        key: String,
    },
}

/// The key–value configuration: texts by namespace and key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KvTables {
    /// Keys and values by namespace.
    pub namespaces: BTreeMap<String, BTreeMap<String, String>>,
}

impl KvTables {
    /// Makes a change. A namespace stays when its last key goes, as with Apache.
    pub fn apply(&mut self, change: &KvChange) {
        match change {
            KvChange::Put { namespace, key, value } => {
                let keys = self.namespaces.entry(namespace.clone()).or_default();
                keys.insert(key.clone(), value.clone());
            }
            KvChange::Delete { namespace, key } => {
                if let Some(keys) = self.namespaces.get_mut(namespace) {
                    keys.remove(key);
                }
            }
        }
    }

    /// The value of a key.
    pub fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.namespaces.get(namespace)?.get(key).map(|value| &**value)
    }
}

/// The configuration has reached its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key-value configuration would have {bytes} bytes, the limit is {}", Kv::BYTES_MAX)]
pub(crate) struct KvFull {
    bytes: usize,
}

/// The configuration in effect, and how much of its limit is taken.
#[derive(Debug, Default)]
pub(crate) struct Kv {
    tables: KvTables,
    bytes: usize,
    /// What changes take that are recorded and not in effect yet.
    reserved_bytes: usize,
}

impl Kv {
    /// More is refused, so that a namespace always fits into a frame, however it is escaped.
    pub(crate) const BYTES_MAX: usize = 2 * 1024 * 1024;

    /// A configuration that was recorded before.
    pub(crate) fn new(tables: KvTables) -> Self {
        let namespaces = tables.namespaces.iter();
        let bytes = namespaces.map(|(name, keys)| {
            let entries = keys.iter().map(|(key, value)| entry_bytes(key, value));
            namespace_bytes(name) + entries.sum::<usize>()
        });
        Self { bytes: bytes.sum(), tables, reserved_bytes: 0 }
    }

    /// Takes room for a change that is about to be recorded. [`Kv::apply`] or [`Kv::release`] gives it back.
    pub(crate) fn reserve(&mut self, change: &KvChange) -> Result<(), KvFull> {
        let change_bytes = change_bytes(change);
        let replaced_bytes = match change {
            KvChange::Put { namespace, key, .. } => self.entry_bytes(namespace, key),
            KvChange::Delete { .. } => 0,
        };
        let bytes = self.bytes + self.reserved_bytes - replaced_bytes + change_bytes;
        if change_bytes > 0 && bytes > Self::BYTES_MAX {
            return Err(KvFull { bytes });
        }
        self.reserved_bytes += change_bytes;
        Ok(())
    }

    /// Gives back the room of a change that was not recorded.
    pub(crate) fn release(&mut self, change: &KvChange) {
        // A change that came from elsewhere had no room to give back.
        self.reserved_bytes = self.reserved_bytes.saturating_sub(change_bytes(change));
    }

    /// Makes a change that is recorded.
    pub(crate) fn apply(&mut self, change: &KvChange) {
        self.release(change);
        let (KvChange::Put { namespace, key, .. } | KvChange::Delete { namespace, key }) = change;
        self.bytes -= self.entry_bytes(namespace, key);
        if matches!(change, KvChange::Put { .. }) && !self.tables.namespaces.contains_key(namespace) {
            self.bytes += namespace_bytes(namespace);
        }
        self.tables.apply(change);
        self.bytes += self.entry_bytes(namespace, key);
    }

    /// The value of a key.
    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.tables.get(namespace, key)
    }

    /// A namespace, as tools and brokers read it.
    pub(crate) fn namespace(&self, namespace: &str) -> Option<KvTable> {
        self.tables.namespaces.get(namespace).map(|keys| KvTable { table: keys.clone() })
    }

    /// Everything in effect.
    pub(crate) fn tables(&self) -> &KvTables {
        &self.tables
    }

    fn entry_bytes(&self, namespace: &str, key: &str) -> usize {
        self.get(namespace, key).map_or(0, |value| entry_bytes(key, value))
    }
}

/// What a change may add.
fn change_bytes(change: &KvChange) -> usize {
    match change {
        KvChange::Put { namespace, key, value } => namespace_bytes(namespace) + entry_bytes(key, value),
        KvChange::Delete { .. } => 0,
    }
}

fn namespace_bytes(name: &str) -> usize {
    name.len() + EMPTY_BYTES
}

fn entry_bytes(key: &str, value: &str) -> usize {
    key.len() + value.len() + EMPTY_BYTES
}

/// An empty entry costs memory too.
const EMPTY_BYTES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> KvChange {
        KvChange::Put { namespace: "n".to_owned(), key: key.to_owned(), value: value.to_owned() }
    }

    #[test]
    fn the_limit_counts_what_is_there_and_what_is_on_its_way() {
        let mut kv = Kv::default();
        let half = "v".repeat(Kv::BYTES_MAX / 2);
        assert_eq!(kv.reserve(&put("a", &half)), Ok(()));
        assert!(kv.reserve(&put("b", &half)).is_err());
        kv.apply(&put("a", &half));
        assert!(kv.reserve(&put("b", &half)).is_err());
        assert_eq!(kv.reserve(&put("a", &half)), Ok(()));
        kv.release(&put("a", &half));
        let delete = KvChange::Delete { namespace: "n".to_owned(), key: "a".to_owned() };
        for _ in 0..2 {
            assert_eq!(kv.reserve(&delete), Ok(()));
            kv.apply(&delete);
        }
        assert_eq!((kv.bytes, kv.reserved_bytes), (namespace_bytes("n"), 0));
        assert_eq!(kv.reserve(&put("b", &half)), Ok(()));
        kv.apply(&put("b", &half));
        assert_eq!((kv.get("n", "a"), kv.get("n", "b")), (None, Some(&*half)));
        assert_eq!(Kv::new(kv.tables().clone()).bytes, kv.bytes);
    }
}
