//! How the window lies in a snapshot: its limits, deleted topics, and its entries as bytes.
//!
//! An entry is its fingerprint, 16 bytes, and as LEB128 how far its place and its time are from those of the entry
//! before, twice its queue, one more if it waits for a time, its queue offset, and then for how long. Hundreds of thousands of them are written between two segments, so they do not go
//! through an encoder field by field. The fingerprint of one that was withdrawn is all zeros.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DuplicateWindow, Fingerprint, SentMessage, WindowLimits};

#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    limits: WindowLimits,
    deleted: Cow<'a, BTreeMap<String, u64>>,
    entries: Entries,
}

/// Bytes, taken and given as such.
struct Entries(Vec<u8>);

impl Serialize for DuplicateWindow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut entries = Vec::with_capacity(self.messages.len() * 26);
        let (mut at, mut stored_at) = (0, 0);
        for entry in &self.messages {
            entries.extend(entry.fingerprint.0.map(u64::to_le_bytes).as_flattened());
            put(&mut entries, entry.at - at);
            put(&mut entries, entry.stored_at.wrapping_sub(stored_at));
            put(&mut entries, u64::from(entry.queue) << 1 | u64::from(entry.wait_ms > 0));
            put(&mut entries, entry.queue_offset);
            if entry.wait_ms > 0 {
                put(&mut entries, entry.wait_ms.into());
            }
            (at, stored_at) = (entry.at, entry.stored_at);
        }
        let (limits, deleted) = (self.limits, Cow::Borrowed(&self.deleted));
        Stored { limits, deleted, entries: Entries(entries) }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DuplicateWindow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Stored { limits, deleted, entries: Entries(bytes) } = Stored::deserialize(deserializer)?;
        let mut window = Self { limits, deleted: deleted.into_owned(), ..Self::default() };
        let mut rest = &*bytes;
        let (mut at, mut stored_at) = (0_u64, 0_u64);
        while !rest.is_empty() {
            let entry = take(&mut rest, &mut at, &mut stored_at);
            let entry = entry.ok_or_else(|| D::Error::custom("an entry is not whole"))?;
            if window.messages.len() >= limits.messages_max as usize {
                return Err(D::Error::custom("there are more entries than the window holds"));
            }
            window.push(entry);
        }
        Ok(window)
    }
}

fn put(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn take(rest: &mut &[u8], at: &mut u64, stored_at: &mut u64) -> Option<SentMessage> {
    let fingerprint = Fingerprint([take_fixed(rest)?, take_fixed(rest)?]);
    *at = at.checked_add(take_number(rest)?)?;
    *stored_at = stored_at.wrapping_add(take_number(rest)?);
    let queue_and_wait = take_number(rest)?;
    let queue = u32::try_from(queue_and_wait >> 1).ok()?;
    let queue_offset = take_number(rest)?;
    let wait_ms = if queue_and_wait & 1 == 1 { u32::try_from(take_number(rest)?).ok()? } else { 0 };
    Some(SentMessage { fingerprint, at: *at, stored_at: *stored_at, queue_offset, queue, wait_ms })
}

fn take_fixed(rest: &mut &[u8]) -> Option<u64> {
    let (number, behind) = rest.split_first_chunk()?;
    *rest = behind;
    Some(u64::from_le_bytes(*number))
}

fn take_number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, behind) = rest.split_first()?;
        *rest = behind;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

impl Serialize for Entries {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Entries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Entries;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Entries, E> {
                Ok(Entries(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}
