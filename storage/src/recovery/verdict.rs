//! What there is, and what is to become of it: looks at everything, and touches nothing.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::directory::{self, Directory};
use super::error::{Corruption, Evidence, OpenError};
use super::report::{RecoveryReport, Unreadable};
use super::scan::{Scan, Tip};
use super::search::{self, Found, Witness};
use super::segments::{HeaderBlock, REFUSALS_MAX, Segments, TooManyRefusals};
use super::{Recovery, RecoveryOptions, Scanned};
use crate::checkpoint::{
    CHECKPOINT_NAME, Checkpoint, CheckpointFile, EPOCH_LIMIT, Loaded, SLOT_BYTES, SlotError,
};
use crate::device::Files;
use crate::epoch::EpochStart;
use crate::log_id::LogId;
use crate::offset::{Epoch, PhysicalOffset};
use crate::segment::{BLOCK_BYTES, is_segment_length, segment_name};

impl<'a> Recovery<'a> {
    pub(super) fn begin(files: &'a dyn Files, options: &RecoveryOptions) -> Result<Self, OpenError> {
        let directory = Directory::read(files)?;
        let mut report = RecoveryReport::default();
        let mut file = None;
        let mut believe = false;
        let checkpoint = match CheckpointFile::load(files)? {
            Some(Loaded { file: Ok(sound), damaged }) => {
                refuse_other_version(damaged.iter())?;
                report.slot_damaged = damaged.is_some();
                if damaged == Some(SlotError::Unreadable) {
                    let (file, position) = (CHECKPOINT_NAME.to_owned(), sound.other_slot_at());
                    report.unreadable.push(Unreadable { file, position, bytes: SLOT_BYTES as u64 });
                }
                *file.insert(sound).current()
            }
            None if directory.is_blank(files)? => {
                report.created = true;
                new_log(options)?
            }
            lost => {
                let evidence = match lost {
                    Some(Loaded { file: Err(errors), .. }) => {
                        refuse_other_version(errors.iter())?;
                        Evidence::CheckpointDamaged
                    }
                    _ => Evidence::CheckpointMissing,
                };
                let corruption = directory::corrupt_checkpoint(evidence);
                let rebuilt = directory::rebuild(&directory.segments).filter(|_| options.repair);
                let rebuilt = rebuilt.ok_or_else(|| OpenError::Corrupt(corruption.clone()))?;
                report.repaired = Some(corruption);
                believe = true;
                rebuilt
            }
        };
        report.clean = checkpoint.clean;
        // What is to be repaired is read as far as it can be, however long that takes.
        let refusals_max = if options.repair { usize::MAX } else { REFUSALS_MAX };
        let segments = Segments::new(files, checkpoint.segment_bytes, refusals_max);
        let told = options.damaged_at.filter(|at| options.repair && *at >= checkpoint.oldest_segment);
        let told = told.map(|at| {
            let base = segments.base_of(at);
            directory::corruption(base, at.since(base), Evidence::Damaged)
        });
        Ok(Self {
            files,
            segments,
            directory,
            repair: options.repair,
            told,
            file,
            checkpoint,
            believe,
            gave_up: false,
            left_over: Vec::new(),
            unreadable: BTreeSet::new(),
            report,
        })
    }

    /// Looks at everything, and touches nothing. A disk that refuses many blocks is row E12.
    pub(super) fn judge(&mut self) -> Result<(Scanned, Found, Vec<EpochStart>), OpenError> {
        if let Some(damage) = self.told.clone().filter(|damage| damage.at < self.checkpoint.durable_end) {
            self.give_up(damage)?;
        }
        loop {
            match self.judge_once() {
                Err(OpenError::Corrupt(damage)) if self.repair => self.give_up(damage)?,
                Err(OpenError::Io(error)) => {
                    return Err(match TooManyRefusals::of(&error) {
                        Some(&TooManyRefusals { first }) => OpenError::Corrupt(self.unreadable_at(first)),
                        None => OpenError::Io(error),
                    });
                }
                judged => {
                    if let Some(first) = self.segments.first_of_many_refused() {
                        let damage = self.unreadable_at(first);
                        self.report.repaired.get_or_insert(damage);
                    }
                    self.report_unreadable();
                    return judged;
                }
            }
        }
    }

    fn judge_once(&mut self) -> Result<(Scanned, Found, Vec<EpochStart>), OpenError> {
        self.unreadable.clear();
        self.judge_directory()?;
        let scanned = self.scan()?;
        self.judge_told(scanned.tip.end)?;
        self.judge_newest(scanned.tip.end)?;
        let found = self.judge_end(&scanned)?;
        let epochs = self.epochs(&scanned)?;
        if self.checkpoint.highest_epoch.max(scanned.tip.epoch) >= Epoch::new(EPOCH_LIMIT.get() - 2) {
            return Err(OpenError::EpochsExhausted);
        }
        Ok((scanned, found, epochs))
    }

    /// Rows D5 to D16.
    fn judge_directory(&mut self) -> Result<(), OpenError> {
        let Self { directory, segments, checkpoint, gave_up, report, .. } = self;
        self.left_over = if report.created {
            directory.segments.iter().map(|segment| segment.base).collect()
        } else {
            directory::judge(directory, segments, checkpoint, report.slot_damaged, *gave_up)?
        };
        let refused = directory.segments.iter().filter(|segment| segment.header == HeaderBlock::Unreadable);
        self.unreadable.extend(refused.map(|segment| segment.base));
        Ok(())
    }

    /// What is said to be damaged must be: what lies behind it is not given up for a place that is sound. Of a segment's
    /// first group only whoever has seen the one before can tell.
    fn judge_told(&self, end: PhysicalOffset) -> Result<(), OpenError> {
        match &self.told {
            Some(told) if told.at < end => Err(OpenError::NotDamaged { at: told.at }),
            _ => Ok(()),
        }
    }

    /// Row D17: store times count from what the header says, and a group in front is no word on when that was.
    fn judge_newest(&mut self, end: PhysicalOffset) -> Result<(), OpenError> {
        let base = self.next_segment(end);
        if base < end && self.segments.header(base)? == HeaderBlock::Unreadable {
            return Err(OpenError::Corrupt(directory::corruption(base, 0, Evidence::Unreadable)));
        }
        Ok(())
    }

    /// Says which blocks the disk refused, neighbours as one.
    fn report_unreadable(&mut self) {
        for block in &self.unreadable {
            let base = self.segments.base_of(*block);
            let (file, position) = (segment_name(base), block.since(base));
            match self.report.unreadable.last_mut() {
                Some(last) if last.file == file && last.position + last.bytes == position => {
                    last.bytes += BLOCK_BYTES;
                }
                _ => self.report.unreadable.push(Unreadable { file, position, bytes: BLOCK_BYTES }),
            }
        }
    }

    /// Leaves the damage, and what lies behind it, out of the log. Where that has been done and the damage is still
    /// in the way, there is nothing left to give up: segments that contradict their own headers are not repaired.
    fn give_up(&mut self, damage: Corruption) -> Result<(), OpenError> {
        let (before, has_given_up) = (self.checkpoint, self.believe);
        directory::exclude(&mut self.checkpoint, &self.directory.segments, &damage);
        (self.believe, self.gave_up) = (true, true);
        if has_given_up && !is_less(&self.checkpoint, &before) {
            return Err(OpenError::Corrupt(damage));
        }
        self.report.repaired.get_or_insert(damage);
        Ok(())
    }

    /// Rows S1 to S4.
    fn scan(&mut self) -> Result<Scanned, OpenError> {
        let Checkpoint { durable_end, oldest_segment, led_from, .. } = self.checkpoint;
        let mut from = if self.believe {
            // The last segment that was written to durably.
            let last = PhysicalOffset::new(durable_end.get().saturating_sub(1)).max(oldest_segment);
            Tip::empty(self.segments.base_of(last))
        } else {
            Tip::of(&self.checkpoint)
        };
        loop {
            let mut scan = Scan::new(&mut self.segments, &self.checkpoint, from, self.believe);
            scan.run(led_from)?;
            if self.believe && scan.groups == 0 {
                scan.tip = from;
                if from.end > oldest_segment {
                    from.end = PhysicalOffset::new(from.end.get() - self.checkpoint.segment_bytes);
                    continue;
                }
            }
            let Scan { tip, starts, attested_end, stored_ends, groups, refused, .. } = scan;
            // What the checkpoint vouches for needs no group's word.
            let attested_end = attested_end.max(durable_end).min(tip.end);
            self.report.scanned_groups = groups;
            self.report.scanned_bytes = tip.end.since(from.end);
            return Ok(Scanned { from: from.end, tip, starts, attested_end, stored_ends, refused });
        }
    }

    /// Rows E1 to E6, and E8 to E10.
    fn judge_end(&mut self, scanned: &Scanned) -> Result<Found, OpenError> {
        let end = scanned.tip.end;
        if self.report.created {
            return Ok(Found::default());
        }
        let closed = self.checkpoint.clean && end == self.checkpoint.durable_end;
        let closed = closed && !self.believe && !self.report.slot_damaged;
        // Where the log was closed nothing stands behind the end. In front of it, in its block, something does.
        let refused = scanned.refused.filter(|at| *at < end || !closed);
        // A follower fetches again what may have stood there.
        let doubt = refused.is_some_and(|at| at >= end && at < self.checkpoint.led_from);
        let lost = refused.filter(|_| !doubt);
        if let Some(at) = lost {
            let damage = self.unreadable_at(at);
            if !self.repair || at < end {
                return Err(OpenError::Corrupt(damage));
            }
            self.report.repaired.get_or_insert(damage);
        }
        if closed {
            self.unreadable.extend(scanned.refused);
            return Ok(self.blank(end));
        }
        if self.believe || lost.is_some() {
            self.give_up_behind(end);
        }
        let mut found = search::search(&mut self.segments, &self.checkpoint, end, &mut |_, _| ())?;
        let testimony = found
            .witness
            .map(|Witness { at: witness, attested_end }| (end, Evidence::Witness { witness, attested_end }));
        let silenced = || Some((found.silenced(self.checkpoint.led_from)?, Evidence::Unreadable));
        if let Some((at, evidence)) = testimony.or_else(silenced) {
            let base = self.segments.base_of(at);
            let damage = directory::corruption(base, at.since(base), evidence);
            if !self.repair {
                return Err(OpenError::Corrupt(damage));
            }
            self.report.repaired.get_or_insert(damage);
            self.give_up_behind(end);
            let limit = self.segments.limit_of(self.checkpoint.newest_segment);
            found.remains.retain(|remains| remains.end <= limit);
        }
        self.unreadable.extend(&found.refused);
        found.doubt |= doubt;
        self.report.doubt = found.doubt;
        self.report.searched_bytes = found.searched_bytes;
        Ok(found)
    }

    fn unreadable_at(&self, at: PhysicalOffset) -> Corruption {
        let base = self.segments.base_of(at);
        directory::corruption(base, at.since(base), Evidence::Unreadable)
    }

    /// What there is to do about blocks that were met behind the end of a closed log and cannot be read. They hold nothing,
    /// but once groups go on in front of them nobody could say that any more.
    fn blank(&self, end: PhysicalOffset) -> Found {
        let limit = self.segments.limit_of(self.checkpoint.newest_segment);
        let blocks = self.unreadable.range(end..).filter(|block| **block < limit);
        let remains: Vec<_> = blocks.map(|block| *block..block.advance(BLOCK_BYTES)).collect();
        let searched_end = remains.last().map_or(PhysicalOffset::ZERO, |last| last.end);
        Found { remains, searched_end, ..Found::default() }
    }

    /// Gives up the segments behind the one that takes the group behind `end`.
    fn give_up_behind(&mut self, end: PhysicalOffset) {
        let last = self.next_segment(end).min(self.checkpoint.newest_segment);
        let behind = self.directory.segments.iter().map(|segment| segment.base).filter(|base| *base > last);
        let behind = behind.filter(|base| *base <= self.checkpoint.newest_segment);
        self.left_over.extend(behind);
        self.checkpoint.newest_segment = last;
    }
}

/// Whether less of a log is left than before, so that giving up comes to an end.
fn is_less(after: &Checkpoint, before: &Checkpoint) -> bool {
    let left = |checkpoint: &Checkpoint| {
        (Reverse(checkpoint.oldest_segment), checkpoint.newest_segment, checkpoint.durable_end)
    };
    left(after) < left(before)
}

/// Row D5, for the checkpoint.
fn refuse_other_version<'e>(mut errors: impl Iterator<Item = &'e SlotError>) -> Result<(), OpenError> {
    let found = errors.find_map(|error| match error {
        SlotError::FormatVersion { found } => Some(*found),
        _ => None,
    });
    found.map_or(Ok(()), |found| Err(OpenError::FormatVersion { file: CHECKPOINT_NAME.to_owned(), found }))
}

/// Row D1: the checkpoint that an empty log would have.
fn new_log(options: &RecoveryOptions) -> Result<Checkpoint, OpenError> {
    let segment_bytes = options.segment_bytes;
    if !is_segment_length(segment_bytes) {
        return Err(OpenError::SegmentBytes { segment_bytes });
    }
    let log_id = options.log_id.unwrap_or_else(|| LogId::from_bytes(rand::random()));
    Ok(Checkpoint::first(log_id, segment_bytes))
}
