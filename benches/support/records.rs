//! Records as the log stores them, made without a log: what every contestant that is not a crate of its own writes.

use skylark_storage::group::{Chain, ChainBuilder, GROUP_HEADER_BYTES, GroupHeader};
use skylark_storage::record::{RECORD_HEADER_BYTES, payload_crc, record_bytes};
use skylark_storage::{Epoch, Kind, LogId, PhysicalOffset, RecordFields, RecordHeader};
use zerocopy::IntoBytes;

/// Length of the head: as a broker's messages have, which fill in their place and time under the append lock.
pub const HEAD_BYTES: usize = 64;
/// Payload of a record where nothing else is said.
pub const PAYLOAD_BYTES: usize = 1024;

const LOG_ID: LogId = LogId::from_bytes([7; 16]);

/// A record to be stored again and again.
#[derive(Clone, Debug)]
pub struct Payload {
    rest: Vec<u8>,
}

impl Payload {
    /// With so many bytes, head included.
    ///
    /// # Panics
    /// When that is less than the head takes.
    pub fn new(bytes: usize) -> Self {
        let rest = bytes.checked_sub(HEAD_BYTES).expect("a payload has a head");
        Self { rest: (0..rest).map(|index| index.to_le_bytes()[0]).collect() }
    }

    /// Its length, head included.
    pub fn bytes(&self) -> usize {
        HEAD_BYTES + self.rest.len()
    }

    /// What follows the head.
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// What a record of it takes in the log.
    pub fn stored_bytes(&self) -> usize {
        RECORD_HEADER_BYTES + self.bytes().next_multiple_of(8)
    }

    /// The checksum that an appender computes before it takes any lock.
    pub fn crc(&self) -> u32 {
        payload_crc(LOG_ID.seed(), &[&self.rest])
    }
}

/// Encodes records, and the header of the group they form.
#[derive(Debug)]
pub struct Encoder {
    chain: Chain,
    records: ChainBuilder,
    count: u64,
}

impl Default for Encoder {
    fn default() -> Self {
        Self { chain: Chain::START, records: ChainBuilder::default(), count: 0 }
    }
}

impl Encoder {
    /// Puts a record into `into`, which has exactly its length, as one that stands `at` this place: head, header with
    /// its checksum, and a copy of the rest. `payload_crc` was computed before.
    pub fn record(&mut self, into: &mut [u8], at: u64, payload: &Payload, payload_crc: u32) {
        let (header, stored) = into.split_at_mut(RECORD_HEADER_BYTES);
        let (head, rest) = stored.split_at_mut(HEAD_BYTES);
        head[..8].copy_from_slice(&self.count.to_be_bytes());
        head[8..16].copy_from_slice(&at.to_be_bytes());
        head[16..].fill(0);
        let payload_bytes = u32::try_from(payload.bytes()).expect("payloads are short");
        debug_assert_eq!(record_bytes(payload_bytes), into_len(header, head, rest));
        let fields = RecordFields {
            payload_bytes,
            kind: Kind::new(16),
            #[expect(clippy::cast_possible_truncation, reason = "a head is short")]
            head_bytes: HEAD_BYTES as u8,
            physical_offset: PhysicalOffset::new(at),
            epoch: Epoch::new(1),
            stored_at_delta: 0,
            payload_crc,
        };
        let finished = RecordHeader::new(LOG_ID.seed(), &fields, head);
        header.copy_from_slice(finished.as_bytes());
        self.records.record(finished.header_crc());
        rest[..payload.rest.len()].copy_from_slice(&payload.rest);
        self.count += 1;
    }

    /// Puts the header of a group of `group_bytes` in front of its records.
    pub fn group(&mut self, into: &mut [u8], at: u64, group_bytes: usize) {
        let group_bytes = u32::try_from(group_bytes).expect("groups are short");
        let header = GroupHeader::new(LOG_ID.seed(), PhysicalOffset::new(at), group_bytes, 0, self.chain);
        into[..GROUP_HEADER_BYTES].copy_from_slice(header.as_bytes());
        self.chain = std::mem::take(&mut self.records).finish(&header);
    }
}

fn into_len(header: &[u8], head: &[u8], rest: &[u8]) -> u64 {
    (header.len() + head.len() + rest.len()) as u64
}

#[cfg(test)]
mod tests {
    use skylark_storage::Record;

    use super::*;

    #[test]
    fn what_is_encoded_is_a_record_of_the_log() {
        let payload = Payload::new(PAYLOAD_BYTES);
        let mut bytes = vec![0; payload.stored_bytes()];
        Encoder::default().record(&mut bytes, 4096, &payload, payload.crc());
        let record = Record::parse(LOG_ID.seed(), PhysicalOffset::new(4096), &bytes).expect("a sound record");
        assert_eq!(&record.payload[HEAD_BYTES..], payload.rest());
    }
}
