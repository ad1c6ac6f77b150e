//! The entries of one segment, in memory.

use std::hash::BuildHasher;
use std::mem::size_of;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use skylark_storage::PhysicalOffset;

use crate::column::Column;
use crate::directory::Run;
use crate::index::Entry;

/// One log-ordered column of entries, each linked to the next of its queue, and a directory of runs.
///
/// Invariant: a run's entries are its first one and the `count − 1` that follow it by links. Entries whose offset is
/// a multiple of [`ANCHOR_EVERY`] are also anchored, but for a run's first, which the directory finds; so no look-up
/// follows more than 255 links.
///
/// The methods that read ask for nothing that an immutable file could not answer by itself: when sealed segments
/// move to files, their type takes this one's place behind the same calls.
pub(crate) struct ActiveSegment {
    base: PhysicalOffset,
    created_at: u64,
    entries: Column<Slot>,
    runs: Column<Run>,
    anchors: HashTable<Anchor>,
}

/// A message, as the column keeps it.
struct Slot {
    /// Where the record starts, from the segment's first byte.
    record_at: u32,
    /// Length of the whole record, header included.
    record_bytes: u32,
    /// Hash of the tag.
    tag_hash: i32,
    /// Milliseconds since the segment was created.
    stored_at_delta: u32,
    /// Position of the queue's next entry; zero while there is none, since nothing links back to the first entry.
    next: u32,
}

/// Where the entry with queue offset `block × ANCHOR_EVERY` of a run is.
struct Anchor {
    block: u64,
    run: u32,
    position: u32,
}

/// Every so many offsets of a queue there is a shortcut into its chain of links.
const ANCHOR_EVERY: u64 = 256;

/// Bytes of a message in the column, which is nearly all it costs.
const _: () = assert!(size_of::<Slot>() == 20 && size_of::<Anchor>() == 16 && size_of::<Run>() == 40);

impl ActiveSegment {
    pub(crate) fn new(base: PhysicalOffset, created_at: u64) -> Self {
        Self { base, created_at, entries: Column::new(), runs: Column::new(), anchors: HashTable::new() }
    }

    /// The segment's first byte.
    pub(crate) fn base(&self) -> PhysicalOffset {
        self.base
    }

    /// When the segment was created: the lowest time its entries can express.
    pub(crate) fn created_at(&self) -> u64 {
        self.created_at
    }

    /// Where the record of the newest entry starts, or the segment does.
    pub(crate) fn last_record(&self) -> PhysicalOffset {
        self.base.advance(self.entries.last().map_or(0, |slot| u64::from(slot.record_at)))
    }

    /// How many entries there are.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The run in this slot of the directory.
    pub(crate) fn run(&self, slot: u32) -> &Run {
        self.runs.at(slot)
    }

    /// All runs.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> {
        self.runs.iter()
    }

    /// Adds a run to the directory and says in which slot it is.
    pub(crate) fn open_run(&mut self, run: Run) -> u32 {
        let slot = position(self.runs.len());
        self.runs.push(run);
        slot
    }

    /// Empties a run, which will go on at offset `first`. Anchors of its old entries stay: they are below `first`,
    /// where nobody looks any more.
    pub(crate) fn restart_run(&mut self, slot: u32, first: u64) {
        let run = self.runs.at_mut(slot);
        (run.first, run.count, run.first_entry) = (first, 0, 0);
    }

    /// Adds the next entry of a run, whose latest one is at `last`. The caller has checked that both differences
    /// fit 32 bits, and that the offset is the run's end. Says where the entry is.
    pub(crate) fn push(
        &mut self,
        run: u32,
        last: u32,
        record_at: u32,
        stored_at_delta: u32,
        entry: &Entry,
    ) -> u32 {
        let at = position(self.entries.len());
        let Entry { queue_offset, record_bytes, tag_hash, .. } = *entry;
        self.entries.push(Slot { record_at, record_bytes, tag_hash, stored_at_delta, next: 0 });
        let directory = self.runs.at_mut(run);
        debug_assert_eq!(directory.end(), queue_offset, "offsets are dense");
        if directory.count == 0 {
            directory.first_entry = at;
        } else {
            self.entries.at_mut(last).next = at;
            if queue_offset.is_multiple_of(ANCHOR_EVERY) {
                let anchor = Anchor { block: queue_offset / ANCHOR_EVERY, run, position: at };
                self.anchors
                    .insert_unique(hash(run, anchor.block), anchor, |other| hash(other.run, other.block));
            }
        }
        directory.count += 1;
        at
    }

    /// Position of the entry with this offset, which lies in the run.
    pub(crate) fn seek(&self, slot: u32, queue_offset: u64) -> u32 {
        let run = self.run(slot);
        debug_assert!((run.first..run.end()).contains(&queue_offset), "the offset lies in the run");
        let block = queue_offset / ANCHOR_EVERY;
        let (mut at, start) = self.block_start(slot, run, block);
        for _ in start..queue_offset {
            at = self.entries.at(at).next;
        }
        at
    }

    /// Position of the queue's next entry in this segment.
    pub(crate) fn next(&self, position: u32) -> Option<u32> {
        let next = self.entries.at(position).next;
        (next != 0).then_some(next)
    }

    /// What the entry at `position`, whose offset the caller knows, says.
    pub(crate) fn entry(&self, position: u32, queue_offset: u64) -> Entry {
        let slot = self.entries.at(position);
        Entry {
            queue_offset,
            physical_offset: self.base.advance(u64::from(slot.record_at)),
            record_bytes: slot.record_bytes,
            tag_hash: slot.tag_hash,
            stored_at: self.stored_at(position),
        }
    }

    /// When the message at `position` was stored.
    pub(crate) fn stored_at(&self, position: u32) -> u64 {
        self.created_at + u64::from(self.entries.at(position).stored_at_delta)
    }

    /// The first offset of a run, or its end, whose time is not `before`. Times do not decrease along a run: halves
    /// the anchors first, then walks from the last one that is `before`.
    pub(crate) fn partition(&self, slot: u32, before: impl Fn(u64) -> bool) -> u64 {
        let run = self.run(slot);
        // Of the blocks that begin inside the run, the first whose time is not `before`.
        let (mut low, mut high) = (run.first / ANCHOR_EVERY + 1, run.end().div_ceil(ANCHOR_EVERY));
        while low < high {
            let middle = low + (high - low) / 2;
            let (at, _) = self.block_start(slot, run, middle);
            if before(self.stored_at(at)) { low = middle + 1 } else { high = middle }
        }
        let (mut at, mut queue_offset) = self.block_start(slot, run, low - 1);
        while queue_offset < run.end() && before(self.stored_at(at)) {
            queue_offset += 1;
            at = self.entries.at(at).next;
        }
        queue_offset
    }

    /// Gives unused memory back, once the log has gone on to the next segment.
    pub(crate) fn finish(&mut self) {
        self.entries.shrink();
        self.runs.shrink();
        self.anchors.shrink_to_fit(|anchor| hash(anchor.run, anchor.block));
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes() + self.runs.memory_bytes() + self.anchors.allocation_size()
    }

    /// Where the part of `run` that lies in `block` begins: position and offset.
    fn block_start(&self, slot: u32, run: &Run, block: u64) -> (u32, u64) {
        let start = block * ANCHOR_EVERY;
        if start <= run.first {
            return (run.first_entry, run.first);
        }
        let anchor =
            self.anchors.find(hash(slot, block), |anchor| anchor.run == slot && anchor.block == block);
        (anchor.expect("every block that begins behind a run's first entry is anchored").position, start)
    }
}

/// Anchors are keyed by numbers that no client chooses freely, so their hash needs no secret.
fn hash(run: u32, block: u64) -> u64 {
    FixedState::with_seed(0).hash_one((run, block))
}

fn position(len: usize) -> u32 {
    u32::try_from(len).expect("a segment of less than 4 GiB holds fewer than 2^32 records")
}
