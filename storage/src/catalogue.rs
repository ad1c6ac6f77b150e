//! Which segments a log has, without a look at the disk.

use std::collections::VecDeque;

use crate::offset::PhysicalOffset;
use crate::sync::Mutex;

/// A segment that holds at least one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// The physical offset of its first byte.
    pub base: PhysicalOffset,
    /// Milliseconds since 1970: what its records' `stored_at_delta` counts from. Where the opening could not read the
    /// segment's header, that of the next segment whose header it could, or when the log's last record was stored.
    pub created_at: u64,
    /// What it takes on the disk. Of the newest segment, what groups take: what is prepared ahead is not counted.
    pub stored_bytes: u64,
}

/// The segments that hold groups, oldest first and without gaps. Filled from the headers that recovery reads anyway,
/// then kept by the writer.
#[derive(Debug, Default)]
pub(crate) struct Catalogue(Mutex<VecDeque<SegmentInfo>>);

impl Catalogue {
    pub(crate) fn new(segments: Vec<SegmentInfo>) -> Self {
        Self(Mutex::new(segments.into()))
    }

    /// Notes that the newest segment has grown, or that another one has begun.
    pub(crate) fn extend(&self, newest: SegmentInfo) {
        let mut segments = self.0.lock();
        match segments.back_mut().filter(|known| known.base == newest.base) {
            Some(known) => *known = newest,
            None => segments.push_back(newest),
        }
    }

    /// Corrects what a segment takes on the disk.
    pub(crate) fn resize(&self, base: PhysicalOffset, stored_bytes: u64) {
        // The newest but at most one.
        if let Some(known) = self.0.lock().iter_mut().rev().find(|known| known.base == base) {
            known.stored_bytes = stored_bytes;
        }
    }

    /// When the segment at `base` was created.
    pub(crate) fn created_at(&self, base: PhysicalOffset) -> Option<u64> {
        let segments = self.0.lock();
        let index = segments.binary_search_by_key(&base, |known| known.base).ok()?;
        Some(segments[index].created_at)
    }

    /// Forgets the segments below `beginning`.
    pub(crate) fn trim(&self, beginning: PhysicalOffset) {
        self.0.lock().retain(|known| known.base >= beginning);
    }

    pub(crate) fn list(&self) -> Vec<SegmentInfo> {
        self.0.lock().iter().copied().collect()
    }
}
