use super::*;
use crate::log_id::LogId;

fn seed() -> Seed {
    LogId::from_bytes([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]).seed()
}

const AT: PhysicalOffset = PhysicalOffset::new(0x1_1060);

const GOLDEN: [u8; 48] = [
    0x0e, 0x00, 0x00, 0x00, // payload_bytes: 14
    0x10, // kind: 16
    0x04, // head_bytes
    0x00, 0x00, // zero
    0x60, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // physical_offset
    0x03, 0x00, 0x00, 0x00, // epoch
    0x09, 0x00, 0x00, 0x00, // stored_at_delta
    0xae, 0xcf, 0x61, 0x51, // header_crc
    0x89, 0x5c, 0x26, 0x1d, // payload_crc
    b'H', b'E', b'A', b'D', // head
    b'r', b'e', b's', b't', b' ', b'o', b'f', b' ', b'i', b't', // rest
    0x00, 0x00, // filling
];

const GOLDEN_PADDING: [u8; 32] = [
    0x20, 0xef, 0x00, 0x00, // payload_bytes: to the segment's end
    0x00, // kind: padding
    0x00, // head_bytes
    0x00, 0x00, // zero
    0xc0, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, // physical_offset
    0x03, 0x00, 0x00, 0x00, // epoch
    0x09, 0x00, 0x00, 0x00, // stored_at_delta
    0x9f, 0x69, 0x79, 0x6d, // header_crc
    0x14, 0x67, 0xde, 0xa0, // payload_crc: of nothing, which is the seed
];

fn fields() -> RecordFields {
    RecordFields {
        payload_bytes: 14,
        kind: Kind::FIRST_FREE,
        head_bytes: 4,
        physical_offset: AT,
        epoch: Epoch::new(3),
        stored_at_delta: 9,
        payload_crc: payload_crc(seed(), &[b"rest", b" of it"]),
    }
}

#[test]
fn golden_bytes() {
    let header = RecordHeader::new(seed(), &fields(), b"HEAD");
    assert_eq!(header.as_bytes(), &GOLDEN[..32]);
    assert_eq!(header.stored_bytes(), 48);
    let record = Record::parse(seed(), AT, &GOLDEN).unwrap();
    assert_eq!(record.header.fields(), fields());
    assert_eq!(record.payload, b"HEADrest of it");
}

#[test]
fn of_padding_only_the_header_is_stored() {
    let at = PhysicalOffset::new(0x1_10c0);
    let padding = RecordFields {
        payload_bytes: 61216,
        kind: Kind::PADDING,
        head_bytes: 0,
        physical_offset: at,
        payload_crc: payload_crc(seed(), &[]),
        ..fields()
    };
    assert_eq!(RecordHeader::new(seed(), &padding, b"").as_bytes(), &GOLDEN_PADDING);
    let record = Record::parse(seed(), at, &GOLDEN_PADDING).unwrap();
    assert_eq!((record.header.stored_bytes(), record.payload), (32, &b""[..]));
}

#[test]
fn every_flipped_bit_is_noticed() {
    for bit in 0..GOLDEN.len() * 8 {
        let mut bytes = GOLDEN;
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(Record::parse(seed(), AT, &bytes).is_err(), "bit {bit}");
    }
}

#[test]
fn every_missing_byte_is_noticed() {
    for length in 0..GOLDEN.len() {
        assert!(
            matches!(Record::parse(seed(), AT, &GOLDEN[..length]), Err(RecordError::Truncated { have, .. }) if have == length),
            "{length} bytes"
        );
    }
}

#[test]
fn a_misplaced_record_is_refused() {
    let elsewhere = AT.advance(8);
    let refused = Record::parse(seed(), elsewhere, &GOLDEN).unwrap_err();
    assert_eq!(refused, RecordError::Misplaced { at: elsewhere, claims: AT });
}

#[test]
fn a_record_of_another_log_is_refused() {
    let stranger = LogId::from_bytes([0; 16]).seed();
    assert!(matches!(Record::parse(stranger, AT, &GOLDEN), Err(RecordError::HeaderCrc { .. })));
}

#[test]
fn zeros_are_no_record() {
    let zeros = [0; 64];
    assert!(matches!(
        Record::parse(LogId::from_bytes([0; 16]).seed(), PhysicalOffset::ZERO, &zeros),
        Err(RecordError::HeaderCrc { .. })
    ));
}

#[test]
fn a_head_longer_than_its_payload_is_refused() {
    let mut bytes = [0; 48];
    let header = RecordHeader::new(seed(), &RecordFields { payload_bytes: 3, ..fields() }, b"HEAD");
    bytes[..32].copy_from_slice(header.as_bytes());
    bytes[32..36].copy_from_slice(b"HEAD");
    let refused = Record::parse(seed(), AT, &bytes).unwrap_err();
    assert_eq!(refused, RecordError::Head { head_bytes: 4, payload_bytes: 3 });
}

#[test]
fn a_length_is_bounded_by_the_bytes_at_hand() {
    let header = RecordHeader::new(seed(), &RecordFields { payload_bytes: u32::MAX, ..fields() }, b"HEAD");
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(b"HEAD");
    assert!(matches!(Record::parse(seed(), AT, &bytes), Err(RecordError::Truncated { have: 36, .. })));
}

#[test]
fn records_take_multiples_of_eight() {
    assert_eq!([0, 1, 8, 9].map(record_bytes), [32, 40, 40, 48]);
    assert_eq!(record_bytes(u32::MAX), (1 << 32) + 32);
}
