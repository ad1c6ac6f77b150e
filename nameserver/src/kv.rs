//! Key–value configuration, in memory.

use std::collections::BTreeMap;

use skylark_protocol::command::kv::KvTable;

/// Texts by namespace and key.
#[derive(Debug, Default)]
pub(crate) struct Kv {
    namespaces: BTreeMap<String, KvTable>,
    bytes: usize,
}

/// The configuration has reached its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key-value configuration would have {bytes} bytes, the limit is {}", Kv::BYTES_MAX)]
pub(crate) struct KvFull {
    bytes: usize,
}

impl Kv {
    /// More is refused, so that a namespace always fits into a frame, however it is escaped.
    pub(crate) const BYTES_MAX: usize = 2 * 1024 * 1024;

    /// Sets a key.
    pub(crate) fn put(&mut self, namespace: &str, key: &str, value: &str) -> Result<(), KvFull> {
        let old_bytes = self.get(namespace, key).map_or(0, |old| entry_bytes(key, old));
        let bytes = self.bytes - old_bytes + entry_bytes(key, value);
        if bytes > Self::BYTES_MAX {
            return Err(KvFull { bytes });
        }
        self.bytes = bytes;
        let table = &mut self.namespaces.entry(namespace.to_owned()).or_default().table;
        table.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// The value of a key.
    pub(crate) fn get(&self, namespace: &str, key: &str) -> Option<&str> {
        self.namespaces.get(namespace)?.table.get(key).map(|value| &**value)
    }

    /// Removes a key. Its namespace stays, as with Apache.
    pub(crate) fn delete(&mut self, namespace: &str, key: &str) {
        let Some(table) = self.namespaces.get_mut(namespace) else { return };
        if let Some(value) = table.table.remove(key) {
            self.bytes -= entry_bytes(key, &value);
        }
    }

    /// A namespace.
    pub(crate) fn namespace(&self, namespace: &str) -> Option<&KvTable> {
        self.namespaces.get(namespace)
    }
}

fn entry_bytes(key: &str, value: &str) -> usize {
    // An empty entry costs memory too.
    key.len() + value.len() + 64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_counts_what_is_there() {
        let mut kv = Kv::default();
        let half = "v".repeat(Kv::BYTES_MAX / 2);
        assert_eq!(kv.put("n", "a", &half), Ok(()));
        assert!(kv.put("n", "b", &half).is_err());
        assert_eq!(kv.put("n", "a", &half), Ok(()));
        kv.delete("n", "a");
        kv.delete("n", "a");
        assert_eq!(kv.bytes, 0);
        assert_eq!(kv.put("n", "b", &half), Ok(()));
        assert_eq!((kv.get("n", "a"), kv.get("n", "b")), (None, Some(&*half)));
    }
}
