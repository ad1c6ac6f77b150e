//! Messages by their keys.

use std::ops::RangeInclusive;

use skylark_storage::PhysicalOffset;

use crate::active::ActiveSegment;
use crate::index::Index;

/// The number under which a message's key is indexed: CRC32C of topic, `#` and key. Fixed for ever, because files
/// hold it. Different keys may share one, so whoever finds a message compares its keys.
pub fn key_hash(topic: &str, key: &str) -> u32 {
    let hash = crc32c::crc32c(topic.as_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(hash, b"#"), key.as_bytes())
}

/// A message that a key's hash led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where its record starts in the log, header included.
    pub at: PhysicalOffset,
    /// Length of the whole record, header included.
    pub record_bytes: u32,
    /// When it was stored, in milliseconds since 1970.
    pub stored_at: u64,
}

impl Index {
    /// Up to `limit` messages with a key of this hash, stored within `times`, newest first; of those segments only
    /// whose index is in memory. [`sealed`](Self::sealed) answers for the older ones.
    ///
    /// Looks at every key of these segments: about a millisecond for a million.
    pub fn keys(&self, hash: u32, times: RangeInclusive<u64>, limit: usize) -> Vec<Found> {
        let mut found = Vec::new();
        for segment in self.memory().rev() {
            if found.len() >= limit
                || segment.newest_stored_at().is_some_and(|newest| newest < *times.start())
            {
                break;
            }
            segment.keys(hash, &times, limit, &mut found);
        }
        found
    }
}

impl ActiveSegment {
    fn keys(&self, hash: u32, times: &RangeInclusive<u64>, limit: usize, found: &mut Vec<Found>) {
        for key in self.keys.iter().rev().filter(|key| key.hash == hash) {
            if found.len() >= limit {
                break;
            }
            let slot = self.slot(key.entry);
            let at = self.base().advance(u64::from(slot.record_at));
            let stored_at = self.stored_at(key.entry);
            if times.contains(&stored_at) {
                add(found, Found { at, record_bytes: slot.record_bytes, stored_at });
            }
        }
    }
}

/// Adds a message, unless it was the last one too: two of its keys may have one hash.
pub(crate) fn add(found: &mut Vec<Found>, message: Found) {
    if found.last() != Some(&message) {
        found.push(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_fixed_for_ever() {
        assert_eq!(key_hash("orders", "17"), crc32c::crc32c(b"orders#17"));
        assert_eq!(key_hash("1234567", "9"), crc32c::crc32c(b"1234567#9"));
        assert_eq!(key_hash("t", "k"), 0x1b1a_72e5);
    }
}
