//! What a restart keeps: the longest chain of sound groups, unless damage says that it should have been longer.
//!
//! [`recover`] looks at the directory, scans forward from the checkpoint, judges what lies behind the end of the
//! chain, and leaves a log that is ready for its next append. It is repeatable: a crash at any moment of it leaves
//! a directory that the next attempt brings to the same log.
//!
//! # The decision table
//!
//! The **directory**, compared with the newest sound checkpoint:
//!
//! | row | found                                                                    | verdict                      |
//! |-----|--------------------------------------------------------------------------|------------------------------|
//! | D1  | no checkpoint, and no segment with a byte that is not zero               | new: the log is created      |
//! | D2  | no checkpoint, a segment with content                                    | corruption                   |
//! | D3  | neither slot is sound                                                    | corruption                   |
//! | D4  | one slot is damaged                                                      | the other one leads          |
//! | D5  | a slot or a segment of another format version                            | refused by name              |
//! | D6  | a segment of another log                                                 | refused by name              |
//! | D7  | a named segment is missing                                               | corruption                   |
//! | D8  | a named segment behind the durable end is empty                          | kept: it was prepared        |
//! | D9  | the header of a segment below the durable end is damaged or misplaced    | corruption                   |
//! | D10 | the file that holds the durable end is shorter                           | corruption                   |
//! | D11 | a segment below the oldest that is named                                 | removed: a trim's remainder  |
//! | D12 | an empty segment behind the newest that is named                         | removed: never named         |
//! | D13 | one with content there, next in line, and a slot is damaged              | named: by the lost slot      |
//! | D14 | any other segment with content that is not named                         | refused                      |
//! | D15 | files called `*.tmp`                                                     | removed: never finished      |
//!
//! The **scan**: what follows the end of a group.
//!
//! | row | found                                                                    | verdict                      |
//! |-----|--------------------------------------------------------------------------|------------------------------|
//! | S1  | a sound group with the right chain and epoch, right there                | it follows                   |
//! | S2  | zeros to the end of the block, such a group at the next block            | it follows                   |
//! | S3  | the segment has ended, such a group in the next one's second block       | it follows                   |
//! | S4  | anything else                                                            | the chain ends               |
//!
//! A segment has ended behind a padding record, and where fewer than 48 bytes are left for the next group.
//!
//! The **end** of the chain: what is found behind it, every 8 bytes, for [`SEARCH_BYTES`], at most to the end of the
//! newest named segment. A *witness* is a group with a sound header and sound records, in an epoch no lower than
//! the checkpoint's highest, that attests a durable end above the end of the chain.
//!
//! | row | found                                                                    | verdict                      |
//! |-----|--------------------------------------------------------------------------|------------------------------|
//! | E1  | zeros                                                                    | the log ends                 |
//! | E2  | other bytes, no sound group                                              | tear: cut                    |
//! | E3  | sound groups that attest no more than the end                            | tear: cut                    |
//! | E4  | sound groups of a lower epoch                                            | an earlier life: cut         |
//! | E5  | a witness at or above `led_from`                                         | corruption                   |
//! | E6  | a witness below `led_from`                                               | cut, and doubt is reported   |
//! | E7  | an epoch record below the end is not where the history leads             | corruption                   |
//! | E8  | the checkpoint says that the log was closed here                         | the log ends; no search      |
//!
//! **Cut** means: what is not zero in the searched range is zeroed, and flushed before the first append. Bytes of an
//! earlier life further on can neither chain nor testify: their epoch is lower.
//! **Corruption** is refused and located; with [`RecoveryOptions::repair`] the log is cut at the damage instead.
//! What could be read above the last attested durable end is written again and flushed before it is served: being
//! readable is not being durable, and a flush alone skips pages that the kernel believes clean.

use std::io;
use std::ops::Range;

use self::directory::Directory;
use self::scan::{Scan, Tip};
use self::search::{Found, Witness};
use self::segments::{HeaderBlock, Segments};
use crate::catalogue::SegmentInfo;
use crate::checkpoint::{
    CHECKPOINT_NAME, Checkpoint, CheckpointFile, EPOCH_LIMIT, FIRST_GENERATION, Loaded, SlotError,
};
use crate::device::Files;
use crate::epoch::{EPOCH_PAYLOAD_BYTES, EpochRecord, EpochStart};
use crate::group::Chain;
use crate::log_id::LogId;
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_HEADER_BYTES, Record};
use crate::segment::{
    BLOCK_BYTES, CLOSING_BYTES, SEGMENT_BYTES_DEFAULT, SegmentFields, is_segment_length, segment_name,
};

mod cut;
pub(crate) mod directory;
mod error;
mod group_check;
mod report;
pub(crate) mod scan;
pub(crate) mod search;
pub(crate) mod segments;

pub use self::error::{Corruption, Evidence, OpenError};
pub use self::report::RecoveryReport;
pub use self::search::{SEARCH_BYTES, Word};

/// How a log is recovered. Fields may be added in any release: write what you choose, and
/// `..RecoveryOptions::default()`.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryOptions {
    /// Nominal length of the segments of a log that this opening creates; an existing log keeps its own.
    pub segment_bytes: u64,
    /// The identity of a log that this opening creates; random when `None`.
    pub log_id: Option<LogId>,
    /// Cut at corruption, and report it, instead of refusing.
    pub repair: bool,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES_DEFAULT, log_id: None, repair: false }
    }
}

/// A log that is ready for its next append, which must be the epoch record of [`Recovered::epoch`].
#[non_exhaustive]
pub struct Recovered {
    /// The checkpoint, which names `epoch` already.
    pub checkpoint: CheckpointFile,
    /// The epoch of this opening.
    pub epoch: Epoch,
    /// Earlier epochs, oldest first: as far back as the log's epoch records lead.
    pub epochs: Vec<EpochStart>,
    /// End of the last group. Behind a padding record it is the next segment's base.
    pub end: PhysicalOffset,
    /// What the next group carries.
    pub chain: Chain,
    /// Store time of the last record, in milliseconds since 1970; zero when there is none.
    pub stored_at: u64,
    /// The segments that hold groups, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Where the next group goes.
    pub next: NextGroup,
    /// What was found and done.
    pub report: RecoveryReport,
}

/// Where the group behind a log's end goes.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NextGroup {
    /// Into the segment that holds the end: right there, or in the next block if one is left.
    Continues {
        /// What the segment's header says.
        segment: SegmentFields,
        /// The content of the block that the end lies in, from its beginning to the end; empty at a block's start.
        tail: Vec<u8>,
    },
    /// Into the second block of the segment with this base, whose header is written with it. If the checkpoint does
    /// not name the segment yet, it is still to be made.
    Begins {
        /// The segment's base.
        base: PhysicalOffset,
    },
}

/// Brings the log in the data directory to a state that takes appends, or creates one. The caller holds the
/// directory's lock.
///
/// # Errors
/// When the disk refuses, when the directory is not this release's or not one log's, and when bytes that had been
/// durable are gone. What the log held is still there.
pub fn recover(files: &dyn Files, options: &RecoveryOptions) -> Result<Recovered, OpenError> {
    let mut recovery = Recovery::begin(files, options)?;
    let (scanned, found, epochs) = recovery.judge()?;
    // Up to here everything was looked at and nothing touched.
    recovery.remove_left_over()?;
    recovery.write_again(&scanned)?;
    recovery.cut(&scanned.tip, &found)?;
    recovery.finish(&scanned.tip, epochs)
}

/// What [`recover`] would find and do; nothing is touched. The numbers of bytes are those that it would write.
///
/// # Errors
/// As those of [`recover`].
pub fn preview(files: &dyn Files, options: &RecoveryOptions) -> Result<RecoveryReport, OpenError> {
    let mut recovery = Recovery::begin(files, options)?;
    let (scanned, found, _) = recovery.judge()?;
    let Recovery { ref checkpoint, ref mut report, .. } = recovery;
    let Checkpoint { oldest_segment, newest_segment, segment_bytes, .. } = *checkpoint;
    report.segments = newest_segment.since(oldest_segment) / segment_bytes + 1;
    (report.start, report.end) = (oldest_segment, scanned.tip.end);
    report.cut_bytes = found.remains.iter().map(|remains| remains.end.since(remains.start)).sum();
    let rewritten = recovery.unattested(&scanned);
    recovery.report.rewritten_bytes = rewritten.iter().map(|range| range.end.since(range.start)).sum();
    recovery.report.removed = recovery.left_over_names();
    Ok(recovery.report)
}

/// What a scan found.
struct Scanned {
    from: PhysicalOffset,
    tip: Tip,
    starts: Vec<EpochStart>,
    attested_end: PhysicalOffset,
    stored_ends: Vec<PhysicalOffset>,
}

/// A recovery under way.
struct Recovery<'a> {
    files: &'a dyn Files,
    segments: Segments<'a>,
    directory: Directory,
    repair: bool,
    /// The file, unless this recovery creates it, which it does last.
    file: Option<CheckpointFile>,
    checkpoint: Checkpoint,
    /// The checkpoint's word on the durable end, and on what stands in front of it, cannot be used: the scan begins
    /// at a segment's first group and believes what that says.
    believe: bool,
    /// What lies behind the newest segment is given up, whatever it holds.
    gave_up: bool,
    left_over: Vec<PhysicalOffset>,
    report: RecoveryReport,
}

impl<'a> Recovery<'a> {
    fn begin(files: &'a dyn Files, options: &RecoveryOptions) -> Result<Self, OpenError> {
        let directory = Directory::read(files)?;
        let mut report = RecoveryReport::default();
        let mut file = None;
        let mut believe = false;
        let checkpoint = match CheckpointFile::load(files)? {
            Some(Loaded { file: Ok(sound), damaged }) => {
                refuse_other_version(damaged.iter())?;
                report.slot_damaged = damaged.is_some();
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
        let segments = Segments::new(files, checkpoint.segment_bytes);
        let (repair, left_over) = (options.repair, Vec::new());
        let gave_up = false;
        Ok(Self { files, segments, directory, repair, file, checkpoint, believe, gave_up, left_over, report })
    }

    /// Looks at everything, and touches nothing.
    fn judge(&mut self) -> Result<(Scanned, Found, Vec<EpochStart>), OpenError> {
        loop {
            self.judge_directory()?;
            let scanned = self.scan()?;
            let found = self.judge_end(&scanned)?;
            match self.epochs(&scanned) {
                Err(OpenError::Corrupt(damage)) if self.repair => self.give_up(damage)?,
                epochs => return Ok((scanned, found, epochs?)),
            }
        }
    }

    /// Rows D5 to D15.
    fn judge_directory(&mut self) -> Result<(), OpenError> {
        if self.report.created {
            self.left_over = self.directory.segments.iter().map(|segment| segment.base).collect();
            return Ok(());
        }
        loop {
            let Self { directory, segments, checkpoint, gave_up, report, .. } = self;
            match directory::judge(directory, segments, checkpoint, report.slot_damaged, *gave_up) {
                Err(OpenError::Corrupt(damage)) if self.repair => self.give_up(damage)?,
                judged => {
                    self.left_over = judged?;
                    return Ok(());
                }
            }
        }
    }

    /// Leaves the damage, and what lies behind it, out of the log. Where that has been done and the damage is still
    /// in the way, there is nothing left to give up: segments that contradict their own headers are not repaired.
    fn give_up(&mut self, damage: Corruption) -> Result<(), OpenError> {
        let before = (self.checkpoint, self.believe);
        directory::exclude(&mut self.checkpoint, &damage);
        (self.believe, self.gave_up) = (true, true);
        if before == (self.checkpoint, true) {
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
            let Scan { tip, starts, attested_end, stored_ends, groups, .. } = scan;
            // What the checkpoint vouches for needs no group's word.
            let attested_end = attested_end.max(durable_end).min(tip.end);
            self.report.scanned_groups = groups;
            self.report.scanned_bytes = tip.end.since(from.end);
            return Ok(Scanned { from: from.end, tip, starts, attested_end, stored_ends });
        }
    }

    /// Rows E1 to E6, and E8.
    fn judge_end(&mut self, scanned: &Scanned) -> Result<Found, OpenError> {
        let end = scanned.tip.end;
        let closed = self.checkpoint.clean && end == self.checkpoint.durable_end;
        if self.report.created || (closed && !self.believe && !self.report.slot_damaged) {
            return Ok(Found::default());
        }
        if self.believe {
            self.give_up_behind(end);
        }
        let mut found = search::search(&mut self.segments, &self.checkpoint, end, &mut |_, _| ())?;
        if let Some(Witness { at: witness, attested_end }) = found.witness {
            let base = self.segments.base_of(end);
            let evidence = Evidence::Witness { witness, attested_end };
            let damage = directory::corruption(base, end.since(base), evidence);
            if !self.repair {
                return Err(OpenError::Corrupt(damage));
            }
            self.report.repaired.get_or_insert(damage);
            self.give_up_behind(end);
            let limit = self.segments.limit_of(self.checkpoint.newest_segment);
            found.remains.retain(|remains| remains.end <= limit);
        }
        self.report.doubt = found.doubt;
        self.report.searched_bytes = found.searched_bytes;
        Ok(found)
    }

    /// Gives up the segments behind the one that takes the group behind `end`.
    fn give_up_behind(&mut self, end: PhysicalOffset) {
        let last = self.next_segment(end).min(self.checkpoint.newest_segment);
        let behind = self.directory.segments.iter().map(|segment| segment.base).filter(|base| *base > last);
        let behind = behind.filter(|base| *base <= self.checkpoint.newest_segment);
        self.left_over.extend(behind);
        self.checkpoint.newest_segment = last;
    }

    /// Row E7. Walks the epoch records from the newest backwards.
    fn epochs(&mut self, scanned: &Scanned) -> Result<Vec<EpochStart>, OpenError> {
        let mut epochs: Vec<EpochStart> = scanned.starts.iter().rev().copied().collect();
        let mut next = match epochs.last() {
            Some(oldest) => Some(*oldest),
            None if scanned.tip.epoch == Epoch::ZERO => None,
            None => {
                let last = EpochStart { epoch: scanned.tip.epoch, start: scanned.tip.epoch_start };
                epochs.push(last);
                Some(last)
            }
        };
        // Each began in front of the next, and the last one in front of the end: what lies behind that is cut.
        let mut below = scanned.tip.end;
        while let Some(EpochStart { epoch, start }) = next
            && start >= self.checkpoint.oldest_segment
        {
            let record = if start < below { self.epoch_record(start)? } else { None };
            let Some(record) = record.filter(|record| record.epoch == epoch) else {
                let base = self.segments.base_of(start);
                let damage = directory::corruption(base, start.since(base), Evidence::EpochHistory);
                return Err(OpenError::Corrupt(damage));
            };
            below = start;
            next = record.previous;
            epochs.extend(next);
        }
        epochs.reverse();
        Ok(epochs)
    }

    fn epoch_record(&mut self, at: PhysicalOffset) -> io::Result<Option<EpochRecord>> {
        let seed = self.checkpoint.log_id.seed();
        // The history is long where a log is opened often, and its records are far apart.
        let bytes = self.segments.read_alone(at, RECORD_HEADER_BYTES + EPOCH_PAYLOAD_BYTES)?;
        let record = Record::parse(seed, at, bytes).ok().filter(|r| r.header.fields().kind == Kind::EPOCH);
        Ok(record
            .and_then(|record| EpochRecord::parse(record.payload).ok())
            .filter(|record| record.start == at))
    }

    fn left_over_names(&self) -> Vec<String> {
        let segments = self.left_over.iter().map(|base| segment_name(*base));
        segments.chain(self.directory.unfinished.iter().cloned()).collect()
    }

    fn remove_left_over(&mut self) -> io::Result<()> {
        // What a trim left goes on the checkpoint's word alone: were that gone after a power cut, the one before it
        // would miss the files.
        let is_trimmed = self.left_over.iter().any(|base| *base < self.checkpoint.oldest_segment);
        if let Some(file) = self.file.as_ref().filter(|_| is_trimmed) {
            file.store_again()?;
        }
        self.report.removed = self.left_over_names();
        for name in &self.report.removed {
            if self.report.repaired.is_some() && name.ends_with(".seg") {
                // What a repair gives up may be all that is left of something.
                self.files.rename(name, &format!("{name}{GIVEN_UP}"))?;
            } else {
                self.files.remove(name)?;
            }
        }
        self.segments.forget();
        Ok(())
    }

    /// What can be read and is not known to be durable, each range within one segment, to the end of its last block: the
    /// zeros behind a group were written with it, and are relied on where the next one stands in another block.
    fn unattested(&self, scanned: &Scanned) -> Vec<Range<PhysicalOffset>> {
        let ranges = scanned.stored_ends.iter().map(|&to| {
            // Of the last byte: a group may end where its segment does.
            let base = self.segments.base_of(PhysicalOffset::new(to.get() - 1));
            let from = scanned.attested_end.max(scanned.from).align_down(BLOCK_BYTES).max(base);
            let from = if from <= base.advance(BLOCK_BYTES) { base } else { from };
            (from < to).then(|| from..to.align_up(BLOCK_BYTES))
        });
        ranges.flatten().collect()
    }

    /// Makes durable what could be read and is not known to be.
    fn write_again(&mut self, scanned: &Scanned) -> io::Result<()> {
        for range in self.unattested(scanned) {
            self.report.rewritten_bytes += cut::write_again(&mut self.segments, range)?;
        }
        Ok(())
    }

    /// Zeroes what is behind the end. Every file that was looked into is flushed: what was zeroed by a recovery that
    /// did not come to its end may look clean already.
    fn cut(&mut self, tip: &Tip, found: &Found) -> io::Result<()> {
        for remains in &found.remains {
            self.report.cut_bytes += cut::zero(&mut self.segments, remains.clone())?;
        }
        let mut base = self.segments.base_of(tip.end);
        while base <= self.checkpoint.newest_segment && base < found.searched_end {
            self.segments.sync(base)?;
            base = base.advance(self.checkpoint.segment_bytes);
        }
        Ok(())
    }

    /// Prepares the next append, and names its epoch in a checkpoint.
    ///
    /// A segment that is still to be made for it is the writer's business, who waits for space if there is none:
    /// a log can be opened on a full disk.
    fn finish(mut self, tip: &Tip, epochs: Vec<EpochStart>) -> Result<Recovered, OpenError> {
        let base = self.next_segment(tip.end);
        let is_named = base <= self.checkpoint.newest_segment;
        if is_named && self.segments.file_bytes(base)?.is_none() {
            self.create_segment(base)?;
        }
        // Even where no name changed: those that are found may be as little durable as bytes that can be read. A
        // process that was killed between creating a file and this may have left them.
        self.files.sync_directory("log")?;
        self.files.sync_directory("")?;
        let next = match self.segments.header(base)? {
            HeaderBlock::Sound(segment) if base < tip.end => {
                NextGroup::Continues { segment, tail: self.tail(tip.end)? }
            }
            _ => NextGroup::Begins { base },
        };
        // A slot that was lost may have named an epoch that left bytes behind.
        let certain = self.file.is_some() && !self.report.slot_damaged;
        let highest_epoch = self.checkpoint.highest_epoch.max(tip.epoch);
        if highest_epoch >= Epoch::new(EPOCH_LIMIT.get() - 2) {
            return Err(OpenError::EpochsExhausted);
        }
        let epoch =
            if certain || self.report.created { highest_epoch.next() } else { highest_epoch.next().next() };
        let checkpoint = Checkpoint {
            durable_end: tip.end,
            chain: tip.chain,
            epoch: tip.epoch,
            epoch_start: tip.epoch_start,
            highest_epoch: epoch,
            stored_at: tip.stored_at,
            clean: false,
            ..self.checkpoint
        };
        let checkpoint = match self.file {
            Some(mut file) => {
                file.store(checkpoint)?;
                file
            }
            None => CheckpointFile::create(self.files, checkpoint)?,
        };
        let Checkpoint { oldest_segment, newest_segment, segment_bytes, .. } = *checkpoint.current();
        self.report.segments = newest_segment.since(oldest_segment) / segment_bytes + 1;
        (self.report.start, self.report.end) = (oldest_segment, tip.end);
        let segments = self.directory.infos(oldest_segment, tip.end);
        let Tip { end, chain, stored_at, .. } = *tip;
        Ok(Recovered {
            checkpoint,
            epoch,
            epochs,
            end,
            chain,
            stored_at,
            segments,
            next,
            report: self.report,
        })
    }

    /// Base of the segment that takes the group behind `end`.
    fn next_segment(&self, end: PhysicalOffset) -> PhysicalOffset {
        let base = self.segments.base_of(end);
        let limit = self.segments.limit_of(end);
        if end > base && limit.since(end) < CLOSING_BYTES { limit } else { base }
    }

    /// What stands in front of `end` in its block.
    fn tail(&mut self, end: PhysicalOffset) -> io::Result<Vec<u8>> {
        let from = end.align_down(BLOCK_BYTES);
        let bytes = usize::try_from(end.since(from)).unwrap_or(usize::MAX);
        Ok(self.segments.read(from, bytes)?.to_vec())
    }

    /// Creates a new log's first segment, or one whose loss the operator has accepted, at its first step: an idle log
    /// stays small, and a new one starts at once.
    fn create_segment(&mut self, base: PhysicalOffset) -> io::Result<()> {
        let file = self.files.create(&segment_name(base))?;
        let bytes = FIRST_STEP_BYTES.min(self.checkpoint.segment_bytes);
        file.write_at(0, &vec![0; usize::try_from(bytes).unwrap_or(usize::MAX)])?;
        file.sync()?;
        self.segments.forget();
        Ok(())
    }
}

/// So much of a segment that recovery creates exists when it returns; the rest is for the writer's housekeeping.
const FIRST_STEP_BYTES: u64 = 1 << 20;

/// Behind the name of a segment that a repair has given up.
const GIVEN_UP: &str = ".given-up";

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
    Ok(Checkpoint {
        generation: FIRST_GENERATION,
        log_id: options.log_id.unwrap_or_else(|| LogId::from_bytes(rand::random())),
        segment_bytes,
        durable_end: PhysicalOffset::ZERO,
        chain: Chain::START,
        epoch: Epoch::ZERO,
        epoch_start: PhysicalOffset::ZERO,
        highest_epoch: Epoch::ZERO,
        oldest_segment: PhysicalOffset::ZERO,
        newest_segment: PhysicalOffset::ZERO,
        led_from: PhysicalOffset::ZERO,
        stored_at: 0,
        clean: false,
    })
}

#[cfg(test)]
mod tests;
