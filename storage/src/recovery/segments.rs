//! The segment files of a log, read through one window.

use std::io;
use std::sync::Arc;

use crate::device::{File, Files};
use crate::offset::PhysicalOffset;
use crate::segment::{BLOCK_BYTES, SegmentError, SegmentFields, SegmentHeader, is_zero, segment_name};

/// What stands in a segment's first block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderBlock {
    /// Zeros, or nothing: no group was ever written.
    Blank,
    /// A header.
    Sound(SegmentFields),
    /// Something else.
    Damaged(SegmentError),
}

/// Reads and writes the segments of a log by physical offset. Bytes behind a file's end do not exist; a segment
/// without a file has none.
pub(crate) struct Segments<'a> {
    files: &'a dyn Files,
    segment_bytes: u64,
    open: Option<(PhysicalOffset, Option<Arc<dyn File>>)>,
    window: Vec<u8>,
    window_at: PhysicalOffset,
}

/// Read at once, or as much as a longer group needs: as much as disks like to be asked for, where nothing is cached.
const WINDOW_BYTES: usize = 1 << 20;

impl<'a> Segments<'a> {
    pub(crate) fn new(files: &'a dyn Files, segment_bytes: u64) -> Self {
        Self { files, segment_bytes, open: None, window: Vec::new(), window_at: PhysicalOffset::ZERO }
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
        self.read_window(at, bytes, WINDOW_BYTES)
    }

    /// As [`Self::read`], where nobody will ask for what is behind.
    pub(crate) fn read_alone(&mut self, at: PhysicalOffset, bytes: usize) -> io::Result<&[u8]> {
        self.read_window(at, bytes, bytes)
    }

    fn read_window(&mut self, at: PhysicalOffset, bytes: usize, window_bytes: usize) -> io::Result<&[u8]> {
        let left = usize::try_from(self.limit_of(at).since(at)).unwrap_or(usize::MAX);
        let bytes = bytes.min(left);
        let held = |at: PhysicalOffset, window_at: PhysicalOffset, window: &[u8]| {
            let from = usize::try_from(at.get().checked_sub(window_at.get())?).ok()?;
            (from + bytes <= window.len()).then_some(from)
        };
        let from = match held(at, self.window_at, &self.window) {
            Some(from) => from,
            None => {
                self.fill_window(at, bytes.max(window_bytes).min(left))?;
                0
            }
        };
        let window = &self.window[from..];
        Ok(&window[..bytes.min(window.len())])
    }

    fn fill_window(&mut self, at: PhysicalOffset, bytes: usize) -> io::Result<()> {
        let mut window = std::mem::take(&mut self.window);
        window.resize(bytes, 0);
        let within = at.since(self.base_of(at));
        let read = match self.file(at)? {
            Some(file) => file.read_at(within, &mut window)?,
            None => 0,
        };
        window.truncate(read);
        self.window = window;
        self.window_at = at;
        Ok(())
    }

    /// What stands in the first block of the segment at `base`.
    pub(crate) fn header(&mut self, base: PhysicalOffset) -> io::Result<HeaderBlock> {
        let block = self.read(base, usize::try_from(BLOCK_BYTES).unwrap_or(usize::MAX))?;
        Ok(header_block(block))
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
            Some(file) => file.write_at(within, bytes),
            None => Err(io::ErrorKind::NotFound.into()),
        }
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
