//! Sealed segments whose files an earlier opening has not cut: what it knew of them went with it.

use std::collections::VecDeque;
use std::io;

use crate::device::File;
use crate::log::shared::Shared;
use crate::log_id::Seed;
use crate::offset::PhysicalOffset;
use crate::record::{Kind, RECORD_HEADER_BYTES, RecordHeader};
use crate::segment::{BLOCK, segment_name};

/// So many are looked at. An opening that ends leaves the last one or two; only where nobody has kept house are there
/// more, and looking at all the segments of a long log would read from each of them at every opening.
const LOOKED_AT_MAX: usize = 16;
/// What is read at a time of a file that ends in zeros.
const WINDOW_BYTES: usize = 1 << 20;

/// The newest segments that were sealed before this opening, newest first.
pub(super) fn sealed_before(shared: &Shared) -> VecDeque<PhysicalOffset> {
    let end = shared.durable.get();
    let bases = shared.segments.list().into_iter().rev().map(|segment| segment.base);
    bases.filter(|base| base.advance(shared.segment_bytes) <= end).take(LOOKED_AT_MAX).collect()
}

/// Looks at the end of a sealed segment's file: how many bytes of it are used, if there are more.
pub(super) fn used_bytes(shared: &Shared, base: PhysicalOffset) -> io::Result<Option<u64>> {
    let file = shared.files.open(&segment_name(base))?;
    let file_bytes = file.len()?;
    let used_bytes = find_padding(&*file, file_bytes, shared.seed, base, shared.segment_bytes)?;
    Ok(used_bytes.filter(|used_bytes| used_bytes.next_multiple_of(BLOCK as u64) < file_bytes))
}

/// Where the padding record that seals a segment ends, if nothing but zeros stands behind it.
fn find_padding(
    file: &dyn File,
    file_bytes: u64,
    seed: Seed,
    base: PhysicalOffset,
    segment_bytes: u64,
) -> io::Result<Option<u64>> {
    let Some(last) = last_used(file, file_bytes)? else { return Ok(None) };
    // A checksum may end in zeros, so that the header ends a little behind the last byte that is not.
    let from = (last - last % 8).saturating_sub(RECORD_HEADER_BYTES as u64);
    let mut bytes = [0; 2 * RECORD_HEADER_BYTES];
    file.read_at(from, &mut bytes)?;
    let ends = (0..=RECORD_HEADER_BYTES).step_by(8).filter_map(|skipped| {
        let at = base.advance(from + skipped as u64);
        let fields = RecordHeader::parse(seed, at, &bytes[skipped..]).ok()?.fields();
        let stored_end = at.advance(RECORD_HEADER_BYTES as u64);
        let seals = stored_end.advance(fields.payload_bytes.into()) == base.advance(segment_bytes);
        (fields.kind == Kind::PADDING && seals).then(|| stored_end.since(base))
    });
    Ok(ends.last())
}

/// The last byte of a file that is not zero.
fn last_used(file: &dyn File, file_bytes: u64) -> io::Result<Option<u64>> {
    // Of most segments the last block tells.
    let mut window = vec![0; BLOCK];
    let mut end = file_bytes;
    while end > 0 {
        let start = end.saturating_sub(window.len() as u64);
        let length = usize::try_from(end - start).map_err(io::Error::other)?;
        let read = file.read_at(start, &mut window[..length])?;
        if let Some(index) = window[..read].iter().rposition(|&byte| byte != 0) {
            return Ok(Some(start + index as u64));
        }
        end = start;
        window.resize(WINDOW_BYTES, 0);
    }
    Ok(None)
}
