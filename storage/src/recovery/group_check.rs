//! Whether bytes are a whole, sound group.

use smallvec::SmallVec;

use crate::epoch::{EpochRecord, EpochStart};
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
                let start = group.starts.last().map(|last| last.start);
                let goes_on = |previous: EpochStart| {
                    previous.epoch == group.last_epoch && start.is_none_or(|start| previous.start == start)
                };
                let follows = first || begins.previous.is_some_and(goes_on);
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

#[cfg(test)]
mod tests {
    use zerocopy::IntoBytes;

    use super::*;
    use crate::epoch::Cause;
    use crate::log_id::LogId;
    use crate::record::{RecordFields, RecordHeader, payload_crc};
    use crate::segment::SEGMENT_BYTES_DEFAULT;

    const AT: PhysicalOffset = PhysicalOffset::new(4096);
    const LIMIT: PhysicalOffset = PhysicalOffset::new(SEGMENT_BYTES_DEFAULT);

    /// The group in which epochs 1, 2 and so on begin, each of which says where the one before began.
    fn group(seed: Seed, previous_starts: &[u64]) -> Option<CheckedGroup> {
        let mut bytes = vec![0; GROUP_HEADER_BYTES];
        for (before, previous_start) in (0..).zip(previous_starts) {
            let start = AT.advance(bytes.len() as u64);
            let named = EpochStart { epoch: Epoch::new(before), start: PhysicalOffset::new(*previous_start) };
            let record = EpochRecord {
                epoch: Epoch::new(before + 1),
                start,
                previous: (before > 0).then_some(named),
                cause: Cause::Opened,
            };
            let fields = RecordFields {
                payload_bytes: 32,
                kind: Kind::EPOCH,
                head_bytes: 32,
                physical_offset: start,
                epoch: record.epoch,
                stored_at_delta: 0,
                payload_crc: payload_crc(seed, &[]),
            };
            bytes.extend(RecordHeader::new(seed, &fields, &record.to_bytes()).as_bytes());
            bytes.extend(record.to_bytes());
        }
        let length = u32::try_from(bytes.len()).unwrap();
        let header = GroupHeader::new(seed, AT, length, 0, Chain::START);
        bytes[..GROUP_HEADER_BYTES].copy_from_slice(header.as_bytes());
        check_group(seed, AT, &header, &bytes, LIMIT)
    }

    /// An opening took such a group, and the next one refused the log for the history of its epochs.
    #[test]
    fn epochs_of_a_group_name_each_others_beginnings() {
        let seed = LogId::from_bytes([1; 16]).seed();
        let first = AT.get() + GROUP_HEADER_BYTES as u64;
        let sound = group(seed, &[0, first, first + 64]).unwrap();
        assert_eq!((sound.first_epoch, sound.last_epoch), (Epoch::new(1), Epoch::new(3)));
        assert_eq!(group(seed, &[0, first, first + 56]), None);
        assert_eq!(group(seed, &[0, first - 8, first + 64]), None);
    }
}
