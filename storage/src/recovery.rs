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
//! | D2  | no checkpoint, any other segment                                         | corruption                   |
//! | D3  | neither slot is sound and can be read                                    | corruption                   |
//! | D4  | one slot is damaged, or cannot be read                                   | the other one leads          |
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
//! | D16 | the header of a segment cannot be read, and the log goes on in another   | kept: only store times count |
//! |     |                                                                          | from the next one's          |
//! | D17 | that of the segment in which the log goes on                             | corruption                   |
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
//! What cannot be read counts as zeros, here and below, and is reported. A group in front of which the segment's header
//! cannot be read follows by its chain and epoch.
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
//! | E9  | the place of the next group cannot be read, at or above `led_from`       | corruption                   |
//! |     | the same below `led_from`                                                | cut, and doubt is reported   |
//! |     | the same, the log having been closed here                                | it is written again          |
//! |     | the block that the end lies in cannot be read, in front of the end       | corruption                   |
//! | E10 | anything else in the searched range cannot be read, zeros at that place  | cut: it is written again     |
//! |     | the same, something else at that place, at or above `led_from`           | corruption                   |
//! |     | the same below `led_from`                                                | cut, and doubt is reported   |
//! | E11 | an epoch record that the history leads to cannot be read                 | the segment's header tells   |
//! | E12 | more than 64 blocks that are looked at cannot be read                    | corruption                   |
//!
//! E9 is no tear, though a power cut may leave a sector that cannot be read: other groups may have shared the sector,
//! or the last one may have been acknowledged, and another attempt, or another disk, may read it. Where zeros stand at
//! the place (in its whole blocks), no group was written there, so none behind it was acknowledged, and writing heals
//! the sector. Where something else does, it may be a tear, or a group that was durable and is damaged: only a witness
//! tells them apart, and it may be what cannot be read.
//!
//! E12 is for the time it takes: a failing disk may think about each block for seconds. A repair reads past all of them,
//! and then goes by the other rows.
//!
//! **Cut** means: what is not zero in the searched range is zeroed, and flushed before the first append. Bytes of an
//! earlier life further on can neither chain nor testify: their epoch is lower.
//! **Corruption** is refused and located; with [`RecoveryOptions::repair`] the log is cut at the damage instead. What is
//! cut then, and can be read, is copied first: the damage may be one block, and what lies behind it somebody's. What is
//! damaged below the durable end keeps nobody from opening the log; a repair cuts there too if it is told of it, with
//! [`RecoveryOptions::damaged_at`].
//! What could be read above the last attested durable end is written again and flushed before it is served: being
//! readable is not being durable, and a flush alone skips pages that the kernel believes clean.
//!
//! | to change…                                          | open                          |
//! |-----------------------------------------------------|-------------------------------|
//! | the verdicts: what is kept, cut or refused           | `verdict`                     |
//! | which files there should be                          | `directory`                   |
//! | which group follows which                            | `scan`, `group_check`         |
//! | who may testify behind the end                       | `search`                      |
//! | how far back the epochs are known                    | `history`                     |
//! | what is written, and in which order                  | `ready`, `cut`                |
//! | how files are read                                   | `segments`                    |
//! | what its caller, and a person, is told               | `report`, `error`             |

use std::collections::BTreeSet;

use self::directory::Directory;
use self::scan::Tip;
use self::segments::Segments;
use crate::catalogue::SegmentInfo;
use crate::checkpoint::{Checkpoint, CheckpointFile};
use crate::device::Files;
use crate::epoch::EpochStart;
use crate::group::Chain;
use crate::log_id::LogId;
use crate::offset::{Epoch, PhysicalOffset};
use crate::segment::{CLOSING_BYTES, SEGMENT_BYTES_DEFAULT, SegmentFields};

mod cut;
pub(crate) mod directory;
mod error;
mod group_check;
mod history;
mod ready;
mod report;
pub(crate) mod scan;
pub(crate) mod search;
pub(crate) mod segments;
mod verdict;

pub use self::error::{Corruption, Evidence, OpenError};
pub use self::report::{RecoveryReport, Unreadable};
pub use self::search::{SEARCH_BYTES, Word};

/// How a log is recovered. Fields may be added in any release: write what you choose, and
/// `..RecoveryOptions::default()`.
#[derive(Clone, Copy, Debug)]
pub struct RecoveryOptions {
    /// Nominal length of the segments of a log that this opening creates; an existing log keeps its own.
    pub segment_bytes: u64,
    /// The identity of a log that this opening creates; random when `None`.
    pub log_id: Option<LogId>,
    /// Cut at corruption, and report it, instead of refusing. What is cut is set aside, as `*.given-up` in `log/`, which
    /// needs space for what a segment holds behind the damage.
    pub repair: bool,
    /// Where an inspection has found damage below the durable end. A repair cuts the log in front of the group that
    /// holds it; who does not repair opens the log as it is, as what stands elsewhere can be read.
    pub damaged_at: Option<PhysicalOffset>,
}

impl Default for RecoveryOptions {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES_DEFAULT, log_id: None, repair: false, damaged_at: None }
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
    recovery.report.set_aside = recovery.would_set_aside(scanned.tip.end)?;
    Ok(recovery.report)
}

/// What a scan found.
struct Scanned {
    from: PhysicalOffset,
    tip: Tip,
    starts: Vec<EpochStart>,
    attested_end: PhysicalOffset,
    stored_ends: Vec<PhysicalOffset>,
    /// What the disk refused to read of where the next group would stand.
    refused: Option<PhysicalOffset>,
}

/// A recovery under way.
struct Recovery<'a> {
    files: &'a dyn Files,
    segments: Segments<'a>,
    directory: Directory,
    repair: bool,
    /// Damage below the durable end that this recovery was told of, and is to cut.
    told: Option<Corruption>,
    /// The file, unless this recovery creates it, which it does last.
    file: Option<CheckpointFile>,
    checkpoint: Checkpoint,
    /// The checkpoint's word on the durable end, and on what stands in front of it, cannot be used: the scan begins
    /// at a segment's first group and believes what that says.
    believe: bool,
    /// What lies behind the newest segment is given up, whatever it holds.
    gave_up: bool,
    left_over: Vec<PhysicalOffset>,
    /// Blocks that the disk refused to read.
    unreadable: BTreeSet<PhysicalOffset>,
    report: RecoveryReport,
}

impl Recovery<'_> {
    /// Base of the segment that takes the group behind `end`.
    fn next_segment(&self, end: PhysicalOffset) -> PhysicalOffset {
        let base = self.segments.base_of(end);
        let limit = self.segments.limit_of(end);
        if end > base && limit.since(end) < CLOSING_BYTES { limit } else { base }
    }
}

#[cfg(test)]
mod tests;
