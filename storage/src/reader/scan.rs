//! Reading the log group by group, as a fold does that starts from the files.

use bytes::Bytes;

use crate::group::{Chain, ChainBuilder, GROUP_HEADER_BYTES, GroupHeader};
use crate::handover::Group;
use crate::log::shared::Shared;
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_HEADER_BYTES, Record, RecordError};
use crate::segment::{BLOCK_BYTES, SegmentHeader};

use super::ReadError;

/// The visible groups from some place on, each checked whole and against the one before.
///
/// Ends at the visible end, and goes on there when asked again later. After an error it is at its end for good.
pub struct Scan<'a> {
    shared: &'a Shared,
    at: PhysicalOffset,
    /// What the group at `at` must carry, once one has been read.
    chain: Option<Chain>,
    /// Base and creation time of the segment that was read last.
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

    fn advance(&mut self) -> Result<Option<Group>, ReadError> {
        self.shared.check_kept(self.at)?;
        loop {
            if self.at >= self.shared.visible().get() {
                return Ok(None);
            }
            if self.at.get().is_multiple_of(self.shared.segment_bytes) {
                self.at = self.at.advance(BLOCK_BYTES);
                continue;
            }
            match self.group() {
                // Behind a padded group the rest of the block is zero.
                Err(ReadError::NotAGroup { at, error }) => {
                    let gap = at.align_up(BLOCK_BYTES).since(at);
                    let is_gap = gap > 0 && self.view(at, gap)?.iter().all(|&byte| byte == 0);
                    if !is_gap {
                        return Err(ReadError::NotAGroup { at, error });
                    }
                    self.at = at.advance(gap);
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
        let bytes = self.view(start, header.group_bytes().into())?;
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
        let created_at = self.created_at(start)?;
        Ok(Group { start, end, created_at, epoch, chain: chain.finish(&header), bytes })
    }

    /// When the segment that holds `at` was created.
    fn created_at(&mut self, at: PhysicalOffset) -> Result<u64, ReadError> {
        let base = at.align_down(self.shared.segment_bytes);
        if let Some((_, created_at)) = self.segment.filter(|(known, _)| *known == base) {
            return Ok(created_at);
        }
        let block = self.shared.read_file(base, BLOCK_BYTES)?;
        let header =
            SegmentHeader::parse(&block).map_err(|error| ReadError::NotASegment { at: base, error })?;
        let created_at = header.fields().created_at;
        self.segment = Some((base, created_at));
        Ok(created_at)
    }

    /// `bytes` from `at` on, which are all there if a group begins at or before `at`.
    fn view(&mut self, at: PhysicalOffset, bytes: u64) -> Result<Bytes, ReadError> {
        if let Some(hot) = self.shared.hot.get(at, bytes) {
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
        let read = self.shared.read_file(at, bytes.max(WINDOW_BYTES))?;
        if (read.len() as u64) < bytes {
            return Err(ReadError::Missing { at, bytes });
        }
        let length = usize::try_from(bytes).expect("the window is in memory");
        let wanted = read.slice(..length);
        self.window = (at, read);
        Ok(wanted)
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
