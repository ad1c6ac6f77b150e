//! Whatever bytes a disk hands back: reading them never panics, what was written is what is read, and no single bit
//! changes unnoticed.

use proptest::prelude::*;
use skylark_storage::checkpoint::{Checkpoint, SLOT_BYTES};
use skylark_storage::epoch::{Cause, EPOCH_PAYLOAD_BYTES, EpochRecord};
use skylark_storage::group::{GROUP_BYTES_MAX, GROUP_HEADER_BYTES, GroupHeader};
use skylark_storage::record::{payload_crc, record_bytes};
use skylark_storage::segment::{SEGMENT_HEADER_BYTES, SegmentFields, SegmentHeader};
use skylark_storage::{
    Chain, Epoch, EpochStart, Kind, LogId, PhysicalOffset, Record, RecordFields, RecordHeader,
};
use zerocopy::IntoBytes;

/// Far from where sums of offsets and lengths overflow, as offsets of logs are.
fn offset() -> impl Strategy<Value = PhysicalOffset> {
    (0..1_u64 << 61).prop_map(|at| PhysicalOffset::new(at / 8 * 8))
}

fn log_id() -> impl Strategy<Value = LogId> {
    any::<[u8; 16]>().prop_map(LogId::from_bytes)
}

/// Bytes that nobody wrote, or that begin as something does that was written.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let front = prop_oneof![
        Just(Vec::new()),
        Just(b"SKYLKSEG\x01\0\0\0".to_vec()),
        Just(b"SKYLKCKP\x01\0\0\0".to_vec()),
        (0..200_u32).prop_map(|length| length.to_le_bytes().to_vec()),
    ];
    (front, prop::collection::vec(any::<u8>(), 0..300)).prop_map(|(front, rest)| [front, rest].concat())
}

fn record(log: LogId, at: PhysicalOffset, kind: u8, head: &[u8], rest: &[u8]) -> (RecordFields, Vec<u8>) {
    let fields = RecordFields {
        payload_bytes: u32::try_from(head.len() + rest.len()).expect("payloads of tests are short"),
        kind: Kind::new(kind),
        head_bytes: u8::try_from(head.len()).expect("heads of tests are short"),
        physical_offset: at,
        epoch: Epoch::new(7),
        stored_at_delta: 77,
        payload_crc: payload_crc(log.seed(), &[rest]),
    };
    let header = RecordHeader::new(log.seed(), &fields, head);
    let mut bytes = [header.as_bytes(), head, rest].concat();
    let whole = usize::try_from(record_bytes(fields.payload_bytes)).expect("records of tests are short");
    bytes.resize(whole, 0);
    (fields, bytes)
}

fn with_flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut flipped = bytes.to_vec();
    let bit = bit % (8 * bytes.len());
    flipped[bit / 8] ^= 1 << (bit % 8);
    flipped
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_are_refused_and_nothing_worse(log in log_id(), at in offset(), bytes in bytes()) {
        prop_assert!(Record::parse(log.seed(), at, &bytes).is_err());
        prop_assert!(RecordHeader::parse(log.seed(), at, &bytes).is_err());
        prop_assert!(GroupHeader::parse(log.seed(), at, &bytes).is_err());
        prop_assert!(SegmentHeader::parse(&bytes).is_err());
        let mut slot = [0; SLOT_BYTES];
        slot[..bytes.len()].copy_from_slice(&bytes);
        prop_assert!(Checkpoint::from_slot(&slot).is_err());
        // An epoch record's payload has no checksum of its own: it is all head, which its record sums.
        prop_assert!(bytes.len() == EPOCH_PAYLOAD_BYTES || EpochRecord::parse(&bytes).is_err());
        if let Some(payload) = bytes.first_chunk::<EPOCH_PAYLOAD_BYTES>()
            && let Ok(epoch) = EpochRecord::parse(payload)
        {
            prop_assert_eq!(&epoch.to_bytes(), payload);
        }
    }

    #[test]
    fn a_record_is_read_as_it_was_written(
        log in log_id(),
        at in offset(),
        kind in 16_u8..,
        head in prop::collection::vec(any::<u8>(), 0..=255),
        rest in prop::collection::vec(any::<u8>(), 0..600),
        bit: usize,
        cut: usize,
    ) {
        let (fields, bytes) = record(log, at, kind, &head, &rest);
        let parsed = Record::parse(log.seed(), at, &bytes).expect("a record that was written");
        prop_assert_eq!(parsed.header.fields(), fields);
        prop_assert_eq!(parsed.payload, [head, rest].concat());
        prop_assert_eq!(parsed.header.stored_bytes(), bytes.len() as u64);

        prop_assert!(Record::parse(log.seed(), at, &with_flipped(&bytes, bit)).is_err());
        prop_assert!(Record::parse(log.seed(), at, &bytes[..cut % bytes.len()]).is_err());
        prop_assert!(Record::parse(log.seed(), at.advance(8), &bytes).is_err(), "it is another place's");
        let other = LogId::from_bytes([0x5a; 16]);
        prop_assert!(other == log || Record::parse(other.seed(), at, &bytes).is_err(), "it is another log's");
    }

    #[test]
    fn a_group_header_is_read_as_it_was_written(
        log in log_id(),
        at in offset(),
        group_bytes in 17..=GROUP_BYTES_MAX,
        undurable_bytes: u32,
        chain: u32,
        bit: usize,
    ) {
        let header = GroupHeader::new(log.seed(), at, group_bytes, undurable_bytes, Chain::new(chain));
        let bytes = header.as_bytes();
        prop_assert_eq!(bytes.len(), GROUP_HEADER_BYTES);
        let parsed = GroupHeader::parse(log.seed(), at, bytes).expect("a header that was written");
        let read = (parsed.group_bytes(), parsed.undurable_bytes(), parsed.chain().get());
        prop_assert_eq!(read, (group_bytes, undurable_bytes, chain));
        prop_assert!(GroupHeader::parse(log.seed(), at, &with_flipped(bytes, bit)).is_err());
        prop_assert!(GroupHeader::parse(log.seed(), at.advance(4096), bytes).is_err());
    }

    #[test]
    fn a_segment_header_is_read_as_it_was_written(
        log_id in log_id(),
        base in offset(),
        segment_bytes: u64,
        created_at: u64,
        epoch: u32,
        bit: usize,
    ) {
        let epoch = Epoch::new(epoch);
        let fields = SegmentFields { log_id, base, segment_bytes, created_at, epoch, epoch_start: base };
        let header = SegmentHeader::new(&fields);
        let bytes = header.as_bytes();
        prop_assert_eq!(bytes.len(), SEGMENT_HEADER_BYTES);
        prop_assert_eq!(SegmentHeader::parse(bytes).expect("a header that was written").fields(), fields);
        prop_assert!(SegmentHeader::parse(&with_flipped(bytes, bit)).is_err());
    }

    #[test]
    fn a_checkpoint_is_read_as_it_was_written(
        log_id in log_id(),
        generation: u64,
        oldest in 0..1_u64 << 30,
        segments in 0..1000_u64,
        within in 0..65536_u64 / 8,
        epochs in 1..u32::MAX / 2,
        chain: u32,
        stored_at: u64,
        clean: bool,
        bit: usize,
    ) {
        let segment_bytes = 65536;
        let oldest_segment = PhysicalOffset::new(oldest * segment_bytes);
        let newest_segment = oldest_segment.advance(segments * segment_bytes);
        let mut checkpoint = Checkpoint::first(log_id, segment_bytes);
        checkpoint.generation = generation;
        // Never inside a segment's header block.
        checkpoint.durable_end = newest_segment.advance(if within * 8 > 4096 { within * 8 } else { 0 });
        checkpoint.chain = Chain::new(chain);
        checkpoint.epoch = Epoch::new(epochs);
        checkpoint.epoch_start = oldest_segment;
        checkpoint.highest_epoch = Epoch::new(epochs + 1);
        checkpoint.oldest_segment = oldest_segment;
        checkpoint.newest_segment = newest_segment;
        checkpoint.stored_at = stored_at;
        checkpoint.clean = clean;
        let slot = checkpoint.to_slot();
        prop_assert_eq!(Checkpoint::from_slot(&slot), Ok(checkpoint));
        let flipped = with_flipped(&slot, bit);
        let flipped: &[u8; SLOT_BYTES] = flipped.as_slice().try_into().expect("as long as a slot");
        prop_assert!(Checkpoint::from_slot(flipped).is_err());
    }

    #[test]
    fn an_epoch_is_read_as_it_was_written(
        start in (1..1_u64 << 61).prop_map(PhysicalOffset::new),
        epoch in 2_u32..,
        behind in any::<u32>(),
        distance: u64,
        leads: bool,
        has_previous: bool,
    ) {
        let previous = EpochStart {
            epoch: Epoch::new(1 + behind % (epoch - 1)),
            start: PhysicalOffset::new(distance % start.get()),
        };
        let cause = if leads { Cause::Leadership } else { Cause::Opened };
        let record =
            EpochRecord { epoch: Epoch::new(epoch), start, previous: has_previous.then_some(previous), cause };
        prop_assert_eq!(EpochRecord::parse(&record.to_bytes()), Ok(record));
    }
}
