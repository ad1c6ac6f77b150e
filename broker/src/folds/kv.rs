//! The key–value configuration of a nameserver that the broker hosts.

use serde::{Deserialize, Serialize};
use skylark_nameserver::{KvChange, KvTables};
use skylark_storage::Kind;

use super::fold::{Event, Fold, FoldError};
use super::kinds::{self, Change};
use super::payload::Payload;

/// A tool has changed the nameserver's configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvChanged {
    /// What has changed.
    pub change: KvChange,
}

impl Payload for KvChanged {
    const KIND: Kind = kinds::KV_CHANGED;
    const VERSION: u8 = 1;
}

/// What the tools have written, by namespace and key.
///
/// Memory: the texts; the nameserver refuses more than two mebibytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kv {
    /// The tables.
    pub tables: KvTables,
}

impl Fold for Kv {
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError> {
        if let Change::KvChanged(KvChanged { change }) = &event.change {
            self.tables.apply(change);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use skylark_storage::PhysicalOffset;

    use super::*;

    #[test]
    fn changes_have_these_bytes_and_the_latest_counts() {
        let text = str::to_owned;
        let put = KvChange::Put { namespace: text("N"), key: text("k"), value: text("v") };
        let delete = KvChange::Delete { namespace: text("N"), key: text("k") };
        let mut kv = Kv::default();
        for (change, bytes, value) in [
            (put, &[1, 0, 1, b'N', 1, b'k', 1, b'v'][..], Some("v")),
            (delete, &[1, 1, 1, b'N', 1, b'k'], None),
        ] {
            let record = KvChanged { change };
            assert_eq!(record.encode(), bytes);
            let change = Change::decode(kinds::KV_CHANGED, bytes).unwrap();
            assert_eq!(change, Change::KvChanged(record));
            kv.apply(&Event { at: PhysicalOffset::ZERO, stored_at: 0, change }).unwrap();
            assert_eq!(kv.tables.get("N", "k"), value);
        }
    }
}
