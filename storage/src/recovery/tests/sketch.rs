//! A writer in miniature: it puts groups where a test wants them, and remembers what it was promised.

use std::io;

use zerocopy::IntoBytes;

use super::*;
use crate::device::simulated::Disk;
use crate::epoch::{Cause, EpochRecord};
use crate::group::{ChainBuilder, GROUP_HEADER_BYTES, GroupHeader};
use crate::log_id::Seed;
use crate::record::{Kind, RecordFields, RecordHeader, payload_crc, record_bytes};
use crate::segment::{BLOCK_BYTES, SegmentHeader, segment_name};

pub(super) const SEGMENT: u64 = 64 << 10;
pub(super) const OPTIONS: RecoveryOptions = RecoveryOptions {
    segment_bytes: SEGMENT,
    log_id: Some(LogId::from_bytes(*b"a log for tests.")),
    repair: false,
    damaged_at: None,
};

/// Where a group goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Placed {
    Packed,
    NextBlock,
}

/// A group that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub(super) start: PhysicalOffset,
    pub(super) bytes: Vec<u8>,
    /// Where the log goes on.
    pub(super) end: PhysicalOffset,
}

pub(super) struct Sketch {
    pub(super) disk: Disk,
    pub(super) checkpoint: CheckpointFile,
    pub(super) report: RecoveryReport,
    pub(super) epochs: Vec<EpochStart>,
    seed: Seed,
    epoch: EpochStart,
    header: Option<SegmentFields>,
    pub(super) tip: Tip,
    pub(super) durable_end: PhysicalOffset,
    /// Every group of the log that this writer knows of.
    pub(super) groups: Vec<Written>,
}

impl Sketch {
    /// Opens the log, and its epoch. `groups` are those that earlier openings wrote; the ones that recovery cut are
    /// forgotten.
    pub(super) fn open(
        disk: Disk,
        options: &RecoveryOptions,
        mut groups: Vec<Written>,
    ) -> Result<Self, OpenError> {
        let recovered = recover(&disk, options)?;
        let Checkpoint { log_id, epoch, epoch_start, .. } = *recovered.checkpoint.current();
        groups.retain(|group| group.end <= recovered.end);
        let header = match &recovered.next {
            NextGroup::Continues { segment, .. } => Some(*segment),
            NextGroup::Begins { .. } => None,
        };
        let Recovered { end, chain, stored_at, .. } = recovered;
        let mut sketch = Self {
            disk,
            checkpoint: recovered.checkpoint,
            report: recovered.report,
            epochs: recovered.epochs,
            seed: log_id.seed(),
            epoch: EpochStart { epoch, start: epoch_start },
            header,
            tip: Tip { end, chain, epoch, epoch_start, stored_at },
            durable_end: end,
            groups,
        };
        let previous = (epoch > Epoch::ZERO).then_some(sketch.epoch);
        let at = sketch.place(Placed::Packed, GROUP_HEADER_BYTES as u64 + 64);
        let start = at.advance(GROUP_HEADER_BYTES as u64);
        sketch.epoch = EpochStart { epoch: recovered.epoch, start };
        let record = EpochRecord { epoch: recovered.epoch, start, previous, cause: Cause::Opened };
        sketch.write(at, &[(Kind::EPOCH, &record.to_bytes(), 32)]).unwrap();
        sketch.flush().unwrap();
        Ok(sketch)
    }

    /// A fresh log.
    pub(super) fn new(seed: u64) -> Self {
        Self::open(Disk::new(seed), &OPTIONS, Vec::new()).unwrap()
    }

    /// Appends a group of one record. A segment that is too full is closed first.
    pub(super) fn append(&mut self, placed: Placed, payload: &[u8]) -> io::Result<()> {
        let at = self.place(placed, group_bytes(payload));
        self.write(at, &[(Kind::FIRST_FREE, payload, 0)])
    }

    /// As [`Sketch::append`], where even closing a segment may fail.
    pub(super) fn append_if_room(&mut self, payload: &[u8]) -> io::Result<()> {
        let needs = group_bytes(payload);
        let limit = self.tip.end.align_down(SEGMENT).advance(SEGMENT);
        if self.tip.end.advance(needs) > limit && limit.since(self.tip.end) >= CLOSING_BYTES {
            self.close_segment()?;
            self.flush()?;
        }
        self.append(Placed::Packed, payload)
    }

    /// Appends groups of `bytes`, each flushed, a block each.
    pub(super) fn append_durably(&mut self, groups: usize) {
        for _ in 0..groups {
            let payload = [u8::try_from(self.groups.len() % 255).unwrap() + 1; 1000];
            self.append(Placed::NextBlock, &payload).unwrap();
            self.flush().unwrap();
        }
    }

    /// Ends the segment early.
    pub(super) fn close_segment(&mut self) -> io::Result<()> {
        let base = self.tip.end.align_down(SEGMENT);
        assert!(self.tip.end > base, "an empty segment is not closed");
        let padding = self.tip.end;
        self.write(padding, &[(Kind::PADDING, &[], 0)])
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        // The group before the last may lie in another segment.
        for base in
            [self.durable_end.align_down(SEGMENT), self.groups.last().unwrap().start.align_down(SEGMENT)]
        {
            if base <= self.checkpoint.current().newest_segment {
                self.disk.open(&segment_name(base))?.sync()?;
            }
        }
        self.durable_end = self.tip.end;
        Ok(())
    }

    /// Stores a checkpoint of what is durable; the last group must be.
    pub(super) fn store_checkpoint(&mut self, clean: bool) -> io::Result<()> {
        assert_eq!(self.durable_end, self.tip.end);
        let Tip { end, chain, epoch, epoch_start, stored_at } = self.tip;
        let durable =
            Checkpoint { durable_end: end, chain, epoch, epoch_start, stored_at, clean, ..self.named() };
        self.checkpoint.store(durable)
    }

    pub(super) fn named(&self) -> Checkpoint {
        *self.checkpoint.current()
    }

    /// Where a group of `bytes` goes; closes the segment and names the next one if there is no room.
    fn place(&mut self, placed: Placed, bytes: u64) -> PhysicalOffset {
        let end = self.tip.end;
        let base = end.align_down(SEGMENT);
        if end == base {
            return base.advance(BLOCK_BYTES);
        }
        let limit = base.advance(SEGMENT);
        let at = match placed {
            Placed::Packed => end,
            Placed::NextBlock => end.align_up(BLOCK_BYTES),
        };
        if at.advance(bytes) <= limit {
            return at;
        }
        if limit.since(end) >= CLOSING_BYTES {
            self.close_segment().unwrap();
        } else {
            self.tip.end = limit;
        }
        limit.advance(BLOCK_BYTES)
    }

    /// Writes a group of records: kind, payload, and how much of it is head.
    fn write(&mut self, at: PhysicalOffset, records: &[(Kind, &[u8], u8)]) -> io::Result<()> {
        let base = at.align_down(SEGMENT);
        let begins = at == base.advance(BLOCK_BYTES) && self.tip.end <= base;
        if begins {
            self.name_segment(base)?;
        }
        let stored_at = self.tip.stored_at.max(1_700_000_000_000) + 1;
        let header = match self.header.filter(|_| !begins) {
            Some(header) => header,
            None => SegmentFields {
                log_id: self.named().log_id,
                base,
                segment_bytes: SEGMENT,
                created_at: stored_at,
                epoch: self.epoch.epoch,
                epoch_start: self.epoch.start,
            },
        };
        self.header = Some(header);
        let (mut bytes, mut chain) = (vec![0; GROUP_HEADER_BYTES], ChainBuilder::default());
        let mut end = None;
        for &(kind, payload, head_bytes) in records {
            let physical_offset = at.advance(bytes.len() as u64);
            let limit = base.advance(SEGMENT);
            let payload_bytes = if kind == Kind::PADDING {
                end = Some(limit);
                u32::try_from(limit.since(physical_offset)).unwrap() - 32
            } else {
                u32::try_from(payload.len()).unwrap()
            };
            let (head, rest) = payload.split_at(head_bytes.into());
            let fields = RecordFields {
                payload_bytes,
                kind,
                head_bytes,
                physical_offset,
                epoch: self.epoch.epoch,
                stored_at_delta: u32::try_from(stored_at - header.created_at).unwrap(),
                payload_crc: payload_crc(self.seed, &[rest]),
            };
            let header = RecordHeader::new(self.seed, &fields, head);
            chain.record(header.header_crc());
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(payload);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        let undurable = u32::try_from(at.since(self.durable_end)).unwrap();
        let group_bytes = u32::try_from(bytes.len()).unwrap();
        let group = GroupHeader::new(self.seed, at, group_bytes, undurable, self.tip.chain);
        bytes[..GROUP_HEADER_BYTES].copy_from_slice(group.as_bytes());
        let end = end.unwrap_or(at.advance(bytes.len() as u64));

        // As a writer does: whole blocks, what was in front of the group in its block included.
        let file = self.disk.open(&segment_name(base))?;
        let from = if begins { base } else { at.align_down(BLOCK_BYTES) };
        let mut block = vec![0; usize::try_from(at.since(from)).unwrap()];
        if begins {
            block[..72].copy_from_slice(SegmentHeader::new(&header).as_bytes());
        } else {
            file.read_at(from.since(base), &mut block)?;
        }
        block.extend_from_slice(&bytes);
        block.resize(block.len().next_multiple_of(4096), 0);
        // Remembered first: a write that fails may have happened.
        self.groups.push(Written { start: at, bytes, end });
        self.tip.end = end;
        self.tip.chain = chain.finish(&group);
        (self.tip.epoch, self.tip.epoch_start) = (self.epoch.epoch, self.epoch.start);
        self.tip.stored_at = stored_at;
        file.write_at(from.since(base), &block)
    }

    /// Creates a segment and names it in a checkpoint, before its first append.
    pub(super) fn name_segment(&mut self, base: PhysicalOffset) -> io::Result<()> {
        let newest = self.named().newest_segment;
        if base <= newest {
            return Ok(());
        }
        let file = self.disk.create(&segment_name(base))?;
        file.set_len(SEGMENT)?;
        file.sync()?;
        self.disk.sync_directory("log")?;
        self.checkpoint.store(Checkpoint { newest_segment: base, ..self.named() })
    }
}

fn group_bytes(payload: &[u8]) -> u64 {
    GROUP_HEADER_BYTES as u64 + record_bytes(u32::try_from(payload.len()).unwrap())
}

/// The bytes of a log's range, of whatever segments are there.
pub(super) fn bytes_at(disk: &Disk, at: PhysicalOffset, bytes: usize) -> Vec<u8> {
    let mut read = vec![0; bytes];
    let file = disk.open(&segment_name(at.align_down(SEGMENT))).unwrap();
    file.read_at(at.get() % SEGMENT, &mut read).unwrap();
    read
}

/// Replaces bytes of the log, durably.
pub(super) fn overwrite(disk: &Disk, at: PhysicalOffset, bytes: &[u8]) {
    let file = disk.open(&segment_name(at.align_down(SEGMENT))).unwrap();
    file.write_at(at.get() % SEGMENT, bytes).unwrap();
    file.sync().unwrap();
}
