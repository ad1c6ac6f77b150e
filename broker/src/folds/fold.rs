//! What a fold is.

use serde::Serialize;
use serde::de::DeserializeOwned;
use skylark_storage::PhysicalOffset;

use super::kinds::Change;
use super::timers::Watermark;

/// A record, on its way into the folds.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Where the record starts in the log.
    pub at: PhysicalOffset,
    /// When it was stored, in milliseconds since 1970: the only time a fold knows.
    pub stored_at: u64,
    /// What it says.
    pub change: Change<'a>,
}

/// A value computed by applying the log's records in order.
///
/// An implementation is pure: after the same records it holds the same value, whatever the machine, the hour or the
/// seed of a hash. It says in its docs how much memory it may take.
pub trait Fold: Serialize + DeserializeOwned {
    /// First byte of the snapshot, if it has one: a layout that changes needs another.
    const SNAPSHOT_VERSION: Option<u8> = None;

    /// Applies the next record; most records do not concern a fold, and leave it as it is.
    ///
    /// # Errors
    /// When the record contradicts those before it.
    fn apply(&mut self, event: &Event<'_>) -> Result<(), FoldError>;

    /// The whole value as bytes: equal values give equal bytes.
    fn snapshot(&self) -> Vec<u8> {
        let version = Vec::from_iter(Self::SNAPSHOT_VERSION);
        postcard::to_extend(self, version).expect("a table of plain fields has an encoding")
    }

    /// The value that [`snapshot`](Self::snapshot) gave these bytes for.
    ///
    /// # Errors
    /// When the version is another one, or the bytes are not of such a value.
    fn restore(snapshot: &[u8]) -> Result<Self, SnapshotError> {
        let bytes = match (Self::SNAPSHOT_VERSION, snapshot.split_first()) {
            (None, _) => snapshot,
            (Some(known), Some((&found, bytes))) if found == known => bytes,
            (Some(known), first) => {
                return Err(SnapshotError::Version { found: first.map_or(0, |(found, _)| *found), known });
            }
        };
        Ok(postcard::from_bytes(bytes)?)
    }

    /// A number to compare two replicas by: equal values give equal numbers, in every build.
    fn hash(&self) -> u64 {
        // FNV-1a: written out here because it must never change, and the comparison is no defence against anybody.
        self.snapshot().iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
    }
}

/// Why bytes are no fold's snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// Written by another release.
    #[error("version {found} is not {known}, the only one this release reads")]
    Version {
        /// The first byte; 0 if there is none.
        found: u8,
        /// The one that could be read.
        known: u8,
    },
    /// The bytes are not the value.
    #[error("{0}")]
    Malformed(#[from] postcard::Error),
}

/// Why a record cannot follow those before it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FoldError {
    /// A message whose queue offset is not its queue's next one.
    #[error("the message at {at} has offset {found} in queue {queue} of {topic}, whose next is {expected}")]
    QueueOffset {
        /// The record.
        at: PhysicalOffset,
        /// The message's topic.
        topic: String,
        /// Number of its queue.
        queue: u32,
        /// The queue's next offset.
        expected: u64,
        /// The message's.
        found: u64,
    },
    /// A record that sets a queue's head back.
    #[error(
        "the record at {at} sets the head of queue {queue} of {topic} to {found}, below its next offset {next}"
    )]
    HeadSetBack {
        /// The record.
        at: PhysicalOffset,
        /// The queue's topic.
        topic: String,
        /// Its number.
        queue: u32,
        /// The queue's next offset.
        next: u64,
        /// The record's.
        found: u64,
    },
    /// A record that takes back what timers have fired.
    #[error("the record at {at} sets the timers' mark back from {known:?} to {found:?}")]
    TimersBack {
        /// The record.
        at: PhysicalOffset,
        /// The mark before it.
        known: Watermark,
        /// The record's.
        found: Watermark,
    },
    /// A record about a transaction that is not open.
    #[error("the record at {at} is about the half message at {half}, whose transaction is not open")]
    NotOpen {
        /// The record.
        at: PhysicalOffset,
        /// The half message.
        half: PhysicalOffset,
    },
}
