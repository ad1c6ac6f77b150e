//! The folds as of one place in the log: how they go into a snapshot and come out of it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use skylark_index::{Index, RestoreError, SegmentSpan, remove_beyond};
use skylark_storage::{CommitLog, Epoch, Files, PhysicalOffset};
use tracing::info;

use crate::catalog::Catalog;
use crate::folds::{Fold, Heads, Offsets, Timers};
use crate::snapshots::{Snapshot, SnapshotHead, Snapshots};

/// The sections of a snapshot. Numbers are never given twice.
mod section {
    pub(super) const TOPICS: u8 = 1;
    pub(super) const GROUPS: u8 = 2;
    pub(super) const OFFSETS: u8 = 3;
    pub(super) const HEADS: u8 = 4;
    pub(super) const LOCK_OWNERS: u8 = 5;
    pub(super) const TIMERS: u8 = 6;
    pub(super) const KV: u8 = 7;
    pub(super) const INDEX: u8 = 8;
}

/// Everything that is computed from the log's records.
#[derive(Default)]
pub struct State {
    /// Topics, groups, owners of locks, and what the nameserver inside was told.
    pub catalog: Catalog,
    /// Where groups go on.
    pub offsets: Offsets,
    /// Where queues go on.
    pub heads: Heads,
    /// Which delayed messages were delivered.
    pub timers: Timers,
    /// The consume queues.
    pub index: Index,
}

/// A state, and where the log goes on behind it.
pub struct Restored {
    /// As of `position`.
    pub state: State,
    /// Where folding goes on.
    pub position: PhysicalOffset,
    /// Of the last record before it.
    pub epoch: Epoch,
}

/// Why no state was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Snapshots or index files cannot be read or removed.
    #[error("snapshots cannot be read: {0}")]
    Io(#[from] io::Error),
    /// A section is missing from a sound snapshot.
    #[error("the snapshot at {position} has no section {section}")]
    Missing {
        /// The snapshot's position.
        position: PhysicalOffset,
        /// The section.
        section: u8,
    },
    /// A section of a sound snapshot is not what it should be.
    #[error("section {section} of the snapshot at {position} cannot be understood: {cause}")]
    Section {
        /// The snapshot's position.
        position: PhysicalOffset,
        /// The section.
        section: u8,
        /// What is wrong with it.
        cause: postcard::Error,
    },
    /// The index's part does not fit.
    #[error("{0}")]
    Index(#[from] RestoreError),
    /// The log does not reach back to its beginning, and no snapshot reaches to where it does.
    #[error(
        "the log begins at {trimmed}, and no snapshot tells what came before: restore the directory `snapshots` \
         from a copy of the data directory"
    )]
    Unfounded {
        /// The log's first byte.
        trimmed: PhysicalOffset,
    },
}

impl State {
    /// The state to go on from: that of the newest snapshot that belongs to the log, or none if the log reaches back
    /// to its beginning. What was indexed behind it is removed, to be indexed again.
    ///
    /// # Errors
    /// When snapshots cannot be read, or the log cannot be understood without one that is gone.
    pub fn restore<T: Send + 'static>(
        log: &CommitLog<T>,
        files: &Arc<dyn Files>,
        snapshots: &mut Snapshots,
    ) -> Result<Restored, StateError> {
        let newest = snapshots.newest(|head| head.check(log))?;
        let trimmed = log.frontiers().trimmed;
        let position = newest.as_ref().map_or(PhysicalOffset::ZERO, |newest| newest.head.position);
        if position < trimmed {
            return Err(StateError::Unfounded { trimmed });
        }
        remove_beyond(&**files, position)?;
        let Some(Snapshot { head, sections }) = newest else {
            return Ok(Restored { state: Self::default(), position, epoch: Epoch::ZERO });
        };
        let bytes = |section| {
            sections.get(&section).map(|bytes| &**bytes).ok_or(StateError::Missing { position, section })
        };
        let span = |base: PhysicalOffset| base.advance(log.segment_bytes());
        let segments: Vec<_> = log
            .segments()
            .into_iter()
            .map(|segment| SegmentSpan {
                base: segment.base,
                end: span(segment.base),
                created_at: segment.created_at,
            })
            .collect();
        let mut index = Index::restore(bytes(section::INDEX)?, files, log.log_id(), &segments)?;
        let catalog = Catalog::new(
            fold(position, section::TOPICS, bytes(section::TOPICS)?)?,
            fold(position, section::GROUPS, bytes(section::GROUPS)?)?,
            fold(position, section::LOCK_OWNERS, bytes(section::LOCK_OWNERS)?)?,
            fold(position, section::KV, bytes(section::KV)?)?,
            &mut index,
        );
        info!(position = position.get(), missing = index.missing().len(), "snapshot loaded");
        let offsets = fold(position, section::OFFSETS, bytes(section::OFFSETS)?)?;
        let heads = fold(position, section::HEADS, bytes(section::HEADS)?)?;
        let timers = fold(position, section::TIMERS, bytes(section::TIMERS)?)?;
        let state = Self { catalog, offsets, heads, timers, index };
        Ok(Restored { state, position, epoch: head.epoch })
    }
}

fn fold<F: Fold>(position: PhysicalOffset, section: u8, bytes: &[u8]) -> Result<F, StateError> {
    F::restore(bytes).map_err(|cause| StateError::Section { position, section, cause })
}

/// The folds at a segment's beginning, as a snapshot.
pub struct Folds<'a> {
    /// Topics, groups, owners of locks, and what the nameserver inside was told.
    pub catalog: &'a Catalog,
    /// Where groups go on.
    pub offsets: &'a Offsets,
    /// Where queues go on.
    pub heads: &'a Heads,
    /// Which delayed messages were delivered.
    pub timers: &'a Timers,
    /// The consume queues, of which nothing was pushed behind the segment's beginning.
    pub index: &'a Index,
}

impl Folds<'_> {
    /// Everything as bytes. Takes about a tenth of a second for a million queues with an offset.
    pub fn snapshot(&self, head: SnapshotHead) -> Snapshot {
        let sections = [
            (section::TOPICS, self.catalog.topics.snapshot()),
            (section::GROUPS, self.catalog.groups.snapshot()),
            (section::OFFSETS, self.offsets.snapshot()),
            (section::HEADS, self.heads.snapshot()),
            (section::LOCK_OWNERS, self.catalog.lock_owners.snapshot()),
            (section::TIMERS, self.timers.snapshot()),
            (section::KV, self.catalog.kv.snapshot()),
            (section::INDEX, self.index.snapshot()),
        ];
        Snapshot { head, sections: BTreeMap::from(sections) }
    }
}
