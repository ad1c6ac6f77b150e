//! The index of one segment, in memory.

use std::hash::BuildHasher;
use std::mem::size_of;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use skylark_storage::PhysicalOffset;

use crate::column::Column;
use crate::directory::Run;
use crate::due::{Due, DueOrder};
use crate::index::{Entry, Extras, PushError};
use crate::timers::TimerSlot;

/// One log-ordered column of entries, each linked to the next of its queue, a directory of runs, and the keys and
/// due times of the messages that have some.
///
/// Invariant: a run's entries are its first one and the `count − 1` that follow it by links. Entries whose offset is
/// a multiple of [`ANCHOR_EVERY`] are also anchored, but for a run's first, which the directory finds; so no look-up
/// follows more than 255 links.
///
/// Nothing in it changes once the log has gone on to the next segment: what is finished is shared with whoever
/// writes it to a file.
pub(crate) struct ActiveSegment {
    number: u32,
    base: PhysicalOffset,
    /// Known once the segment is finished.
    end: PhysicalOffset,
    created_at: u64,
    entries: Column<Slot>,
    runs: Column<Run>,
    anchors: HashTable<Anchor>,
    /// In the log's order.
    pub(crate) keys: Column<KeySlot>,
    /// In the log's order.
    pub(crate) timers: Column<TimerSlot>,
    /// The timers' positions by due time, then by position.
    pub(crate) due: DueOrder,
}

/// A message that was checked to follow.
pub(crate) struct NewEntry<'a> {
    pub(crate) queue_offset: u64,
    pub(crate) slot: Slot,
    pub(crate) extras: Extras<'a>,
}

/// A message, as the column keeps it.
#[derive(Clone, Copy)]
pub(crate) struct Slot {
    /// Where the record starts, from the segment's first byte.
    pub(crate) record_at: u32,
    /// Length of the whole record, header included.
    pub(crate) record_bytes: u32,
    /// Hash of the tag.
    pub(crate) tag_hash: i32,
    /// Milliseconds since the segment was created.
    pub(crate) stored_at_delta: u32,
    /// Position of the queue's next entry; zero while there is none, since nothing links back to the first entry.
    pub(crate) next: u32,
}

/// By one of its keys a message is found.
pub(crate) struct KeySlot {
    /// See [`key_hash`](crate::key_hash).
    pub(crate) hash: u32,
    /// Position of the message's entry.
    pub(crate) entry: u32,
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
const _: () = assert!(size_of::<KeySlot>() == 8 && size_of::<TimerSlot>() == 16);

impl ActiveSegment {
    pub(crate) fn new(number: u32, base: PhysicalOffset, created_at: u64) -> Self {
        Self {
            number,
            base,
            end: base,
            created_at,
            entries: Column::new(),
            runs: Column::new(),
            anchors: HashTable::new(),
            keys: Column::new(),
            timers: Column::new(),
            due: DueOrder::new(),
        }
    }

    /// Which segment of the log it is, counted from the first.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// The segment's first byte.
    pub(crate) fn base(&self) -> PhysicalOffset {
        self.base
    }

    /// Where the segment ends, once it is finished.
    pub(crate) fn end(&self) -> PhysicalOffset {
        self.end
    }

    /// When the segment was created: the lowest time its entries can express.
    pub(crate) fn created_at(&self) -> u64 {
        self.created_at
    }

    /// Where the record of the newest entry starts, or the segment does.
    pub(crate) fn last_record(&self) -> PhysicalOffset {
        self.base.advance(self.entries.last().map_or(0, |slot| u64::from(slot.record_at)))
    }

    /// When the newest message was stored, if there is one.
    pub(crate) fn newest_stored_at(&self) -> Option<u64> {
        self.entries.last().map(|slot| self.created_at + u64::from(slot.stored_at_delta))
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

    /// Checks that a message may follow the newest one, which was stored at `stored_at`.
    pub(crate) fn check<'a>(
        &self,
        stored_at: u64,
        entry: &Entry,
        extras: Extras<'a>,
    ) -> Result<NewEntry<'a>, PushError> {
        let Entry { queue_offset, physical_offset: at, record_bytes, tag_hash, stored_at: found } = *entry;
        let (base, last) = (self.base, self.last_record());
        let record_at = if at < last { None } else { u32::try_from(at.since(base)).ok() };
        let Some(record_at) = record_at else {
            return Err(PushError::PhysicalOffset { base, last, found: at });
        };
        let created_at = self.created_at;
        let delta = if found < stored_at { None } else { found.checked_sub(created_at) };
        let Some(stored_at_delta) = delta.and_then(|delta| u32::try_from(delta).ok()) else {
            return Err(PushError::StoredAt { created_at, last: stored_at, found });
        };
        let slot = Slot { record_at, record_bytes, tag_hash, stored_at_delta, next: 0 };
        Ok(NewEntry { queue_offset, slot, extras })
    }

    /// Adds the next entry of a run, whose latest one is at `last`. The caller has checked that the offset is the
    /// run's end. Says where the entry is.
    pub(crate) fn push(&mut self, run: u32, last: u32, entry: &NewEntry<'_>) -> u32 {
        let at = position(self.entries.len());
        let NewEntry { queue_offset, slot, extras } = *entry;
        self.entries.push(slot);
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
        for &hash in extras.keys {
            self.keys.push(KeySlot { hash, entry: at });
        }
        if let Some(due) = extras.due {
            self.due.push(Due { ms: due, position: position(self.timers.len()) });
            self.timers.push(TimerSlot { due, record_at: slot.record_at, record_bytes: slot.record_bytes });
        }
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

    /// The entry at `position`, as the column keeps it.
    pub(crate) fn slot(&self, position: u32) -> &Slot {
        self.entries.at(position)
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

    /// Nothing more follows: the segment ends at `end`, where the next one begins. Gives unused memory back.
    pub(crate) fn finish(&mut self, end: PhysicalOffset) {
        self.end = end;
        self.entries.shrink();
        self.runs.shrink();
        self.anchors.shrink_to_fit(|anchor| hash(anchor.run, anchor.block));
        self.keys.shrink();
        self.timers.shrink();
        self.due.finish();
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.entries.memory_bytes()
            + self.runs.memory_bytes()
            + self.anchors.allocation_size()
            + self.keys.memory_bytes()
            + self.timers.memory_bytes()
            + self.due.memory_bytes()
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
