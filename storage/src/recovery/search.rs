//! What lies behind the end: nothing, the remains of a torn write, or a witness against the disk.

use std::io;
use std::ops::Range;

use super::group_check::CheckedGroup;
use super::scan::sound_group;
use super::segments::Segments;
use crate::checkpoint::Checkpoint;
use crate::group::{GROUP_BYTES_MAX, GROUP_HEADER_BYTES};
use crate::offset::PhysicalOffset;
use crate::record::{RECORD_ALIGNMENT, RECORD_HEADER_BYTES};
use crate::segment::{BLOCK, BLOCK_BYTES, is_zero};

/// How far behind the end witnesses are looked for, and remains are removed.
pub const SEARCH_BYTES: u64 = 64 << 20;

/// A sound group behind the end that says that more had been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Witness {
    pub(crate) at: PhysicalOffset,
    pub(crate) attested_end: PhysicalOffset,
}

/// What the word of a sound group behind the end counts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// It attests nothing above the end.
    Nothing,
    /// An earlier life of these bytes: they were cut, and it has no say in this one.
    EarlierLife,
    /// It contradicts the end, but was taken below `led_from`.
    Doubt,
    /// It proves that more was durable.
    Witness,
}

impl Word {
    fn of(group: &CheckedGroup, checkpoint: &Checkpoint, end: PhysicalOffset) -> Self {
        if group.first_epoch < checkpoint.highest_epoch {
            Self::EarlierLife
        } else if group.attested_end <= end {
            Self::Nothing
        } else if group.start < checkpoint.led_from {
            Self::Doubt
        } else {
            Self::Witness
        }
    }
}

/// What a search found.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// The first group whose word counts and contradicts the end.
    pub(crate) witness: Option<Witness>,
    /// A group that contradicts the end, but was taken below `led_from`.
    pub(crate) doubt: bool,
    /// Blocks with bytes that are not zero, each within one segment; the first may begin inside a block, and one may
    /// end where its file does.
    pub(crate) remains: Vec<Range<PhysicalOffset>>,
    /// The blocks of the remains that the disk refuses to read: nobody is heard there.
    pub(crate) refused: Vec<PhysicalOffset>,
    /// Whether anything stands at the place of the next group, and is none.
    pub(crate) is_damaged: bool,
    /// Where the search ended; zero when there was none.
    pub(crate) searched_end: PhysicalOffset,
    /// How many bytes were looked at.
    pub(crate) searched_bytes: u64,
}

impl Found {
    /// Row E10: the first block in which a witness at or above `led_from` may stand that the disk does not let testify
    /// to what is damaged at the end.
    pub(crate) fn silenced(&self, led_from: PhysicalOffset) -> Option<PhysicalOffset> {
        let mut refused = self.refused.iter().copied().filter(|_| self.is_damaged);
        refused.find(|block| block.advance(BLOCK_BYTES) > led_from)
    }
}

/// Searches behind `end`, up to the nominal end of the newest named segment. `hear` is given every sound group.
pub(crate) fn search(
    segments: &mut Segments<'_>,
    checkpoint: &Checkpoint,
    end: PhysicalOffset,
    hear: &mut dyn FnMut(&CheckedGroup, Word),
) -> io::Result<Found> {
    let last =
        segments.limit_of(checkpoint.newest_segment).min(end.advance(SEARCH_BYTES).align_up(BLOCK_BYTES));
    let mut found = Found { searched_end: last, ..Found::default() };
    let place_end = place_end(segments, end);
    let mut skip_to = end;
    let mut at = end;
    while at < last {
        let block_end = at.advance(1).align_up(BLOCK_BYTES).min(last);
        let length = block_length(at, block_end);
        // Of groups that were looked at, and reach into this block.
        segments.take_refused();
        let read = segments.read(at, length)?;
        let bytes = read.len();
        if bytes == 0 {
            // The file ends here; the next segment may have one.
            at = segments.limit_of(at);
            continue;
        }
        found.searched_bytes += bytes as u64;
        let is_blank = is_zero(read);
        // No further than the file reaches: zeroing needs no space on the disk.
        let held_end = at.advance(bytes as u64);
        let refused = segments.take_refused();
        found.refused.extend(refused);
        if refused.is_some() || !is_blank {
            match found.remains.last_mut() {
                Some(remains)
                    if remains.end == at && segments.base_of(remains.start) == segments.base_of(at) =>
                {
                    remains.end = held_end;
                }
                _ => found.remains.push(at..held_end),
            }
        }
        if !is_blank {
            found.is_damaged |= at < place_end;
            // Copied, because looking at a group moves the window.
            let mut block = [0; BLOCK];
            block[..bytes].copy_from_slice(segments.read(at, length)?);
            for group in sound_groups(segments, checkpoint, at, &block[..bytes], &mut skip_to) {
                let group = group?;
                let word = Word::of(&group, checkpoint, end);
                hear(&group, word);
                found.doubt |= word == Word::Doubt;
                if word == Word::Witness {
                    let CheckedGroup { start: at, attested_end, .. } = group;
                    found.witness.get_or_insert(Witness { at, attested_end });
                }
            }
        }
        at = block_end;
    }
    // One that may stand below `led_from` would be in doubt if it could be read.
    found.doubt |= found.is_damaged && found.refused.iter().any(|block| *block < checkpoint.led_from);
    Ok(found)
}

/// Where the blocks end in which the group behind `end` would begin: that of `end` and the next one, or, where the
/// segment ends with the block, the next segment's header and the block behind it.
fn place_end(segments: &Segments<'_>, end: PhysicalOffset) -> PhysicalOffset {
    let block = end.align_up(BLOCK_BYTES);
    if block == segments.base_of(block) { block.advance(2 * BLOCK_BYTES) } else { block.advance(BLOCK_BYTES) }
}

/// The sound groups that begin at any eighth byte of a block. What lies inside one is that group's business: a
/// payload cannot pose as a group.
fn sound_groups(
    segments: &mut Segments<'_>,
    checkpoint: &Checkpoint,
    block_at: PhysicalOffset,
    block: &[u8],
    skip_to: &mut PhysicalOffset,
) -> impl Iterator<Item = io::Result<CheckedGroup>> {
    let seed = checkpoint.log_id.seed();
    block.chunks_exact(RECORD_ALIGNMENT).enumerate().filter_map(move |(index, word)| {
        let at = block_at.advance((index * RECORD_ALIGNMENT) as u64);
        if at < *skip_to || !may_open_group(word) {
            return None;
        }
        let group = sound_group(segments, seed, at).transpose()?;
        if let Ok(group) = &group {
            *skip_to = group.stored_end;
        }
        Some(group)
    })
}

/// Whether a group's length could begin with these bytes: cheaper than a checksum at every eighth byte.
pub(crate) fn may_open_group(word: &[u8]) -> bool {
    let Some(&length) = word.first_chunk::<4>() else { return false };
    let length = u32::from_le_bytes(length);
    length as usize >= GROUP_HEADER_BYTES + RECORD_HEADER_BYTES
        && length <= GROUP_BYTES_MAX
        && (length as usize).is_multiple_of(RECORD_ALIGNMENT)
}

fn block_length(from: PhysicalOffset, to: PhysicalOffset) -> usize {
    usize::try_from(to.since(from)).expect("a block fits into memory")
}
