//! The segment files of a log, read through one window.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Arc;

use crate::device::{File, Files, is_refusal};
use crate::offset::PhysicalOffset;
use crate::segment::{BLOCK, BLOCK_BYTES, SegmentError, SegmentFields, SegmentHeader, is_zero, segment_name};

/// What stands in a segment's first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderBlock {
    /// Zeros, or nothing: no group was ever written.
    Blank,
    /// A header.
    Sound(SegmentFields),
    /// Something else.
    Damaged(SegmentError),
    /// The disk refuses to read it.
    Unreadable,
}

/// Reads and writes the segments of a log by physical offset. Bytes behind a file's end do not exist; a segment
/// without a file has none.
///
/// Blocks that the disk refuses to read count as zeros, and [`Self::take_refused`] tells of them: one sector that has
/// worn out says nothing about the others. What is to be kept is read by [`Self::read_exactly`], which refuses too.
pub(crate) struct Segments<'a> {
    files: &'a dyn Files,
    segment_bytes: u64,
    open: Option<(PhysicalOffset, Option<Arc<dyn File>>)>,
    window: Vec<u8>,
    window_at: PhysicalOffset,
    /// The blocks that the disk refused. It is not asked for them again: each answer may take it seconds, and nobody is
    /// to be told two things about one place.
    refused: BTreeSet<PhysicalOffset>,
    /// How many there may be.
    refusals_max: usize,
    /// The first of them that was asked for.
    met: Option<PhysicalOffset>,
}

/// Read at once, or as much as a longer group needs: as much as disks like to be asked for, where nothing is cached.
const WINDOW_BYTES: usize = 1 << 20;
/// A disk that refuses more blocks than this is failing as a whole: who opens a log is told so before hours have passed.
pub(crate) const REFUSALS_MAX: usize = 64;

/// The disk refused more blocks than are allowed.
#[derive(Debug)]
pub(crate) struct TooManyRefusals {
    /// The first of them in the log.
    pub(crate) first: PhysicalOffset,
}

impl TooManyRefusals {
    /// The one in there, if that is what the error says.
    pub(crate) fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl fmt::Display for TooManyRefusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the disk refuses to read many blocks, the first of them at log offset {}", self.first)
    }
}

impl std::error::Error for TooManyRefusals {}

impl<'a> Segments<'a> {
    /// Reads past up to `refusals_max` blocks that the disk refuses. One more is [`TooManyRefusals`].
    pub(crate) fn new(files: &'a dyn Files, segment_bytes: u64, refusals_max: usize) -> Self {
        Self {
            refusals_max,
            files,
            segment_bytes,
            open: None,
            window: Vec::new(),
            window_at: PhysicalOffset::ZERO,
            refused: BTreeSet::new(),
            met: None,
        }
    }

    /// The base of the segment that holds the byte at `at`.
    pub(crate) fn base_of(&self, at: PhysicalOffset) -> PhysicalOffset {
        at.align_down(self.segment_bytes)
    }

    /// Where the segment that holds the byte at `at` nominally ends.
    pub(crate) fn limit_of(&self, at: PhysicalOffset) -> PhysicalOffset {
        self.base_of(at).advance(self.segment_bytes)
    }

    /// The bytes from `at`: `bytes` of them, or fewer where the file or the segment ends. What is behind them is read
    /// with them.
    pub(crate) fn read(&mut self, at: PhysicalOffset, bytes: usize) -> io::Result<&[u8]> {
        self.read_window(at, bytes, WINDOW_BYTES)?;
        self.met = self.met.or(self.refused_in(at, bytes));
        Ok(self.held(at, bytes))
    }

    /// As [`Self::read`], where nobody will ask for what is behind.
    pub(crate) fn read_alone(&mut self, at: PhysicalOffset, bytes: usize) -> io::Result<&[u8]> {
        self.read_window(at, bytes, bytes)?;
        self.met = self.met.or(self.refused_in(at, bytes));
        Ok(self.held(at, bytes))
    }

    /// As [`Self::read`], for bytes that are to be kept.
    ///
    /// # Errors
    /// When the disk refuses any of them.
    pub(crate) fn read_exactly(&mut self, at: PhysicalOffset, bytes: usize) -> io::Result<&[u8]> {
        self.read_window(at, bytes, WINDOW_BYTES)?;
        if let Some(refused) = self.refused_in(at, bytes) {
            let base = self.base_of(refused);
            let text = format!("byte {} of {} cannot be read", refused.since(base), segment_name(base));
            return Err(io::Error::other(text));
        }
        Ok(self.held(at, bytes))
    }

    /// The first block that the disk refused to read of what was asked for since this was called last.
    pub(crate) fn take_refused(&mut self) -> Option<PhysicalOffset> {
        self.met.take()
    }

    /// The first block of all that the disk has refused to read, if an opening would not have read past so many.
    pub(crate) fn first_of_many_refused(&self) -> Option<PhysicalOffset> {
        self.refused.first().copied().filter(|_| self.refused.len() > REFUSALS_MAX)
    }

    /// The first block of a range that the disk has refused to read. A range ends where its segment does.
    fn refused_in(&self, at: PhysicalOffset, bytes: usize) -> Option<PhysicalOffset> {
        let end = at.advance(bytes as u64).min(self.limit_of(at));
        self.refused.range(at.align_down(BLOCK_BYTES)..end).next().copied()
    }

    /// What the window holds of a range that begins in it.
    fn held(&self, at: PhysicalOffset, bytes: usize) -> &[u8] {
        let from = usize::try_from(at.since(self.window_at)).unwrap_or(usize::MAX).min(self.window.len());
        &self.window[from..self.window.len().min(from.saturating_add(bytes))]
    }

    /// Sees to it that the window holds a range, as far as there is one.
    fn read_window(&mut self, at: PhysicalOffset, bytes: usize, window_bytes: usize) -> io::Result<()> {
        let left = usize::try_from(self.limit_of(at).since(at)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        let is_held = at.get().checked_sub(self.window_at.get()).is_some_and(|from| {
            usize::try_from(from).is_ok_and(|from| from.saturating_add(bytes) <= self.window.len())
        });
        if is_held {
            return Ok(());
        }
        // Whole blocks, so that everybody who asks for one is told the same of it.
        let from = at.align_down(BLOCK_BYTES);
        let skipped = usize::try_from(at.since(from)).unwrap_or(BLOCK);
        self.fill_window(from, skipped + bytes.max(window_bytes).min(left))
    }

    /// Reads a window from the beginning of a block on.
    fn fill_window(&mut self, at: PhysicalOffset, bytes: usize) -> io::Result<()> {
        let mut window = std::mem::take(&mut self.window);
        window.resize(bytes, 0);
        let within = at.since(self.base_of(at));
        let is_worn = self.refused_in(at, bytes).is_some();
        let read = match self.file(at)? {
            Some(file) if is_worn => self.fill_by_blocks(&*file, at, &mut window)?,
            Some(file) => match file.read_at(within, &mut window) {
                Err(error) if is_refusal(&error) => self.fill_by_blocks(&*file, at, &mut window)?,
                read => read?,
            },
            None => 0,
        };
        window.truncate(read);
        self.window = window;
        self.window_at = at;
        Ok(())
    }

    /// Reads what can be read of a window in which something cannot; how much of it there is.
    fn fill_by_blocks(
        &mut self,
        file: &dyn File,
        at: PhysicalOffset,
        window: &mut [u8],
    ) -> io::Result<usize> {
        let within = at.since(self.base_of(at));
        let held = usize::try_from(file.len()?.saturating_sub(within)).unwrap_or(usize::MAX);
        let held = held.min(window.len());
        for (index, part) in window[..held].chunks_mut(BLOCK).enumerate() {
            let skipped = (index * BLOCK) as u64;
            let block = at.advance(skipped);
            let mut whole = [0; BLOCK];
            if !self.refused.contains(&block)
                && let Err(error) = file.read_at(within + skipped, &mut whole)
            {
                if !is_refusal(&error) {
                    return Err(error);
                }
                whole.fill(0);
                self.refused.insert(block);
                if self.refused.len() > self.refusals_max
                    && let Some(&first) = self.refused.first()
                {
                    return Err(io::Error::other(TooManyRefusals { first }));
                }
            }
            part.copy_from_slice(&whole[..part.len()]);
        }
        Ok(held)
    }

    /// What stands in the first block of the segment at `base`.
    pub(crate) fn header(&mut self, base: PhysicalOffset) -> io::Result<HeaderBlock> {
        self.read_window(base, BLOCK, WINDOW_BYTES)?;
        if self.refused_in(base, BLOCK).is_some() {
            return Ok(HeaderBlock::Unreadable);
        }
        Ok(header_block(self.held(base, BLOCK)))
    }

    /// The length of the file of the segment that holds `at`; `None` when there is no file.
    pub(crate) fn file_bytes(&mut self, at: PhysicalOffset) -> io::Result<Option<u64>> {
        self.file(at)?.map(|file| file.len()).transpose()
    }

    /// Writes bytes of one segment; what the window holds of them is forgotten.
    pub(crate) fn write(&mut self, at: PhysicalOffset, bytes: &[u8]) -> io::Result<()> {
        self.window.clear();
        let within = at.since(self.base_of(at));
        match self.file(at)? {
            Some(file) => file.write_at(within, bytes)?,
            None => return Err(io::ErrorKind::NotFound.into()),
        }
        // A disk puts what is written to a place that it cannot read to another one.
        let end = at.advance(bytes.len() as u64);
        self.refused.retain(|block| *block < at || *block >= end);
        Ok(())
    }

    /// Makes the segment that holds `at` durable, if it has a file.
    pub(crate) fn sync(&mut self, at: PhysicalOffset) -> io::Result<()> {
        self.file(at)?.map_or(Ok(()), |file| file.sync())
    }

    /// Forgets what was read and opened, because files came or went.
    pub(crate) fn forget(&mut self) {
        self.open = None;
        self.window.clear();
    }

    fn file(&mut self, at: PhysicalOffset) -> io::Result<Option<Arc<dyn File>>> {
        let base = self.base_of(at);
        if let Some((open, file)) = &self.open
            && *open == base
        {
            return Ok(file.clone());
        }
        let file = match self.files.open(&segment_name(base)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            file => Some(file?),
        };
        self.open = Some((base, file.clone()));
        Ok(file)
    }
}

/// What a first block holds.
pub(crate) fn header_block(block: &[u8]) -> HeaderBlock {
    if is_zero(block) {
        return HeaderBlock::Blank;
    }
    match SegmentHeader::parse(block) {
        Ok(header) => HeaderBlock::Sound(header.fields()),
        Err(error) => HeaderBlock::Damaged(error),
    }
}
