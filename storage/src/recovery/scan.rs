//! The longest chain of sound groups.

use std::io;

use super::group_check::{CheckedGroup, check_group};
use super::segments::{HeaderBlock, Segments};
use crate::checkpoint::Checkpoint;
use crate::epoch::{EpochRecord, EpochStart};
use crate::group::{Chain, GROUP_HEADER_BYTES, GroupHeader};
use crate::log_id::Seed;
use crate::offset::{Epoch, PhysicalOffset};
use crate::segment::{BLOCK_BYTES, CLOSING_BYTES, SegmentFields, is_zero};

/// The end of a log, and what the next group has to fit to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tip {
    pub(crate) end: PhysicalOffset,
    pub(crate) chain: Chain,
    /// Of the last record; zero when there is none.
    pub(crate) epoch: Epoch,
    pub(crate) epoch_start: PhysicalOffset,
    pub(crate) stored_at: u64,
}

impl Tip {
    /// What the checkpoint vouches for.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Self {
        let Checkpoint { durable_end: end, chain, epoch, epoch_start, stored_at, .. } = *checkpoint;
        Self { end, chain, epoch, epoch_start, stored_at }
    }

    /// A log that is empty, and begins at `base`.
    pub(crate) fn empty(base: PhysicalOffset) -> Self {
        let (epoch, epoch_start) = (Epoch::ZERO, PhysicalOffset::ZERO);
        Self { end: base, chain: Chain::START, epoch, epoch_start, stored_at: 0 }
    }
}

/// Scans forward, group by group.
pub(crate) struct Scan<'s, 'a> {
    segments: &'s mut Segments<'a>,
    seed: Seed,
    newest_segment: PhysicalOffset,
    /// The header of the segment that was looked into last.
    header: Option<(PhysicalOffset, HeaderBlock)>,
    /// What the first group says of those before it is believed: there is nothing to hold against it.
    believe: bool,
    pub(crate) tip: Tip,
    /// The epochs that begin in what was scanned.
    pub(crate) starts: Vec<EpochStart>,
    /// The highest durable end that a group whose word counts attested.
    pub(crate) attested_end: PhysicalOffset,
    /// Where the stored bytes end in each segment that a group was found in.
    pub(crate) stored_ends: Vec<PhysicalOffset>,
    pub(crate) groups: u64,
    /// The first block that the disk refused to read of where the next group would stand: nobody knows whether one does.
    pub(crate) refused: Option<PhysicalOffset>,
}

impl<'s, 'a> Scan<'s, 'a> {
    /// A scan from `tip`, which was durable.
    pub(crate) fn new(
        segments: &'s mut Segments<'a>,
        checkpoint: &Checkpoint,
        tip: Tip,
        believe: bool,
    ) -> Self {
        Self {
            segments,
            seed: checkpoint.log_id.seed(),
            newest_segment: checkpoint.newest_segment,
            header: None,
            believe,
            tip,
            starts: Vec::new(),
            attested_end: tip.end,
            stored_ends: Vec::new(),
            groups: 0,
            refused: None,
        }
    }

    /// Scans to the end of the chain. Only groups from `led_from` on attest.
    pub(crate) fn run(&mut self, led_from: PhysicalOffset) -> io::Result<()> {
        loop {
            self.segments.take_refused();
            let Some((group, stored_at)) = self.successor()? else { break };
            if group.start >= led_from {
                self.attested_end = self.attested_end.max(group.attested_end);
            }
            for EpochRecord { epoch, start, .. } in &group.starts {
                self.starts.push(EpochStart { epoch: *epoch, start: *start });
                self.tip.epoch_start = *start;
            }
            let base = self.segments.base_of(group.start);
            match self.stored_ends.last_mut() {
                // One that lies at the base is the end of the segment before.
                Some(last) if *last > base => *last = group.stored_end,
                _ => self.stored_ends.push(group.stored_end),
            }
            self.tip.end = group.end;
            self.tip.chain = group.next_chain;
            self.tip.epoch = group.last_epoch;
            self.tip.stored_at = self.tip.stored_at.max(stored_at);
            self.groups += 1;
            self.believe = false;
        }
        self.refused = self.segments.take_refused();
        Ok(())
    }

    /// The group that follows the tip, and its last record's store time.
    fn successor(&mut self) -> io::Result<Option<(CheckedGroup, u64)>> {
        let end = self.tip.end;
        let base = self.segments.base_of(end);
        if end == base {
            return self.first_of(base);
        }
        let limit = self.segments.limit_of(end);
        if limit.since(end) >= CLOSING_BYTES
            && let Some(group) = self.fitting(end)?
        {
            return Ok(Some(group));
        }
        let block = end.align_up(BLOCK_BYTES);
        if !self.is_zero(end, block)? {
            return Ok(None);
        }
        if block == limit || limit.since(end) < CLOSING_BYTES {
            return self.first_of(limit);
        }
        if block == end { Ok(None) } else { self.fitting(block) }
    }

    /// The first group of the segment at `base`, if it follows the tip.
    fn first_of(&mut self, base: PhysicalOffset) -> io::Result<Option<(CheckedGroup, u64)>> {
        if base > self.newest_segment {
            return Ok(None);
        }
        let segment_bytes = self.segments.limit_of(base).since(base);
        let header = match self.header(base)? {
            // Else it is another segment's, by a misdirected write: the next opening would refuse what this one took.
            HeaderBlock::Sound(header) if header.base == base && header.segment_bytes == segment_bytes => {
                Some(header)
            }
            // The group behind it says where it belongs, if there is something to hold that against.
            HeaderBlock::Unreadable if !self.believe => None,
            _ => return Ok(None),
        };
        if let Some(header) = header.filter(|_| self.believe) {
            (self.tip.epoch, self.tip.epoch_start) = (header.epoch, header.epoch_start);
        }
        let found = self.fitting(base.advance(BLOCK_BYTES))?;
        let agrees = |header: SegmentFields, group: &CheckedGroup| {
            let epoch_start = group.starts.first().filter(|begins| begins.epoch == group.first_epoch);
            header.epoch == group.first_epoch
                && header.epoch_start == epoch_start.map_or(self.tip.epoch_start, |begins| begins.start)
        };
        Ok(found.filter(|(group, _)| header.is_none_or(|header| agrees(header, group))))
    }

    /// The group at `at`, if it is sound and follows the tip.
    fn fitting(&mut self, at: PhysicalOffset) -> io::Result<Option<(CheckedGroup, u64)>> {
        let Some(group) = sound_group(self.segments, self.seed, at)? else { return Ok(None) };
        let fits = self.believe || (group.chain == self.tip.chain && self.epoch_fits(&group));
        let base = self.segments.base_of(at);
        let stored_at = match self.header(base)? {
            HeaderBlock::Sound(header) => header.created_at.saturating_add(u64::from(group.stored_at_delta)),
            // Not known, and not needed if another segment follows, which was created later.
            HeaderBlock::Unreadable if !self.believe => self.tip.stored_at,
            _ => return Ok(None),
        };
        Ok(fits.then_some((group, stored_at)))
    }

    fn header(&mut self, base: PhysicalOffset) -> io::Result<HeaderBlock> {
        match self.header {
            Some((of, header)) if of == base => Ok(header),
            _ => {
                let header = self.segments.header(base)?;
                self.header = Some((base, header));
                Ok(header)
            }
        }
    }

    /// The last epoch goes on, and whatever begins names where it began.
    fn epoch_fits(&self, group: &CheckedGroup) -> bool {
        let previous = (self.tip.epoch > Epoch::ZERO)
            .then_some(EpochStart { epoch: self.tip.epoch, start: self.tip.epoch_start });
        match group.starts.first() {
            // Where it is not the group's first record, that is of the epoch it names.
            Some(begins) => begins.previous == previous,
            None => group.first_epoch == self.tip.epoch,
        }
    }

    fn is_zero(&mut self, from: PhysicalOffset, to: PhysicalOffset) -> io::Result<bool> {
        let bytes = usize::try_from(to.since(from)).unwrap_or(usize::MAX);
        Ok(is_zero(self.segments.read(from, bytes)?))
    }
}

/// The group that stands at `at`, if one does.
pub(crate) fn sound_group(
    segments: &mut Segments<'_>,
    seed: Seed,
    at: PhysicalOffset,
) -> io::Result<Option<CheckedGroup>> {
    let limit = segments.limit_of(at);
    let Ok(header) = GroupHeader::parse(seed, at, segments.read(at, GROUP_HEADER_BYTES)?) else {
        return Ok(None);
    };
    let bytes = segments.read(at, header.group_bytes() as usize)?;
    Ok(check_group(seed, at, &header, bytes, limit))
}
