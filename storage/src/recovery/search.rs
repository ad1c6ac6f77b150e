//! What lies behind the end: nothing, the remains of a torn write, or a witness against the disk.

use std::io;
use std::ops::Range;

use super::scan::sound_group;
use super::segments::Segments;
use crate::checkpoint::Checkpoint;
use crate::group::{GROUP_BYTES_MAX, GROUP_HEADER_BYTES};
use crate::offset::PhysicalOffset;
use crate::record::{RECORD_ALIGNMENT, RECORD_HEADER_BYTES};
use crate::segment::{BLOCK, BLOCK_BYTES};

/// How far behind the end witnesses are looked for, and remains are removed.
pub const SEARCH_BYTES: u64 = 64 << 20;

/// A sound group behind the end that says that more had been durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Witness {
    pub(super) at: PhysicalOffset,
    pub(super) attested_end: PhysicalOffset,
}

/// What a search found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The first group whose word counts and contradicts the end.
    pub(super) witness: Option<Witness>,
    /// A group that contradicts the end, but was taken below `led_from`.
    pub(super) doubt: bool,
    /// Blocks with bytes that are not zero, each within one segment; the first may begin inside a block, and one may
    /// end where its file does.
    pub(super) remains: Vec<Range<PhysicalOffset>>,
    /// Where the search ended; zero when there was none.
    pub(super) searched_end: PhysicalOffset,
    /// How many bytes were looked at.
    pub(super) searched_bytes: u64,
}

/// Searches behind `end`, up to the nominal end of the newest named segment.
pub(super) fn search(
    segments: &mut Segments<'_>,
    checkpoint: &Checkpoint,
    end: PhysicalOffset,
) -> io::Result<Found> {
    let last =
        segments.limit_of(checkpoint.newest_segment).min(end.advance(SEARCH_BYTES).align_up(BLOCK_BYTES));
    let mut found = Found { searched_end: last, ..Found::default() };
    let mut skip_to = end;
    let mut at = end;
    while at < last {
        let block_end = at.advance(1).align_up(BLOCK_BYTES).min(last);
        let mut block = [0; BLOCK];
        let read = segments.read(at, block_length(at, block_end))?;
        let bytes = read.len();
        block[..bytes].copy_from_slice(read);
        if bytes == 0 {
            // The file ends here; the next segment may have one.
            at = segments.limit_of(at);
            continue;
        }
        found.searched_bytes += bytes as u64;
        if block[..bytes].iter().any(|&byte| byte != 0) {
            // No further than the file reaches: zeroing needs no space on the disk.
            let held_end = at.advance(bytes as u64);
            match found.remains.last_mut() {
                Some(remains)
                    if remains.end == at && segments.base_of(remains.start) == segments.base_of(at) =>
                {
                    remains.end = held_end;
                }
                _ => found.remains.push(at..held_end),
            }
            look_for_witness(segments, checkpoint, end, at, &block[..bytes], &mut skip_to, &mut found)?;
        }
        at = block_end;
    }
    Ok(found)
}

/// Looks at every eighth byte of a block. What lies inside a sound group is that group's business: a payload
/// cannot pose as a group.
fn look_for_witness(
    segments: &mut Segments<'_>,
    checkpoint: &Checkpoint,
    end: PhysicalOffset,
    block_at: PhysicalOffset,
    block: &[u8],
    skip_to: &mut PhysicalOffset,
    found: &mut Found,
) -> io::Result<()> {
    for (index, word) in block.chunks_exact(RECORD_ALIGNMENT).enumerate() {
        let at = block_at.advance((index * RECORD_ALIGNMENT) as u64);
        if at < *skip_to || !may_open_group(word) {
            continue;
        }
        let Some(group) = sound_group(segments, checkpoint.log_id.seed(), at)? else { continue };
        *skip_to = group.stored_end;
        // A lower epoch is an earlier life of these bytes: they were cut, and it has no say in this one.
        if group.first_epoch < checkpoint.highest_epoch || group.attested_end <= end {
            continue;
        }
        if group.start < checkpoint.led_from {
            found.doubt = true;
        } else if found.witness.is_none() {
            found.witness = Some(Witness { at, attested_end: group.attested_end });
        }
    }
    Ok(())
}

/// Whether a group's length could begin with these bytes: cheaper than a checksum at every eighth byte.
fn may_open_group(word: &[u8]) -> bool {
    let Some(&length) = word.first_chunk::<4>() else { return false };
    let length = u32::from_le_bytes(length);
    length as usize >= GROUP_HEADER_BYTES + RECORD_HEADER_BYTES
        && length <= GROUP_BYTES_MAX
        && (length as usize).is_multiple_of(RECORD_ALIGNMENT)
}

fn block_length(from: PhysicalOffset, to: PhysicalOffset) -> usize {
    usize::try_from(to.since(from)).expect("a block fits into memory")
}
