//! One queue's way through files.

use std::sync::Arc;

use super::SealedError;
use super::file::{SealedFile, partition_point};
use super::layout::{EntryItem, SealedRun};
use super::segments::SealedSegments;
use crate::index::Entry;
use crate::way::Way;

/// A view of one queue's messages in sealed segments, as of the moment at which the index was asked. Every method
/// may wait for the disk.
#[derive(Clone)]
pub struct SealedQueue {
    pub(crate) segments: SealedSegments,
    /// The lowest offset that can be read.
    pub(crate) min: u64,
    /// The way from the newest sealed run on. It ends where the sealed part of the queue does.
    pub(crate) way: Way,
}

impl SealedQueue {
    /// Up to `limit` messages from offset `from` on. Ends where the sealed part of the queue does, though the queue
    /// may go on in memory, and is empty from there on.
    ///
    /// # Errors
    /// When a file that the way leads through is missing, damaged or cannot be read.
    pub fn entries(&self, from: u64, limit: usize) -> Result<Vec<Entry>, SealedError> {
        let mut entries = Vec::new();
        let mut next = from;
        while entries.len() < limit {
            let Some((file, run)) = self.locate(next)? else { break };
            let left = u64::try_from(limit - entries.len()).unwrap_or(u64::MAX);
            let end = run.end().min(next.saturating_add(left));
            file.expect_entries(&run)?;
            file.walk(self.segments.pages(), position(&run, next), |item: EntryItem| {
                entries.push(Entry {
                    queue_offset: next,
                    physical_offset: file.base().advance(u64::from(item.record_at.get())),
                    record_bytes: item.record_bytes.get(),
                    tag_hash: item.tag_hash.get(),
                    stored_at: file.time(item.stored_at_delta.get()),
                });
                next += 1;
                next < end
            })?;
        }
        Ok(entries)
    }

    /// The message with this offset, if it is in the sealed part of the queue.
    ///
    /// # Errors
    /// As for [`SealedQueue::entries`].
    pub fn entry(&self, queue_offset: u64) -> Result<Option<Entry>, SealedError> {
        Ok(self.entries(queue_offset, 1)?.pop())
    }

    /// As [`Index::first_at_or_after`](crate::Index::first_at_or_after).
    ///
    /// # Errors
    /// As for [`SealedQueue::entries`].
    pub fn first_at_or_after(&self, time: u64) -> Result<u64, SealedError> {
        self.partition(|stored_at| stored_at < time)
    }

    /// As [`Index::last_at_or_before`](crate::Index::last_at_or_before).
    ///
    /// # Errors
    /// As for [`SealedQueue::entries`].
    pub fn last_at_or_before(&self, time: u64) -> Result<Option<u64>, SealedError> {
        let after = self.partition(|stored_at| stored_at <= time)?;
        Ok((after > self.min).then(|| after - 1))
    }

    /// The run that has this offset, and the file it is in. None outside of what can be read.
    fn locate(&self, queue_offset: u64) -> Result<Option<(&Arc<SealedFile>, SealedRun)>, SealedError> {
        let mut way = self.way;
        if !(self.min..way.end).contains(&queue_offset) {
            return Ok(None);
        }
        loop {
            if let Some((_, run)) = self.segments.run(way.jump)?
                && run.first > queue_offset
            {
                way = Way::behind(run.first, run.links);
                continue;
            }
            let Some((file, run)) = self.segments.run(way.at)? else { return Ok(None) };
            if run.first <= queue_offset {
                return Ok((queue_offset < run.end()).then_some((file, run)));
            }
            way = Way::behind(run.first, run.links);
        }
    }

    /// The first offset whose time is not `before`, or where the sealed part ends. The same search as in memory.
    fn partition(&self, before: impl Fn(u64) -> bool) -> Result<u64, SealedError> {
        let min = self.min;
        let mut way = self.way;
        while way.end > min {
            let passed = |file: &SealedFile, run: &SealedRun| {
                run.first >= min && !before(file.time(run.stored_at_delta))
            };
            if let Some((file, run)) = self.segments.run(way.jump)?
                && passed(file, &run)
            {
                way = Way::behind(run.first, run.links);
                continue;
            }
            let Some((file, run)) = self.segments.run(way.at)? else { break };
            if passed(file, &run) {
                way = Way::behind(run.first, run.links);
                continue;
            }
            // It begins before the time or below the minimum, so the answer is in it or behind it.
            if run.end() <= min {
                break;
            }
            let low = position(&run, run.first.max(min));
            let high = position(&run, run.end());
            let pages = self.segments.pages();
            let found = partition_point(low, high, |entry| Ok(before(file.stored_at(pages, entry)?)))?;
            return Ok(run.first + u64::from(found - run.first_entry));
        }
        Ok(way.end.max(min))
    }
}

/// Where in the entries section this offset of a run is.
fn position(run: &SealedRun, queue_offset: u64) -> u32 {
    // An offset of the run or its end is at most `count` behind its beginning.
    let behind = u32::try_from(queue_offset - run.first).unwrap_or(u32::MAX);
    run.first_entry.saturating_add(behind)
}
