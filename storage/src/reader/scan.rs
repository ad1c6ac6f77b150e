//! Reading the log group by group, as a fold does that starts from the files.

use bytes::Bytes;

use crate::group::{Chain, ChainBuilder, GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader};
use crate::handover::Group;
use crate::log::shared::Shared;
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_HEADER_BYTES, Record, RecordError};
use crate::segment::BLOCK_BYTES;

use super::ReadError;
use super::cold::Request;

/// The visible groups from some place on, each checked whole and against the one before.
///
/// Ends at the visible end, and goes on there when asked again later. After an error it is at its end, until
/// [`Scan::pass_damage`] takes it past what could not be read.
///
/// It reads the files through a window of its own: a replay of the whole log evicts nothing that other readers use.
pub struct Scan<'a> {
    shared: &'a Shared,
    at: PhysicalOffset,
    /// What the group at `at` must carry, once one has been read.
    chain: Option<Chain>,
    /// Base and creation time of the segment of the last group.
    segment: Option<(PhysicalOffset, u64)>,
    /// Bytes read ahead, and where they begin.
    window: (PhysicalOffset, Bytes),
    has_failed: bool,
}

/// So much is read at a time, or a group if it is longer.
const WINDOW_BYTES: u64 = 1 << 20;

impl<'a> Scan<'a> {
    pub(crate) fn new(shared: &'a Shared, from: PhysicalOffset) -> Self {
        Self { shared, at: from, chain: None, segment: None, window: (from, Bytes::new()), has_failed: false }
    }

    /// Where the next group is looked for.
    pub fn position(&self) -> PhysicalOffset {
        self.at
    }

    /// After an error: goes on behind what could not be read, and returns where. That is behind the group, if its
    /// header is sound, or else the next segment, or where the log begins, if that is further on. The records of a
    /// group that is passed may still be found one by one, with [`crate::CommitLog::record_at`]; that the next group
    /// is the one that was written behind it is not checked.
    pub fn pass_damage(&mut self) -> PhysicalOffset {
        if self.has_failed {
            let start = self.at;
            let header = self.view(start, GROUP_HEADER_BYTES as u64);
            let header =
                header.ok().and_then(|front| GroupHeader::parse(self.shared.seed, start, &front).ok());
            let limit = start.align_down(self.shared.segment_bytes).advance(self.shared.segment_bytes);
            let end = header.map_or(limit, |header| start.advance(header.group_bytes().into()));
            self.at = end.max(self.shared.trimmed());
            self.chain = None;
            self.has_failed = false;
        }
        self.at
    }

    fn advance(&mut self) -> Result<Option<Group>, ReadError> {
        self.shared.check_kept(self.at)?;
        let at = self.at;
        match self.next_group() {
            // Memory may hold what the file held before it was written: past the page cache, by another path. What
            // it held may have looked like a gap.
            Err(ReadError::Damaged { .. } | ReadError::NotAGroup { .. } | ReadError::Unchained { .. }) => {
                self.at = at;
                self.window = (self.at, Bytes::new());
                self.shared.cold.forget(self.at, GROUP_BYTES_MAX.into());
                self.next_group().map_err(|error| self.shared.check_kept(self.at).err().unwrap_or(error))
            }
            outcome => outcome,
        }
    }

    fn next_group(&mut self) -> Result<Option<Group>, ReadError> {
        loop {
            let visible_end = self.shared.visible().get();
            if self.at >= visible_end {
                return Ok(None);
            }
            if self.at.get().is_multiple_of(self.shared.segment_bytes) {
                self.at = self.at.advance(BLOCK_BYTES);
                continue;
            }
            match self.group() {
                // Behind a padded group the rest of the block is zero, and in the next one there is a group.
                Err(ReadError::NotAGroup { at, error }) => {
                    let block = at.align_up(BLOCK_BYTES);
                    let gap = block.since(at);
                    let is_gap =
                        gap > 0 && block < visible_end && self.view(at, gap)?.iter().all(|&byte| byte == 0);
                    if !is_gap {
                        return Err(ReadError::NotAGroup { at, error });
                    }
                    self.at = block;
                }
                Err(error) => return Err(error),
                Ok(group) => {
                    self.at = group.end;
                    self.chain = Some(group.chain);
                    return Ok(Some(group));
                }
            }
        }
    }

    fn group(&mut self) -> Result<Group, ReadError> {
        let (start, seed) = (self.at, self.shared.seed);
        let header = GroupHeader::parse(seed, start, &self.view(start, GROUP_HEADER_BYTES as u64)?)
            .map_err(|error| ReadError::NotAGroup { at: start, error })?;
        if let Some(expected) = self.chain.filter(|chain| *chain != header.chain()) {
            return Err(ReadError::Unchained { at: start, expected, found: header.chain() });
        }
        let group_bytes = header.group_bytes().into();
        let bytes = match self.shared.hot.get(start, group_bytes) {
            Some(bytes) => bytes,
            None => self.view(start, group_bytes)?,
        };
        let mut chain = ChainBuilder::default();
        let mut epoch = Epoch::ZERO;
        let mut end = start.advance(header.group_bytes().into());
        let mut at = GROUP_HEADER_BYTES;
        while at < bytes.len() {
            let place = start.advance(at as u64);
            let damaged = |error| ReadError::Damaged { at: place, error };
            let record = Record::parse(seed, place, &bytes[at..]).map_err(damaged)?;
            let fields = record.header.fields();
            chain.record(record.header.header_crc());
            epoch = fields.epoch;
            at += usize::try_from(record.header.stored_bytes()).expect("a record fits into its group");
            if fields.kind == Kind::PADDING {
                // It reaches to the segment's end, so it is the last.
                end = place.advance(RECORD_HEADER_BYTES as u64 + u64::from(fields.payload_bytes));
                if at < bytes.len() || !end.get().is_multiple_of(self.shared.segment_bytes) {
                    return Err(damaged(RecordError::NotZero));
                }
            }
        }
        // Visibility ends between groups, unless a checkpoint that nobody has written says otherwise.
        let visible_end = self.shared.visible().get();
        if end > visible_end {
            return Err(ReadError::NotVisible { at: start, visible_end });
        }
        let created_at = self.created_at(start)?;
        Ok(Group { start, end, created_at, epoch, chain: chain.finish(&header), bytes })
    }

    /// When the segment that holds the group at `at` was created, as the opening or the writer knows it: a header that
    /// cannot be read hides no group.
    fn created_at(&mut self, at: PhysicalOffset) -> Result<u64, ReadError> {
        let base = at.align_down(self.shared.segment_bytes);
        if let Some((_, created_at)) = self.segment.filter(|(known, _)| *known == base) {
            return Ok(created_at);
        }
        // Whatever holds visible groups is known, until it is trimmed.
        let known = self.shared.segments.created_at(base);
        let created_at = known.ok_or_else(|| self.shared.short(at, GROUP_HEADER_BYTES as u64))?;
        self.segment = Some((base, created_at));
        Ok(created_at)
    }

    /// `bytes` from `at` on, which are all there if a group begins at or before `at`.
    fn view(&mut self, at: PhysicalOffset, bytes: u64) -> Result<Bytes, ReadError> {
        if let Some(hot) = self.shared.hot.look(at, bytes) {
            return Ok(hot);
        }
        let (from, window) = &self.window;
        if let Some(ahead) =
            at.get().checked_sub(from.get()).filter(|skip| skip + bytes <= window.len() as u64)
        {
            let index = usize::try_from(ahead).expect("the window is in memory");
            let length = usize::try_from(bytes).expect("the window is in memory");
            return Ok(window.slice(index..index + length));
        }
        let window = self.read_window(at, bytes)?;
        let length = usize::try_from(bytes).expect("the window is in memory");
        if window.len() < length {
            return Err(self.shared.short(at, bytes));
        }
        let wanted = window.slice(..length);
        self.window = (at, window);
        Ok(wanted)
    }

    /// A window from `at` on, of at least `bytes` if the file has them, with what is there already taken over.
    fn read_window(&self, at: PhysicalOffset, bytes: u64) -> Result<Bytes, ReadError> {
        let (from, window) = &self.window;
        let skip = at.get().checked_sub(from.get()).and_then(|skip| usize::try_from(skip).ok());
        let known = skip.and_then(|skip| window.get(skip..)).unwrap_or_default();
        // Behind the visible end bytes are still changed.
        let visible_bytes = self.shared.visible().get().since(at);
        let request = self.shared.request(at, bytes.max(WINDOW_BYTES.min(visible_bytes)));
        let rest = Request {
            at: at.advance(known.len() as u64),
            bytes: request.bytes.saturating_sub(known.len() as u64),
            ..request
        };
        let needed = bytes.saturating_sub(known.len() as u64);
        let length = usize::try_from(request.bytes).expect("a window is a few mebibytes");
        let mut buffer = Vec::with_capacity(length.max(known.len()));
        buffer.extend_from_slice(known);
        let known_bytes = buffer.len();
        buffer.resize(length.max(known_bytes), 0);
        // Behind the segment's end the next one's file would be asked.
        if rest.bytes > 0 {
            let read = self.shared.cold.fill(rest, &mut buffer[known_bytes..], needed);
            let read = read.map_err(|error| self.shared.io_error(rest.at, error))?;
            buffer.truncate(known_bytes + read);
        }
        Ok(buffer.into())
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Group, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_failed {
            return None;
        }
        let outcome = self.advance().transpose();
        self.has_failed = matches!(outcome, Some(Err(_)));
        outcome
    }
}
