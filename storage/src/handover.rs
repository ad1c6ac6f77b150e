//! Groups on their way from the writer to whoever folds them.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use zerocopy::FromBytes;

use crate::group::{Chain, GROUP_HEADER_BYTES};
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_HEADER_BYTES, Record, RecordHeader};
use crate::sync::{AtomicU64, Condvar, Mutex, Ordering};

/// A group of the log that everybody may see, whole and sound.
#[derive(Clone)]
#[non_exhaustive]
pub struct Group {
    /// Where its 16-byte header stands.
    pub start: PhysicalOffset,
    /// Where it ends; when it seals its segment, the next segment's base.
    pub end: PhysicalOffset,
    /// When its segment was created, in milliseconds since 1970: what its records' `stored_at_delta` counts from. Later than
    /// it was, by as much as [`crate::SegmentInfo::created_at`] says, where the segment's header could not be read.
    pub created_at: u64,
    /// Of its records.
    pub epoch: Epoch,
    /// What the group behind it carries: names this group and everything before.
    pub chain: Chain,
    /// What is stored of it, header included.
    pub bytes: Bytes,
}

impl Group {
    /// Its records, in order, each with the offset of its header's first byte. Padding is left out.
    pub fn records(&self) -> Records<'_> {
        Records { group: self, at: GROUP_HEADER_BYTES }
    }

    /// What it counts for in the budget of staged bytes.
    fn staged_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { start, end, created_at, epoch, chain, bytes } = self;
        f.debug_struct("Group")
            .field("start", start)
            .field("end", end)
            .field("created_at", created_at)
            .field("epoch", epoch)
            .field("chain", chain)
            .field("bytes", &bytes.len())
            .finish()
    }
}

/// The records of a [`Group`].
#[derive(Clone, Debug)]
pub struct Records<'a> {
    group: &'a Group,
    at: usize,
}

impl<'a> Iterator for Records<'a> {
    type Item = (PhysicalOffset, Record<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let bytes = self.group.bytes.get(self.at..)?;
        // Checked when the group was read, or made by this process: a second look at the sums would cost as much
        // as all the rest of folding a record.
        let (header, _) = RecordHeader::read_from_prefix(bytes).ok()?;
        let fields = header.fields();
        if fields.kind == Kind::PADDING {
            return None;
        }
        let payload = &bytes[RECORD_HEADER_BYTES..][..fields.payload_bytes as usize];
        let at = self.group.start.advance(self.at as u64);
        debug_assert_eq!(at, fields.physical_offset, "records of a group stand where they say");
        self.at += usize::try_from(header.stored_bytes()).expect("a record fits into its group");
        Some((at, Record { header, payload }))
    }
}

/// The folding end of the hand-over: groups in log order, each once, as soon as everybody may see them.
///
/// Bytes count as staged until [`Self::done`], so that a slow folder slows appends down before memory runs out.
/// When this drops, groups go nowhere any more and count no longer.
pub struct GroupQueue {
    shared: Arc<Handover>,
}

/// Both ends of the hand-over.
#[derive(Debug, Default)]
pub(crate) struct Handover {
    state: Mutex<State>,
    changed: Condvar,
    /// Staged bytes that are durable and folded: only grows.
    released_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    groups: VecDeque<Group>,
    /// Nobody folds.
    is_detached: bool,
    /// No group will come any more.
    is_ended: bool,
}

impl GroupQueue {
    pub(crate) fn new(shared: Arc<Handover>) -> Self {
        Self { shared }
    }

    /// The next group, if there is one.
    pub fn try_next(&self) -> Option<Group> {
        self.shared.state.lock().groups.pop_front()
    }

    /// Sleeps until there is a group; `None` once the log has stopped and every group was fetched.
    pub fn next_blocking(&self) -> Option<Group> {
        let mut state = self.shared.state.lock();
        loop {
            if let Some(group) = state.groups.pop_front() {
                return Some(group);
            }
            if state.is_ended {
                return None;
            }
            state = self.shared.changed.wait(state);
        }
    }

    /// Says that a group has been folded: its bytes count as staged no longer. Once for each group.
    pub fn done(&self, group: &Group) {
        self.shared.release(group.staged_bytes());
    }
}

impl Drop for GroupQueue {
    fn drop(&mut self) {
        let left = {
            let mut state = self.shared.state.lock();
            state.is_detached = true;
            std::mem::take(&mut state.groups)
        };
        self.shared.release(left.iter().map(Group::staged_bytes).sum());
    }
}

impl fmt::Debug for GroupQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupQueue").field("groups", &self.shared.state.lock().groups.len()).finish()
    }
}

impl Handover {
    /// Hands a group over. Bounded by what may be staged, which the group counts for until it is done.
    pub(crate) fn push(&self, group: Group) {
        let bytes = group.staged_bytes();
        {
            let mut state = self.state.lock();
            if !state.is_detached {
                state.groups.push_back(group);
                self.changed.notify_all();
                return;
            }
        }
        self.release(bytes);
    }

    /// Says that no group will come any more.
    pub(crate) fn end(&self) {
        self.state.lock().is_ended = true;
        self.changed.notify_all();
    }

    /// How many of all the bytes ever staged need no place any more.
    pub(crate) fn released_bytes(&self) -> u64 {
        // Relaxed: only a budget hangs on it.
        self.released_bytes.load(Ordering::Relaxed)
    }

    fn release(&self, bytes: u64) {
        self.released_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(all(test, loom))]
mod loom_model;
