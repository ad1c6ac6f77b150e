//! Whether bytes are a whole, sound group.

use smallvec::SmallVec;

use crate::epoch::EpochRecord;
use crate::group::{Chain, ChainBuilder, GROUP_HEADER_BYTES, GroupHeader};
use crate::log_id::Seed;
use crate::offset::{Epoch, PhysicalOffset};
use crate::record::{Kind, RECORD_ALIGNMENT, RECORD_HEADER_BYTES, Record};

/// A group that is sound in itself. Whether it follows what comes before is for its reader to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckedGroup {
    /// Its first byte.
    pub(crate) start: PhysicalOffset,
    /// Behind the last byte that is stored.
    pub(crate) stored_end: PhysicalOffset,
    /// Where the log goes on: the same, or the nominal end of the segment that the group closes.
    pub(crate) end: PhysicalOffset,
    /// Everything below this was durable when the group was taken.
    pub(crate) attested_end: PhysicalOffset,
    /// What the group carries.
    pub(crate) chain: Chain,
    /// What the next group carries.
    pub(crate) next_chain: Chain,
    /// Of its first record.
    pub(crate) first_epoch: Epoch,
    /// Of its last record.
    pub(crate) last_epoch: Epoch,
    /// The epochs that begin in it.
    pub(crate) starts: SmallVec<[EpochRecord; 1]>,
    /// Of its last record.
    pub(crate) stored_at_delta: u32,
}

/// Checks the group of `header`, whose bytes are all of `bytes`, in a segment that nominally ends at `limit`.
/// `None` when any record is not sound, or records contradict one another.
pub(crate) fn check_group(
    seed: Seed,
    start: PhysicalOffset,
    header: &GroupHeader,
    bytes: &[u8],
    limit: PhysicalOffset,
) -> Option<CheckedGroup> {
    if bytes.len() != header.group_bytes() as usize || !bytes.len().is_multiple_of(RECORD_ALIGNMENT) {
        return None;
    }
    let stored_end = start.advance(bytes.len() as u64);
    let mut chain = ChainBuilder::default();
    let mut group = CheckedGroup {
        start,
        stored_end,
        end: stored_end,
        attested_end: PhysicalOffset::new(start.get().saturating_sub(u64::from(header.undurable_bytes()))),
        chain: header.chain(),
        next_chain: header.chain(),
        first_epoch: Epoch::ZERO,
        last_epoch: Epoch::ZERO,
        starts: SmallVec::new(),
        stored_at_delta: 0,
    };
    let mut position = GROUP_HEADER_BYTES;
    while position < bytes.len() {
        let at = start.advance(position as u64);
        let record = Record::parse(seed, at, &bytes[position..]).ok()?;
        let fields = record.header.fields();
        position += usize::try_from(record.header.stored_bytes()).ok()?;
        if fields.epoch == Epoch::ZERO || fields.stored_at_delta < group.stored_at_delta {
            return None;
        }
        let first = group.last_epoch == Epoch::ZERO;
        match fields.kind {
            Kind::EPOCH => {
                let begins = EpochRecord::parse(record.payload).ok()?;
                let follows =
                    first || begins.previous.is_some_and(|previous| previous.epoch == group.last_epoch);
                if !follows || begins.start != at || begins.epoch != fields.epoch {
                    return None;
                }
                group.starts.push(begins);
            }
            _ if !first && fields.epoch != group.last_epoch => return None,
            Kind::PADDING => {
                // It reaches to the segment's end, and nothing is behind it.
                let reaches = at.advance(RECORD_HEADER_BYTES as u64 + u64::from(fields.payload_bytes));
                if reaches != limit || position != bytes.len() || fields.head_bytes != 0 {
                    return None;
                }
                group.end = limit;
            }
            kind if kind.is_internal() => return None,
            _ => {}
        }
        if first {
            group.first_epoch = fields.epoch;
        }
        group.last_epoch = fields.epoch;
        group.stored_at_delta = fields.stored_at_delta;
        chain.record(record.header.header_crc());
    }
    group.next_chain = chain.finish(header);
    Some(group)
}
