//! Writing during recovery: zeros over remains, a copy of them for a person, and the same bytes once more.

use std::io;
use std::ops::Range;

use super::segments::Segments;
use crate::device::Files;
use crate::offset::PhysicalOffset;
use crate::segment::is_zero;

/// Written at once.
const CHUNK_BYTES: u64 = 256 << 10;

/// Zeroes `range`, which lies in one segment, and returns its length. Not flushed.
pub(super) fn zero(segments: &mut Segments<'_>, range: Range<PhysicalOffset>) -> io::Result<u64> {
    for (at, bytes) in chunks(&range) {
        segments.write(at, &vec![0; bytes])?;
    }
    Ok(range.end.since(range.start))
}

/// Whether [`copy`] would find something to copy.
pub(super) fn is_copied(segments: &mut Segments<'_>, range: &Range<PhysicalOffset>) -> io::Result<bool> {
    for (at, bytes) in chunks(range) {
        if !is_zero(segments.read(at, bytes)?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Copies what can be read and is not zero in `range`, which lies in one segment, to the file `name`, each byte to its
/// place in the segment, and flushes it. Where there is nothing to copy there is no file, and `false` is returned.
pub(super) fn copy(
    files: &dyn Files,
    segments: &mut Segments<'_>,
    range: Range<PhysicalOffset>,
    name: &str,
) -> io::Result<bool> {
    let base = segments.base_of(range.start);
    let mut copy = None;
    for (at, bytes) in chunks(&range) {
        let held = segments.read(at, bytes)?;
        if is_zero(held) {
            continue;
        }
        let file = match &copy {
            Some(file) => file,
            None => copy.insert(files.create(name)?),
        };
        file.write_at(at.since(base), held)?;
    }
    copy.map_or(Ok(false), |file| file.sync().map(|()| true))
}

/// Writes what stands in `range`, which lies in one segment, as far as its file goes, and flushes it. Returns how
/// much that was.
///
/// A flush alone would not do: it skips pages that the kernel believes clean.
pub(super) fn write_again(segments: &mut Segments<'_>, range: Range<PhysicalOffset>) -> io::Result<u64> {
    let mut written_bytes = 0;
    for (at, bytes) in chunks(&range) {
        let same = segments.read_exactly(at, bytes)?.to_vec();
        segments.write(at, &same)?;
        written_bytes += same.len() as u64;
    }
    segments.sync(range.start)?;
    Ok(written_bytes)
}

fn chunks(range: &Range<PhysicalOffset>) -> impl Iterator<Item = (PhysicalOffset, usize)> + use<> {
    let end = range.end;
    let mut at = range.start;
    std::iter::from_fn(move || {
        let bytes = end.since(at).min(CHUNK_BYTES);
        let chunk = (at, usize::try_from(bytes).ok()?);
        at = at.advance(bytes);
        (bytes > 0).then_some(chunk)
    })
}
