//! Which files there are, which there should be, and which are left over.

use std::collections::BTreeSet;
use std::io;

use super::error::{Corruption, Evidence, OpenError};
use super::segments::{HeaderBlock, Segments, header_block};
use crate::catalogue::SegmentInfo;
use crate::checkpoint::{CHECKPOINT_NAME, CHECKPOINT_NEW_NAME, Checkpoint};
use crate::device::{Files, is_refusal};
use crate::epoch::EpochStart;
use crate::log_id::LogId;
use crate::offset::PhysicalOffset;
use crate::segment::{BLOCK, BLOCK_BYTES, SegmentError, SegmentFields, is_zero, segment_base, segment_name};

/// The files that are there.
pub(crate) struct Directory {
    /// The segments, lowest first.
    pub(crate) segments: Vec<SegmentFile>,
    /// Files under preparation when the last process ended.
    pub(crate) unfinished: Vec<String>,
}

/// A segment's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SegmentFile {
    /// By its name.
    pub(crate) base: PhysicalOffset,
    /// What stands in its first block.
    pub(crate) header: HeaderBlock,
    /// Its length.
    pub(crate) file_bytes: u64,
}

impl Directory {
    pub(crate) fn read(files: &dyn Files) -> io::Result<Self> {
        let names = files.list("log")?;
        let bases: BTreeSet<PhysicalOffset> = names.iter().filter_map(|name| segment_base(name)).collect();
        let read = |base: PhysicalOffset| {
            let mut block = [0; BLOCK];
            let file = files.open(&segment_name(base))?;
            // A sector that cannot be read concerns those who read it.
            let header = match file.read_at(0, &mut block) {
                Err(error) if is_refusal(&error) => HeaderBlock::Unreadable,
                read => header_block(&block[..read?]),
            };
            Ok(SegmentFile { base, header, file_bytes: file.len()? })
        };
        let segments = bases.into_iter().map(read).collect::<io::Result<_>>()?;
        let unfinished = names.iter().filter(|name| name.ends_with(".tmp")).map(|name| format!("log/{name}"));
        let mut unfinished: Vec<String> = unfinished.collect();
        if files.list("")?.iter().any(|name| name == CHECKPOINT_NEW_NAME) {
            unfinished.push(CHECKPOINT_NEW_NAME.to_owned());
        }
        Ok(Self { segments, unfinished })
    }

    /// How long the file of the segment at `base` is.
    pub(super) fn file_bytes(&self, base: PhysicalOffset) -> u64 {
        self.segments.iter().find(|segment| segment.base == base).map_or(0, |segment| segment.file_bytes)
    }

    /// Whether no segment holds a byte that is not zero. Where there is a checkpoint nobody asks.
    pub(super) fn is_blank(&self, files: &dyn Files) -> io::Result<bool> {
        for segment in &self.segments {
            if segment.header != HeaderBlock::Blank || !is_file_zero(files, &segment_name(segment.base))? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What there is to know about the segments from `oldest` on that hold groups of a log that ends at `end`, its last
    /// record stored at `stored_at`. One whose header cannot be read counts as created with the one behind it, so that
    /// none is given up too early for its age.
    pub(crate) fn infos(
        &self,
        oldest: PhysicalOffset,
        end: PhysicalOffset,
        stored_at: u64,
    ) -> Vec<SegmentInfo> {
        let mut next_created_at = stored_at;
        let kept = self.segments.iter().rev().filter(|segment| segment.base >= oldest && segment.base < end);
        let mut infos: Vec<SegmentInfo> = kept
            .filter_map(|&SegmentFile { base, header, file_bytes }| {
                match header {
                    HeaderBlock::Sound(SegmentFields { created_at, .. }) => next_created_at = created_at,
                    HeaderBlock::Unreadable => {}
                    HeaderBlock::Blank | HeaderBlock::Damaged(_) => return None,
                }
                let stored_bytes = file_bytes.min(end.since(base));
                Some(SegmentInfo { base, created_at: next_created_at, stored_bytes })
            })
            .collect();
        infos.reverse();
        infos
    }

    /// The epoch that was going on where the newest segment at or below `at` begins whose header can be read and knows
    /// of one from before `at`.
    pub(super) fn epoch_before(&self, at: PhysicalOffset, oldest: PhysicalOffset) -> Option<EpochStart> {
        let below = self.segments.iter().rev().filter(|segment| segment.base >= oldest && segment.base <= at);
        below
            .filter_map(|segment| match segment.header {
                HeaderBlock::Sound(SegmentFields { epoch, epoch_start, .. }) => {
                    Some(EpochStart { epoch, start: epoch_start })
                }
                _ => None,
            })
            .find(|known| known.start < at)
    }
}

fn is_file_zero(files: &dyn Files, name: &str) -> io::Result<bool> {
    let file = files.open(name)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        match file.read_at(at, &mut buffer) {
            Ok(0) => return Ok(true),
            Ok(read) if is_zero(&buffer[..read]) => at += read as u64,
            // What cannot be read may be anything.
            _ => return Ok(false),
        }
    }
}

/// Compares the files with what `checkpoint` names. Returns the segments that are left over.
///
/// Where a slot is damaged it may have named more: segments with content behind the newest count as named, and
/// the checkpoint is changed to say so. With `gave_up`, what lies behind the newest is left over.
pub(super) fn judge(
    directory: &Directory,
    segments: &mut Segments<'_>,
    checkpoint: &mut Checkpoint,
    slot_damaged: bool,
    gave_up: bool,
) -> Result<Vec<PhysicalOffset>, OpenError> {
    let segment_bytes = checkpoint.segment_bytes;
    let mut left_over = Vec::new();
    for SegmentFile { base, header, .. } in &directory.segments {
        refuse_strangers(*base, header, checkpoint.log_id)?;
        let behind = *base > checkpoint.newest_segment;
        if base.get() % segment_bytes != 0 {
            return Err(OpenError::Unexpected { file: segment_name(*base) });
        } else if *base < checkpoint.oldest_segment || (behind && (gave_up || *header == HeaderBlock::Blank))
        {
            left_over.push(*base);
        } else if behind && slot_damaged && *base == checkpoint.newest_segment.advance(segment_bytes) {
            checkpoint.newest_segment = *base;
        } else if behind {
            return Err(OpenError::Unexpected { file: segment_name(*base) });
        }
    }
    let mut named = directory.segments.iter().filter(|segment| segment.base >= checkpoint.oldest_segment);
    let mut expected = checkpoint.oldest_segment;
    while expected <= checkpoint.newest_segment {
        match named.next() {
            Some(SegmentFile { base, header, .. }) if *base == expected => {
                if expected < checkpoint.durable_end {
                    check_header(*base, header, segment_bytes)
                        .map_err(|evidence| corrupt(*base, 0, evidence))?;
                }
            }
            // Of a log that was given up as a whole, which begins again here.
            _ if gave_up && expected == checkpoint.newest_segment && expected == checkpoint.durable_end => {}
            _ => return Err(corrupt(expected, 0, Evidence::SegmentMissing)),
        }
        expected = expected.advance(segment_bytes);
    }
    let end = checkpoint.durable_end;
    let (base, file_bytes) = (segments.base_of(end), segments.file_bytes(end)?.unwrap_or(0));
    if end.since(base) > file_bytes {
        return Err(corrupt(base, file_bytes, Evidence::SegmentShort { file_bytes }));
    }
    Ok(left_over)
}

/// Checks the header of a segment that has been written to durably.
fn check_header(base: PhysicalOffset, header: &HeaderBlock, segment_bytes: u64) -> Result<(), Evidence> {
    match header {
        HeaderBlock::Sound(fields) if fields.base == base && fields.segment_bytes == segment_bytes => Ok(()),
        HeaderBlock::Sound(SegmentFields { base: claims, segment_bytes, .. }) => {
            Err(Evidence::SegmentMisplaced { claims: *claims, segment_bytes: *segment_bytes })
        }
        HeaderBlock::Blank => Err(Evidence::SegmentHeader(SegmentError::Magic)),
        HeaderBlock::Damaged(error) => Err(Evidence::SegmentHeader(*error)),
        // Most of a segment can be read without its header. Whether this one can do without is seen at the log's end.
        HeaderBlock::Unreadable => Ok(()),
    }
}

/// What another log or another release wrote is not damage, and nothing to be repaired.
fn refuse_strangers(base: PhysicalOffset, header: &HeaderBlock, expected: LogId) -> Result<(), OpenError> {
    let file = || segment_name(base);
    match header {
        HeaderBlock::Damaged(SegmentError::FormatVersion { found }) => {
            Err(OpenError::FormatVersion { file: file(), found: *found })
        }
        HeaderBlock::Sound(fields) if fields.log_id != expected => {
            Err(OpenError::ForeignLog { file: file(), found: fields.log_id, expected })
        }
        _ => Ok(()),
    }
}

/// For repair: what is left of the range that `checkpoint` names, and that these segments are there of, without the damage
/// that was found.
pub(super) fn exclude(checkpoint: &mut Checkpoint, segments: &[SegmentFile], damage: &Corruption) {
    let segment_bytes = checkpoint.segment_bytes;
    let base = damage.at.align_down(segment_bytes);
    let is_within = match damage.evidence {
        Evidence::SegmentShort { .. } | Evidence::EpochHistory => true,
        Evidence::Unreadable => damage.position > 0,
        // Nothing in the segment says whether its first group is the one that was to follow.
        Evidence::Damaged => damage.position > BLOCK_BYTES || base == checkpoint.oldest_segment,
        _ => false,
    };
    if is_within {
        // What the file has in front of the damage is scanned.
        checkpoint.newest_segment = base;
        checkpoint.durable_end = damage.at;
    } else if base > checkpoint.oldest_segment {
        checkpoint.newest_segment = PhysicalOffset::new(base.get() - segment_bytes);
        checkpoint.durable_end = checkpoint.durable_end.min(base);
    } else if base < checkpoint.newest_segment {
        // Nothing is below; what is above is kept, as after a trim. A checkpoint may name any number of segments.
        let next = segments.iter().map(|segment| segment.base).find(|next| *next > base);
        checkpoint.oldest_segment =
            next.map_or(checkpoint.newest_segment, |next| next.min(checkpoint.newest_segment));
        checkpoint.durable_end = checkpoint.durable_end.max(checkpoint.oldest_segment);
    } else {
        checkpoint.durable_end = base;
    }
}

/// For repair: the checkpoint that the segments' own headers suggest. `None` when no header is sound.
pub(crate) fn rebuild(segments: &[SegmentFile]) -> Option<Checkpoint> {
    let sound = |SegmentFile { base, header, .. }: &SegmentFile| match header {
        HeaderBlock::Sound(fields) if check_header(*base, header, fields.segment_bytes).is_ok() => {
            Some(*fields)
        }
        _ => None,
    };
    let first = segments.iter().find_map(sound)?;
    let mut newest_segment = first.base;
    for SegmentFile { base, .. } in segments {
        if *base == newest_segment.advance(first.segment_bytes) {
            newest_segment = *base;
        }
    }
    let rebuilt = Checkpoint {
        durable_end: first.base,
        highest_epoch: segments.iter().filter_map(sound).map(|fields| fields.epoch).max()?,
        oldest_segment: first.base,
        newest_segment,
        ..Checkpoint::first(first.log_id, first.segment_bytes)
    };
    // The headers' lengths and offsets are nobody's word but their own.
    rebuilt.is_consistent().then_some(rebuilt)
}

/// Damage at `position` of the segment at `base`.
pub(crate) fn corruption(base: PhysicalOffset, position: u64, evidence: Evidence) -> Corruption {
    Corruption { file: segment_name(base), position, at: base.advance(position), evidence }
}

fn corrupt(base: PhysicalOffset, position: u64, evidence: Evidence) -> OpenError {
    OpenError::Corrupt(corruption(base, position, evidence))
}

/// Damage to the checkpoint file itself.
pub(super) fn corrupt_checkpoint(evidence: Evidence) -> Corruption {
    Corruption { file: CHECKPOINT_NAME.to_owned(), position: 0, at: PhysicalOffset::ZERO, evidence }
}
