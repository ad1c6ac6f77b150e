//! The log's tail in memory: what the append lock protects.
//!
//! Records are placed in a `chunk` exactly where they will stand on disk, so a group is written from where it was
//! staged, and the block that two groups share needs no copy: the earlier bytes already stand in front.
//!
//! ```text
//!  chunk  ├ header block ┼ group ┼ group ┼ gap ┼ group, taken ┼ group, open ┼ room ┤
//!         └ segment base          (packed) (padded)     ▲             ▲
//!                                                 the writer's   the appenders'
//! ```
//!
//! A group is **open** while appends go into it and **closed** by the writer's take, or because a unit does not fit
//! into it, its chunk or its segment. A closed group takes no more appends; once its open copies have ended, only
//! the writer touches it.
//!
//! How groups follow each other, on which recovery relies:
//! - the next group starts right behind (*packed*: its write repeats the bytes of the block they share), or in the
//!   next block if the segment has one left (*padded*: the gap is zero);
//! - behind a group there is always room for a padding group in the segment, so a segment that is full, or a day
//!   old, ends in a padding record: the last one of its last group, or alone in a group. The next group starts in
//!   the second block of the next segment, whose first block, its header, is written with it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use zerocopy::IntoBytes;

use crate::group::{Chain, ChainBuilder, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader, UNIT_BYTES_MAX};
use crate::log_id::{LogId, Seed};
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_HEADER_BYTES, RecordFields, RecordHeader, payload_crc};
use crate::segment::{BLOCK_BYTES, SEGMENT_HEADER_BYTES, SegmentFields, SegmentHeader};

use chunk::{ChunkWatch, Filler, Pool, Slot, Source};
pub use chunk::{Stretch, TailMemory};
use copies::{Copies, Ticket};
pub(crate) use unit::Unit;
pub use unit::{NewRecord, Place};

pub(crate) mod chunk;
mod copies;
#[cfg(loom)]
mod tracker;
mod unit;

/// Where a group ends, and the next one starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TailPolicy {
    /// Large groups pad, small ones pack: space on disk stays near the records' size at every load. Relies on a
    /// torn sector being old or new, never neither, because the block that two groups share is written twice.
    #[default]
    PackOrPad,
    /// Every group starts a block, so that no block is ever written twice. For disks that break the above.
    Pad,
}

/// Groups from this size on pad: then the gap costs at most 1/16 of the space.
const PAD_FROM_BYTES: u64 = 64 << 10;
/// A chunk holds a group of the greatest length, wherever in a block it starts, with a segment's header; whole large
/// pages.
pub(crate) const CHUNK_BYTES: usize = GROUP_BYTES_MAX as usize + (2 << 20);
/// Larger units are copied after the append lock is free again.
const COPIED_UNDER_LOCK_BYTES_MAX: usize = if cfg!(loom) { 64 } else { 4096 };
/// What a padding group takes, and a padding record in a group that is open anyway.
const PADDING_GROUP_BYTES: u64 = (GROUP_HEADER_BYTES + RECORD_HEADER_BYTES) as u64;
/// Far below what `stored_at_delta` can hold.
const SEGMENT_AGE_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// The longest unit that fits into the segments of a log.
pub(crate) fn unit_bytes_max(segment_bytes: u64) -> u64 {
    let room = segment_bytes - BLOCK_BYTES - GROUP_HEADER_BYTES as u64 - PADDING_GROUP_BYTES;
    room.min(u64::from(UNIT_BYTES_MAX))
}

/// What all groups of one opening have in common.
#[derive(Clone, Debug)]
pub(crate) struct Constants {
    pub(crate) log_id: LogId,
    pub(crate) segment_bytes: u64,
    pub(crate) epoch: Epoch,
    /// The epoch before. A segment without room for this epoch's record is sealed in it: an epoch begins with its
    /// record, and recovery takes nothing for sound that stands in front of one.
    pub(crate) previous_epoch: Epoch,
    pub(crate) tail: TailPolicy,
    pub(crate) pool: Arc<Pool>,
}

/// Where staging begins.
#[derive(Clone, Debug)]
pub(crate) enum Beginning {
    /// Behind the groups of a segment. `block` is what its last block holds so far.
    Continues { segment: SegmentFields, end: PhysicalOffset, block: Vec<u8> },
    /// In a segment that has no group yet.
    Begins { base: PhysicalOffset },
}

/// The open group, the closed ones, and where the next goes.
pub(crate) struct Staging {
    constants: Constants,
    seed: Seed,
    segment: Segment,
    filler: Filler,
    /// Where the last closed group stopped in the chunk, or the chunk begins.
    closed_end: PhysicalOffset,
    open: Option<Open>,
    closed: VecDeque<Closed>,
    /// Where this opening's epoch began, once it has.
    epoch_start: Option<PhysicalOffset>,
    stored_at: u64,
    appended_end: PhysicalOffset,
    staged_bytes: u64,
    taken_bytes: u64,
}

/// The segment that groups go into.
#[derive(Clone, Copy, Debug)]
struct Segment {
    base: PhysicalOffset,
    end: PhysicalOffset,
    created_at: u64,
    /// No group has been placed in it, so its header is still to be written.
    is_new: bool,
}

struct Open {
    start: PhysicalOffset,
    header: Slot,
    /// With the first group of a segment: its header and the block it goes to.
    segment_header: Option<(SegmentFields, Slot)>,
    chain: ChainBuilder,
    copies: Option<Arc<Copies>>,
}

/// What is in the open group so far.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenGroup {
    /// Of the segment it belongs to.
    pub(crate) segment_base: PhysicalOffset,
    pub(crate) start: PhysicalOffset,
    pub(crate) end: PhysicalOffset,
}

/// A group that takes no more appends.
pub(crate) struct Closed {
    group: Open,
    segment_base: PhysicalOffset,
    segment_created_at: u64,
    /// Where the group before stopped, or the chunk begins.
    frozen_from: PhysicalOffset,
    records_end: PhysicalOffset,
    logical_end: PhysicalOffset,
    padded: bool,
    stored_at: u64,
    source: Source,
}

/// A group whose bytes do not change any more.
pub(crate) struct Sealed {
    /// Of the segment it belongs to.
    pub(crate) segment_base: PhysicalOffset,
    /// What its records' store times count from.
    pub(crate) segment_created_at: u64,
    pub(crate) start: PhysicalOffset,
    /// Behind the last byte that is stored.
    pub(crate) stored_end: PhysicalOffset,
    /// Where the group ends in the log: behind a padding record it is the next segment's base.
    pub(crate) end: PhysicalOffset,
    /// Where its write begins: the block of its start, or the segment's header.
    pub(crate) write_from: PhysicalOffset,
    /// The next group starts in a block of its own, and the rest of this one's last block is zero.
    pub(crate) padded: bool,
    /// What the next group carries.
    pub(crate) chain: Chain,
    /// Store time of its last record.
    pub(crate) stored_at: u64,
    /// Where its chunk begins.
    pub(crate) chunk_base: PhysicalOffset,
    /// The chunk's bytes up to the group's end, or up to the end of its last block if it is padded.
    pub(crate) chunk: Bytes,
    /// Whether the chunk is in use.
    pub(crate) watch: ChunkWatch,
}

/// Where a unit went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) start: PhysicalOffset,
    pub(crate) end: PhysicalOffset,
}

/// The part of an append that is done after the append lock is free again.
pub(crate) struct OpenCopy {
    // In this order: the slot is gone before the ticket says that the copy has ended.
    slot: Slot,
    _ticket: Ticket,
}

impl OpenCopy {
    /// Copies what `unit` brings along behind the heads of its records.
    pub(crate) fn complete(mut self, unit: &Unit<'_>) {
        unit.copy_rests(&mut self.slot);
    }
}

impl Staging {
    pub(crate) fn new(
        constants: Constants,
        beginning: &Beginning,
        end: PhysicalOffset,
        stored_at: u64,
    ) -> Self {
        let (base, created_at, filler) = match beginning {
            Beginning::Continues { segment, end, block } => {
                let mut filler = Filler::new(&constants.pool, end.align_down(BLOCK_BYTES));
                filler.fill(block.len()).copy_from_slice(block);
                assert_eq!(filler.position(), *end, "the last block is there up to the log's end");
                (segment.base, segment.created_at, filler)
            }
            Beginning::Begins { base } => (*base, stored_at, Filler::new(&constants.pool, *base)),
        };
        let segment = Segment {
            base,
            end: base.advance(constants.segment_bytes),
            created_at,
            is_new: matches!(beginning, Beginning::Begins { .. }),
        };
        // A clock may have been behind when the segment was created.
        // No record of it can be later than its header can say, whatever a checkpoint claims.
        let stored_at = stored_at.clamp(created_at, created_at.saturating_add(u64::from(u32::MAX)));
        let mut staging = Self {
            seed: constants.log_id.seed(),
            constants,
            segment,
            closed_end: filler.base(),
            filler,
            open: None,
            closed: VecDeque::with_capacity(16),
            epoch_start: None,
            stored_at,
            appended_end: end,
            staged_bytes: 0,
            taken_bytes: 0,
        };
        if staging.constants.tail == TailPolicy::Pad && staging.has_next_block() {
            staging.fill_block();
        }
        staging
    }

    /// End of the last record placed.
    pub(crate) fn appended_end(&self) -> PhysicalOffset {
        self.appended_end
    }

    /// Bytes of all groups ever staged by this opening.
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.staged_bytes
    }

    /// Bytes of all groups ever taken.
    pub(crate) fn taken_bytes(&self) -> u64 {
        self.taken_bytes
    }

    /// Whether there is something for the writer to take.
    pub(crate) fn has_group(&self) -> bool {
        self.open.is_some() || !self.closed.is_empty()
    }

    /// The group that is open, if it is the only one to take.
    pub(crate) fn lone_group(&self) -> Option<OpenGroup> {
        let open = self.open.as_ref().filter(|_| self.closed.is_empty())?;
        Some(OpenGroup { segment_base: self.segment.base, start: open.start, end: self.appended_end })
    }

    /// Places a unit: reserves its bytes, lets `fill` finish each head, finishes the headers. The rest of the
    /// payloads is copied at once, or by the caller through the copy that is returned.
    ///
    /// The unit is no longer than [`unit_bytes_max`].
    pub(crate) fn append(
        &mut self,
        unit: &Unit<'_>,
        now_ms: u64,
        mut fill: impl FnMut(Place, &mut [u8]),
    ) -> (Placed, Option<OpenCopy>) {
        let stored_at = self.stored_at.max(now_ms);
        self.make_room(unit.bytes() as u64, stored_at);
        let start = self.filler.position();
        let delta =
            u32::try_from(stored_at - self.segment.created_at).expect("segments are sealed after a day");
        let open = self.open.as_mut().expect("making room leaves a group open");
        let is_copied_later = unit.bytes() > COPIED_UNDER_LOCK_BYTES_MAX;
        let mut copy = is_copied_later.then(|| OpenCopy {
            slot: self.filler.detach(unit.bytes()),
            _ticket: open.copies.get_or_insert_default().begin(),
        });
        let bytes: &mut [u8] = match &mut copy {
            Some(copy) => &mut copy.slot,
            None => self.filler.fill(unit.bytes()),
        };
        for (index, record) in unit.records().enumerate() {
            let physical_offset = start.advance(record.at as u64);
            let (header, payload) = bytes[record.at..].split_at_mut(RECORD_HEADER_BYTES);
            let head = &mut payload[..record.head.len()];
            head.copy_from_slice(record.head);
            fill(Place { index, physical_offset, stored_at }, head);
            let fields = RecordFields {
                payload_bytes: record.payload_bytes,
                kind: record.kind,
                head_bytes: record.head_bytes,
                physical_offset,
                epoch: self.constants.epoch,
                stored_at_delta: delta,
                payload_crc: record.payload_crc,
            };
            let finished = RecordHeader::new(self.seed, &fields, head);
            header.copy_from_slice(finished.as_bytes());
            open.chain.record(finished.header_crc());
        }
        if !is_copied_later {
            unit.copy_rests(bytes);
        }
        self.stored_at = stored_at;
        self.staged_bytes += unit.bytes() as u64;
        self.appended_end = self.filler.position();
        self.epoch_start.get_or_insert(start);
        (Placed { start, end: self.appended_end }, copy)
    }

    /// The oldest group, closed if it was open.
    pub(crate) fn take(&mut self) -> Option<Closed> {
        if self.closed.is_empty() && self.open.is_some() {
            self.close(Pads::ByPolicy);
        }
        let group = self.closed.pop_front()?;
        self.taken_bytes += group.records_end.since(group.group.start);
        Some(group)
    }

    /// Leaves a group open that has room for `bytes` more, and for a padding record behind them.
    fn make_room(&mut self, bytes: u64, stored_at: u64) {
        loop {
            if self.segment.is_new {
                self.segment.created_at = stored_at;
            }
            if stored_at - self.segment.created_at > SEGMENT_AGE_MS_MAX || !self.fits_segment(bytes) {
                self.roll();
            } else if self.open.is_none() {
                if self.fits_chunk(bytes) {
                    self.open_group();
                } else {
                    self.next_chunk();
                }
            } else if !self.fits_chunk(bytes) || !self.fits_group(bytes) {
                // The next group may need another chunk, which begins at a block.
                let pads = if self.fits_chunk(bytes) { Pads::ByPolicy } else { Pads::Always };
                self.close(pads);
            } else {
                return;
            }
        }
    }

    /// Where the next record would start.
    fn next_record(&self) -> PhysicalOffset {
        let next = self.filler.position();
        let header_block = if self.segment.is_new { BLOCK_BYTES } else { 0 };
        let group_header = if self.open.is_some() { 0 } else { GROUP_HEADER_BYTES as u64 };
        next.advance(header_block + group_header)
    }

    fn fits_segment(&self, bytes: u64) -> bool {
        self.next_record().advance(bytes + PADDING_GROUP_BYTES) <= self.segment.end
    }

    fn fits_chunk(&self, bytes: u64) -> bool {
        let needed = self.next_record().since(self.filler.position()) + bytes + PADDING_GROUP_BYTES;
        needed <= self.filler.room() as u64
    }

    fn fits_group(&self, bytes: u64) -> bool {
        let Some(open) = &self.open else { return true };
        let needed = bytes + RECORD_HEADER_BYTES as u64;
        self.filler.position().since(open.start) + needed <= u64::from(GROUP_BYTES_MAX)
    }

    fn open_group(&mut self) {
        let segment_header = std::mem::take(&mut self.segment.is_new).then(|| {
            #[expect(clippy::cast_possible_truncation, reason = "a block is small")]
            let block = self.filler.detach(BLOCK_BYTES as usize);
            let start = self.filler.position().advance(GROUP_HEADER_BYTES as u64);
            let fields = SegmentFields {
                log_id: self.constants.log_id,
                base: self.segment.base,
                segment_bytes: self.constants.segment_bytes,
                created_at: self.segment.created_at,
                epoch: self.constants.epoch,
                epoch_start: self.epoch_start.unwrap_or(start),
            };
            (fields, block)
        });
        let start = self.filler.position();
        let header = self.filler.detach(GROUP_HEADER_BYTES);
        self.staged_bytes += GROUP_HEADER_BYTES as u64;
        self.open =
            Some(Open { start, header, segment_header, chain: ChainBuilder::default(), copies: None });
    }

    /// Closes the open group, and decides where the next one starts.
    fn close(&mut self, pads: Pads) {
        let Some(group) = &self.open else { return };
        let bytes = self.filler.position().since(group.start);
        let wanted = match pads {
            Pads::Always => true,
            Pads::ByPolicy => self.constants.tail == TailPolicy::Pad || bytes >= PAD_FROM_BYTES,
        };
        if wanted && self.has_next_block() {
            self.finish_group(true);
        } else if wanted && (pads == Pads::Always || self.constants.tail == TailPolicy::Pad) {
            self.seal();
        } else {
            self.finish_group(false);
        }
    }

    /// Ends the segment with a padding record, in the open group or in one of its own, and begins the next one.
    fn roll(&mut self) {
        if self.open.is_none() {
            // Behind every group the segment has room for this one; the chunk has it, or it ends right there.
            if self.filler.room() == 0 {
                self.next_chunk();
            }
            self.open_group();
        }
        self.seal();
    }

    /// Closes the open group with a padding record, and the segment with it.
    fn seal(&mut self) {
        let open = self.open.as_mut().expect("a padding record needs a group");
        let at = self.filler.position();
        let payload_bytes = self.segment.end.since(at) - RECORD_HEADER_BYTES as u64;
        let fields = RecordFields {
            payload_bytes: u32::try_from(payload_bytes).expect("segments are at most 2 GiB"),
            kind: Kind::PADDING,
            head_bytes: 0,
            physical_offset: at,
            epoch: if self.epoch_start.is_some() {
                self.constants.epoch
            } else {
                self.constants.previous_epoch
            },
            stored_at_delta: u32::try_from(self.stored_at - self.segment.created_at)
                .expect("segments are sealed after a day"),
            payload_crc: payload_crc(self.seed, &[]),
        };
        let header = RecordHeader::new(self.seed, &fields, &[]);
        self.filler.fill(RECORD_HEADER_BYTES).copy_from_slice(header.as_bytes());
        open.chain.record(header.header_crc());
        self.staged_bytes += RECORD_HEADER_BYTES as u64;
        self.finish_group(false);
        let base = self.segment.end;
        if let Some(last) = self.closed.back_mut() {
            last.logical_end = base;
        }
        self.segment = Segment {
            base,
            end: base.advance(self.constants.segment_bytes),
            created_at: self.stored_at,
            is_new: true,
        };
        self.begin_chunk(base);
        self.appended_end = base;
    }

    fn finish_group(&mut self, padded: bool) {
        let Some(group) = self.open.take() else { return };
        let records_end = self.filler.position();
        if padded {
            self.fill_block();
        }
        let frozen_from = std::mem::replace(&mut self.closed_end, self.filler.position());
        self.closed.push_back(Closed {
            group,
            segment_base: self.segment.base,
            segment_created_at: self.segment.created_at,
            frozen_from,
            records_end,
            logical_end: records_end,
            padded,
            stored_at: self.stored_at,
            source: self.filler.source(),
        });
    }

    /// Whether the segment has a whole block behind the one that the next byte goes to.
    fn has_next_block(&self) -> bool {
        self.filler.position().align_up(BLOCK_BYTES).advance(BLOCK_BYTES) <= self.segment.end
    }

    /// Fills up the block that the next byte goes to.
    fn fill_block(&mut self) {
        let position = self.filler.position();
        let gap = position.align_up(BLOCK_BYTES).since(position);
        let gap = usize::try_from(gap).expect("a block is small");
        self.filler.fill(gap).fill(0);
    }

    /// Begins another chunk where the next group starts. No group is open.
    fn next_chunk(&mut self) {
        let at_block = self.filler.position().get().is_multiple_of(BLOCK_BYTES);
        if !at_block && !self.has_next_block() {
            self.open_group();
            self.seal();
            return;
        }
        self.fill_block();
        self.begin_chunk(self.filler.position());
    }

    fn begin_chunk(&mut self, base: PhysicalOffset) {
        self.filler = Filler::new(&self.constants.pool, base);
        self.closed_end = base;
    }
}

impl Closed {
    /// Waits for the open copies, and fills in the group's header, and the segment's if it opens one. Groups are
    /// sealed in the order they were taken.
    pub(crate) fn seal(self, seed: Seed, chain: Chain, durable_end: PhysicalOffset) -> Sealed {
        let Open { start, mut header, segment_header, chain: records, copies } = self.group;
        if let Some(copies) = copies {
            copies.wait();
        }
        let group_bytes = u32::try_from(self.records_end.since(start)).expect("groups are at most 8 MiB");
        let undurable_bytes = u32::try_from(start.since(durable_end))
            .expect("the writer flushes long before durability lags by 4 GiB");
        let group_header = GroupHeader::new(seed, start, group_bytes, undurable_bytes, chain);
        header.copy_from_slice(group_header.as_bytes());
        drop(header);
        let mut write_from = start.align_down(BLOCK_BYTES);
        if let Some((fields, mut block)) = segment_header {
            let header = SegmentHeader::new(&fields);
            let (front, rest) = block.split_at_mut(SEGMENT_HEADER_BYTES);
            front.copy_from_slice(header.as_bytes());
            rest.fill(0);
            write_from = fields.base;
        }
        let mark = if self.padded { self.records_end.align_up(BLOCK_BYTES) } else { self.records_end };
        #[expect(unsafe_code, reason = "only the group knows that all of its slots are gone")]
        // SAFETY: every byte below the mark has been handed out, because the group was closed behind them all.
        // - those from `fill` were written under the append lock, which the take has held since;
        // - the slots of units are gone: the copies above have ended, and a closed group gets no more;
        // - the slots of the two headers are gone: dropped above;
        // - those of earlier groups are gone likewise, which `freeze` checks: it accepts groups in order only.
        let chunk = unsafe { self.source.freeze(self.frozen_from, mark) };
        Sealed {
            segment_base: self.segment_base,
            segment_created_at: self.segment_created_at,
            start,
            stored_end: self.records_end,
            end: self.logical_end,
            write_from,
            padded: self.padded,
            chain: records.finish(&group_header),
            stored_at: self.stored_at,
            chunk_base: self.source.base(),
            chunk,
            watch: self.source.watch(),
        }
    }
}

impl Sealed {
    /// The group's own bytes.
    pub(crate) fn bytes(&self) -> Bytes {
        self.chunk.slice(self.index(self.start)..self.index(self.stored_end))
    }

    /// What a device is to write at `write_from`: whole blocks, the last one filled up with zeros.
    pub(crate) fn pieces(&self, blocks: &Arc<Pool>) -> SmallVec<[Bytes; 3]> {
        let whole_end =
            if self.padded { self.chunk.len() } else { self.index(self.stored_end.align_down(BLOCK_BYTES)) };
        let mut pieces = SmallVec::new();
        if whole_end > self.index(self.write_from) {
            pieces.push(self.chunk.slice(self.index(self.write_from)..whole_end));
        }
        if whole_end < self.chunk.len() {
            // A copy, because behind the group's end appenders may be filling the same block already.
            pieces.push(chunk::block(blocks, &self.chunk[whole_end..]));
        }
        pieces
    }

    fn index(&self, at: PhysicalOffset) -> usize {
        usize::try_from(at.since(self.chunk_base)).expect("a chunk fits into memory")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pads {
    ByPolicy,
    Always,
}

#[cfg(all(test, loom))]
pub(crate) mod loom_model;
